"""Files that are there whole or not at all, whatever kills who writes them."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[Path]:
  """Gives a path to write to, in the same folder and of the same ending, that becomes `path`.

  A kill leaves the old file or the new; others may write the same file just now.
  """
  path = Path(path)
  part = path.with_name(f'.{uuid.uuid4().hex[:12]}.{path.name}')
  try:
    yield part
    os.replace(part, path)
  finally:
    part.unlink(missing_ok=True)
