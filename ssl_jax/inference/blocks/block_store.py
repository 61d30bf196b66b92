"""What is done of a file that is predicted by blocks, on disk, where a killed call goes on.

A block is a square of a large plane, or a whole small one. Its file has the class ids in strips of
STRIP rows, so that masks are put together without reading blocks again and again, and each wanted
map in the same way. Where objects are predicted it also has their ids, which count from 1 in each
block, and what joining them needs; else what was measured of the classes.
"""

import io
import itertools
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssl_jax.inference.blocks.regions import Region
from ssl_jax.io import atomic
from ssl_jax.io.stacks.planes import Planes

SIDE = 2048
"""Rows and columns of a block of a large plane."""

STRIP = 512
"""Rows that are stored together; those of a tile of the TIFF that is written."""

CLASSES, OBJECTS = 'classes', 'objects'


def map_kinds(name: str, channels: int) -> list[str]:
  """Returns the kinds as which the channels of a map are stored."""
  return [f'{name}_of_channel_{channel}' for channel in range(channels)]


class Block(NamedTuple):
  """A part of a plane."""

  plane: int
  row: int
  column: int


class Grid(NamedTuple):
  """The blocks of a file."""

  planes: int
  height: int
  width: int
  side: int

  def rows(self) -> int:
    """Returns the number of blocks from top to bottom."""
    return -(-self.height // self.side)

  def columns(self) -> int:
    """Returns the number of blocks from left to right."""
    return -(-self.width // self.side)

  def blocks(self) -> list[Block]:
    """Returns all blocks, plane by plane, row by row."""
    ranges = range(self.planes), range(self.rows()), range(self.columns())
    return [Block(*place) for place in itertools.product(*ranges)]

  def region(self, block: Block, margin: int = 0) -> Region:
    """Returns the rows and columns of a block, with a margin as far as the plane goes."""
    top, left = block.row * self.side, block.column * self.side
    bottom, right = min(top + self.side, self.height), min(left + self.side, self.width)
    return (
      slice(max(top - margin, 0), min(bottom + margin, self.height)),
      slice(max(left - margin, 0), min(right + margin, self.width)),
    )


def grid_of(image: Planes, side: int | None = None) -> Grid:
  """Returns the blocks of a file: squares of large planes, and small planes as they are."""
  height, width = image.header.height, image.header.width
  side = side or (SIDE if image.is_large() else max(height, width))
  return Grid(image.count(), height, width, side)


class BlockStore:
  """The files of the blocks that are done.

  Args:
    folder: of the files.
    grid: of the blocks.
    arrays: that a block has; one that lacks any, of a call that wanted less, is not done.
  """

  def __init__(self, folder: Path, grid: Grid, arrays: Sequence[str] = ()):
    self.folder = folder
    self.grid = grid
    self._arrays = {f'{name}.npy' for name in arrays}
    folder.mkdir(parents=True, exist_ok=True)

  def _path(self, block: Block) -> Path:
    return self.folder / f'{block.plane}_{block.row}_{block.column}.npz'

  def is_done(self, block: Block) -> bool:
    """Returns whether a block is stored with all that is needed of it."""
    if not self._path(block).exists():
      return False
    with zipfile.ZipFile(self._path(block)) as archive:
      return self._arrays <= set(archive.namelist())

  def write(self, block: Block, data: bytes) -> None:
    """Stores what `to_bytes` made of a block."""
    with atomic.replacing(self._path(block)) as temporary:
      temporary.write_bytes(data)

  def read(self, block: Block, name: str) -> np.ndarray:
    """Returns one array of a block."""
    with np.load(self._path(block)) as arrays:
      return arrays[name]

  def strips(self, block: Block, kind: str) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (first row, values [h, w]) of a block from top to bottom."""
    rows, _ = self.grid.region(block)
    with np.load(self._path(block)) as arrays:
      for number, top in enumerate(range(rows.start, rows.stop, STRIP)):
        yield top, arrays[f'{kind}_{number}']

  def whole(self, block: Block, kind: str) -> np.ndarray:
    """Returns the values of a block."""
    return np.concatenate([strip for _, strip in self.strips(block, kind)])

  def strip(self, plane: int, top: int, column: int, kind: str) -> tuple[Block, np.ndarray]:
    """Returns the block and its strip that begins at a row of the plane."""
    block = Block(plane, top // self.grid.side, column)
    number = (top - block.row * self.grid.side) // STRIP
    return block, self.read(block, f'{kind}_{number}')


def to_bytes(ids: Mapping[str, np.ndarray], more: Mapping[str, np.ndarray]) -> bytes:
  """Returns a block as it is stored.

  Args:
    ids: of CLASSES, perhaps of OBJECTS, and of maps: [h, w] each, stored in strips.
    more: arrays that are stored as they are.
  """
  arrays = dict(more)
  for kind, whole in ids.items():
    for number, top in enumerate(range(0, len(whole), STRIP)):
      arrays[f'{kind}_{number}'] = whole[top : top + STRIP]
  buffer = io.BytesIO()
  # As numpy.savez_compressed does, at the fastest level: ids compress well at any.
  with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
    for name, array in arrays.items():
      with archive.open(f'{name}.npy', 'w') as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array))
  return buffer.getvalue()
