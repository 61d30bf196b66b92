"""Looks at a worker of Dask, to which it is sent as text: the worker may lack ssl_jax."""

import hashlib
import importlib.metadata
import importlib.util
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any


def look(folders: Sequence[str], files: Mapping[str, str], writable: str) -> dict[str, Any]:
  """Returns versions, or what is wrong under 'lacks', 'unseen' or 'read_only'.

  Args:
    folders: that must be there.
    files: with what they must hold.
    writable: folder that must take a file; '' for none.
  """
  spec = importlib.util.find_spec('ssl_jax')
  if spec is None or spec.origin is None:
    return {'lacks': 'ssl_jax'}
  package = pathlib.Path(spec.origin).parent
  code = hashlib.sha256()
  for path in sorted(package.rglob('*.py')):
    code.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
  found: dict[str, Any] = {'ssl_jax': code.hexdigest()}
  for name in ('jax', 'jaxlib', 'numpy'):
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      return {'lacks': name}
  for folder in folders:
    if not os.path.isdir(folder):
      return {**found, 'unseen': folder}
  for file, text in files.items():
    try:
      held = pathlib.Path(file).read_text()
    except OSError:
      held = None
    if held != text:
      return {**found, 'unseen': os.path.dirname(file)}
  if writable and not os.access(writable, os.W_OK):
    return {**found, 'read_only': writable}
  return found
