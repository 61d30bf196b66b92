"""Writes of files that a kill cannot leave half done."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Generator
from pathlib import Path

LONGEST_ENDING = 16
"""Characters; what follows the last dot of a longer name is no ending."""


@contextlib.contextmanager
def replacing(path: str | Path) -> Generator[Path, None, None]:
  """Yields a temporary path to write to, which replaces `path` when the block ends without error.

  A kill leaves the old file or the new one, never a part of either. Several processes may write
  the same file at once: the last one to finish wins.
  """
  path = Path(path)
  # In the same folder, because a rename is atomic only within one file system; and with the same
  # ending, because some writers choose the format by it. Not with the name: a file may be called as
  # long as the file system allows, and then there is no room for more.
  temporary = path.with_name(f'.{uuid.uuid4().hex[:12]}{_ending(path.name)}')
  try:
    yield temporary
    os.replace(temporary, path)
  except OSError as error:
    # Errors of writing, such as that of a full disk, come without the name of the file.
    error.filename = str(path)
    raise
  finally:
    # Does nothing after the rename; after an error it removes what was written so far.
    temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Generator[Path, None, None]:
  """As `replacing`, for a folder; the old one is removed just before the new one is there."""
  temporary = path.with_name(f'.{uuid.uuid4().hex[:12]}{_ending(path.name)}')
  try:
    yield temporary
    # A folder cannot be replaced in one step where there is one already.
    if path.is_dir():
      shutil.rmtree(path)
    os.replace(temporary, path)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def _ending(name: str) -> str:
  """The ending of a file's name, of NAME.nii.gz both parts; empty where there is none."""
  lowered = name.lower()
  ending = name[-7:] if lowered.endswith('.nii.gz') else Path(name).suffix
  return ending if len(ending) <= LONGEST_ENDING else ''
