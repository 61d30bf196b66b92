"""Layers of a file that is predicted by blocks, put together from these: whole, strips or tiles."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ssl_jax.inference.blocks.block_store import STRIP, Block, BlockStore
from ssl_jax.io.stacks import tiff_stacks

CACHED_STRIPS = 8
"""Strips of blocks that are kept while tiles are cut from them."""


def as_stored(block: Block, values: np.ndarray) -> np.ndarray:
  """Returns the values of a block as they are."""
  del block
  return values


class Layer(NamedTuple):
  """Class ids, ids of objects, or a map, of all blocks of a file."""

  store: BlockStore
  kind: str  # as which the blocks have it
  dtype: type
  renumber: Callable[[Block, np.ndarray], np.ndarray] = as_stored
  meaning: Sequence[str] = ()  # of ids 0, 1, ... of classes

  def whole(self, plane: int) -> np.ndarray:
    """Returns the values of a small plane, of any number of blocks."""
    grid = self.store.grid
    ids = np.zeros((grid.height, grid.width), self.dtype)
    for block in grid.blocks():
      if block.plane == plane:
        ids[grid.region(block)] = self.renumber(block, self.store.whole(block, self.kind))
    return ids

  def strips(self) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """Yields (plane, first row, first column, values) of all strips of blocks."""
    for block in self.store.grid.blocks():
      _, columns = self.store.grid.region(block)
      for top, strip in self.store.strips(block, self.kind):
        yield block.plane, top, columns.start, self.renumber(block, strip)

  def tiles(self, plane: int, step: int) -> Iterator[np.ndarray]:
    """Yields tiles [TILE, TILE] of every step-th row and column of a plane, row by row."""

    @lru_cache(CACHED_STRIPS)
    def strip(top: int, column: int) -> np.ndarray:
      block, ids = self.store.strip(plane, top, column, self.kind)
      return self.renumber(block, ids)

    grid = self.store.grid
    side = tiff_stacks.TILE * step
    for top in range(0, grid.height, side):
      for left in range(0, grid.width, side):
        # Tiles at the border are filled up.
        tile = np.zeros((tiff_stacks.TILE, tiff_stacks.TILE), self.dtype)
        for row in range(top, min(top + side, grid.height), STRIP):
          for column in range(left // grid.side, -(-min(left + side, grid.width) // grid.side)):
            _copy_every(tile, strip(row, column), (row, column * grid.side), (top, left), step)
        yield tile


def _copy_every(
  tile: np.ndarray, strip: np.ndarray, at: tuple[int, int], start: tuple[int, int], step: int
) -> None:
  """Copies every step-th row and column of a strip to where it lies in a tile.

  Args:
    tile: to copy to.
    strip: ids [h, w].
    at: first row and column of the strip in the plane.
    start: first row and column of the tile in the plane, multiples of step.
    step: every how many rows and columns.
  """
  sources = []
  targets = []
  for axis in (0, 1):
    # The first multiple of step that lies in both.
    first = -(-max(at[axis], start[axis]) // step) * step
    last = min(at[axis] + strip.shape[axis], start[axis] + tile.shape[axis] * step)
    count = max(-(-(last - first) // step), 0)
    begin = (first - start[axis]) // step
    sources.append(slice(first - at[axis], max(last - at[axis], 0), step))
    targets.append(slice(begin, begin + count))
  if all(target.stop > target.start for target in targets):
    tile[tuple(targets)] = strip[tuple(sources)]
