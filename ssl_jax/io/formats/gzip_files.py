"""Whether a gzipped file is whole, and called as one."""

import gzip
from pathlib import Path

CHUNK = 1 << 20
"""Bytes that are read at a time."""

MAGIC = b'\x1f\x8b'


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


def other_name(path: Path) -> str:
  """Returns what is wrong with the ending of a file's name, .gz or none; '' if it fits."""
  try:
    with path.open('rb') as file:
      is_packed = file.read(2) == MAGIC
  except OSError:
    return ''
  named_packed = path.name.lower().endswith('.gz')
  if is_packed == named_packed:
    return ''
  if is_packed:
    return f'its content is gzipped; call it {path.name}.gz'
  return f'its content is not gzipped; call it {path.name[:-3]} if it is whole'
