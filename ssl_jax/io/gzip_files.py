"""Whether a gzipped file is whole."""

import gzip
from pathlib import Path

CHUNK = 1 << 20
"""Bytes that are read at a time."""


def check(path: str | Path) -> None:
  """Reads a gzipped file to its end, where its checksum is; other files are not looked at.

  Readers of volumes stop at the last voxel. They would take damaged voxels for right ones.

  Raises:
    OSError, EOFError or zlib.error: if the bytes are damaged or the end is missing.
  """
  path = Path(path)
  with path.open('rb') as file:
    # The content decides, not the ending of the name.
    if file.read(2) != b'\x1f\x8b':
      return
  with gzip.open(path) as file:
    while file.read(CHUNK):
      pass
