"""Whether a gzipped file is whole, and called as one."""

import gzip
from pathlib import Path

from ssl_jax.errors import UserError

CHUNK = 1 << 20
"""Bytes that are read at a time."""

MAGIC = b'\x1f\x8b'

SIZES = (348, 540)
"""Bytes of the headers of NIfTI-1 and NIfTI-2, with which these files begin."""


def check(path: str | Path) -> None:
  """Reads a gzipped file to its end, where its checksum is; other files are not looked at.

  Readers of volumes stop at the last voxel. They would take damaged voxels for right ones.

  Raises:
    OSError, EOFError or zlib.error: if the bytes are damaged or the end is missing.
  """
  path = Path(path)
  with path.open('rb') as file:
    # The content decides, not the ending of the name.
    if file.read(2) != MAGIC:
      return
  with gzip.open(path) as file:
    while file.read(CHUNK):
      pass


def unreadable(path: str | Path, error: Exception) -> UserError:
  """Returns what to tell of a NIfTI file that a reader stumbled over: why, and what to do."""
  if renamed := _other_name(Path(path)):
    return UserError(f'{path} cannot be read as NIfTI: {renamed}.')
  reason = ' '.join(str(error).split())[:120] or type(error).__name__
  return UserError(f'{path} cannot be read as NIfTI ({reason}); get the file again.')


def _other_name(path: Path) -> str:
  """What is wrong with the ending of a file's name, .gz or none; '' if it fits."""
  try:
    with path.open('rb') as file:
      first = file.read(4)
  except OSError:
    return ''
  is_packed = first[:2] == MAGIC
  named_packed = path.name.lower().endswith('.gz')
  if is_packed == named_packed:
    return ''
  if is_packed:
    return f'its content is gzipped; call it {path.name}.gz'
  # An empty file, or the page of a server that refused a download, is no volume by any name.
  if not any(first == size.to_bytes(4, order) for size in SIZES for order in ('little', 'big')):
    return ''
  return f'its content is not gzipped; call it {path.name[:-3]} if it is whole'
