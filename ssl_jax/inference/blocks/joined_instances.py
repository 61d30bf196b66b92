"""Instances of a plane that is predicted by blocks: those of neighboring blocks are joined.

Each block is separated into instances together with a margin around it, so that an object at its
border is seen as a whole. Where the margin of one block lies on the next, both have numbered the
same pixels; two numbers whose pixels there agree (IoU above 0.5) are one object. An object that is
no wider than the margin gets exactly the pixels that it gets from the whole plane.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Num
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ssl_jax.inference.blocks.block_store import OBJECTS, Block, BlockStore, Grid
from ssl_jax.inference.blocks.regions import Region

MARGIN = 256
"""Pixels around a block that are separated with it; objects up to this size are exact."""

NEIGHBORS = {'right': (0, 1), 'below_left': (1, -1), 'below': (1, 0), 'below_right': (1, 1)}
"""Blocks that come after a block and touch it, by how many rows and columns they lie from it."""

SAME = 0.5
"""IoU above which two numbers mean one object; at most one pair of each number can have it."""

SUMS = 'sums'
"""Array of a block: for each of its numbers the sums that the table is made of."""


def margins(
  ids: Int32[np.ndarray, 'h w'], region: Region, grid: Grid, block: Block
) -> dict[str, np.ndarray]:
  """Returns the ids of a block's margin where it lies on each later neighbor.

  Args:
    ids: of the block with its margin.
    region: the rows and columns of `ids`.
    grid: of the blocks.
    block: which one it is.
  """
  parts = {}
  for name, (down, across) in NEIGHBORS.items():
    neighbor = Block(block.plane, block.row + down, block.column + across)
    if neighbor.row < grid.rows() and 0 <= neighbor.column < grid.columns():
      rows, columns = _common(region, grid.region(neighbor))
      parts[name] = ids[_from(rows, region[0]), _from(columns, region[1])]
  return parts


def sums(
  ids: Int32[np.ndarray, 'h w'], image: Num[np.ndarray, 'h w c'], region: Region, count: int
) -> np.ndarray:
  """Returns [count, 3 + C]: pixels of each id, sums of their rows, columns and intensities."""
  flat = ids.ravel()
  rows, columns = np.nonzero(ids)
  numbers = ids[rows, columns]
  parts = [np.bincount(flat, minlength=count + 1).astype(float)]
  parts[0][0] = 0
  parts.append(np.bincount(numbers, rows + region[0].start, count + 1))
  parts.append(np.bincount(numbers, columns + region[1].start, count + 1))
  for channel in range(image.shape[-1]):
    parts.append(np.bincount(numbers, image[rows, columns, channel].astype(float), count + 1))
  # Without the background.
  return np.stack(parts, -1)[1:]


class Joined(NamedTuple):
  """The instances of a file."""

  first: Mapping[Block, int]  # where the numbers of a block begin in `ids`
  ids: Int32[np.ndarray, ' n']  # number of a block -> id in the file; 0 where it was too small
  sums: np.ndarray  # [objects, 3 + C] as `sums` has them
  plane: np.ndarray  # [objects]: the plane that an object lies in

  def renumber(self, block: Block, ids: Int32[np.ndarray, 'h w']) -> Int32[np.ndarray, 'h w']:
    """Returns the ids in the file of the ids in a block."""
    # 0 stays the background.
    table = self.ids[self.first[block] : self.first[block] + int(ids.max(initial=0))]
    return np.concatenate([np.zeros(1, np.int32), table])[ids]


def join(store: BlockStore, min_size: float | int) -> Joined:
  """Joins the instances of all blocks; those of fewer pixels than `min_size` are dropped."""
  first: dict[Block, int] = {}
  all_sums = []
  planes = []
  total = 0
  for block in store.grid.blocks():
    first[block] = total
    all_sums.append(store.read(block, SUMS))
    planes.append(np.full(len(all_sums[-1]), block.plane, np.int32))
    total += len(all_sums[-1])
  pairs = list(_pairs(store, first))
  ones, twos = np.concatenate(pairs).T if pairs else np.zeros((2, 0), int)
  graph = coo_array((np.ones(len(ones), bool), (ones, twos)), shape=(total, total))
  if not total:
    columns = all_sums[0].shape[1]
    return Joined(first, np.zeros(0, np.int32), np.zeros((0, columns)), np.zeros(0, np.int32))
  # Components are numbered in the order of their first member, so from top to bottom.
  count, component = connected_components(graph, directed=False)
  merged = np.zeros((count, all_sums[0].shape[1]))
  np.add.at(merged, component, np.concatenate(all_sums))
  of_plane = np.zeros(count, np.int32)
  of_plane[component] = np.concatenate(planes)
  # What lies in margins alone belongs to an object of the neighbor, or to none.
  kept = merged[:, 0] >= max(min_size, 1)
  ids = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
  return Joined(first, ids[component], merged[kept], of_plane[kept])


def _pairs(store: BlockStore, first: Mapping[Block, int]) -> Iterator[np.ndarray]:
  """Yields pairs [n, 2] of numbers that mean one object, counted over all blocks."""
  for block in store.grid.blocks():
    region = store.grid.region(block)
    for name, (down, across) in NEIGHBORS.items():
      neighbor = Block(block.plane, block.row + down, block.column + across)
      if neighbor not in first:
        continue
      margin = store.read(block, name)
      other_region = store.grid.region(neighbor)
      there = _touching(store.whole(neighbor, OBJECTS), margin.shape, region, other_region)
      same = _same(margin, there)
      # Ids begin at 1, places at 0.
      yield same - 1 + np.array([first[block], first[neighbor]])


def _touching(ids: np.ndarray, shape: tuple[int, ...], region: Region, other: Region) -> np.ndarray:
  """The part of a later neighbor that the margin of a block lies on."""
  height, width = shape
  # Neighbors below begin where the margin begins; one to the left ends where it ends.
  left = other[1].stop - other[1].start - width if other[1].start < region[1].start else 0
  return ids[:height, left : left + width]


def _same(one: np.ndarray, two: np.ndarray) -> np.ndarray:
  """Pairs [n, 2] of ids whose pixels agree."""
  both = (one > 0) & (two > 0)
  if not both.any():
    return np.zeros((0, 2), int)
  width = int(two.max()) + 1
  keys, shared = np.unique(one[both].astype(np.int64) * width + two[both], return_counts=True)
  a, b = keys // width, keys % width
  union = np.bincount(one.ravel())[a] + np.bincount(two.ravel())[b] - shared
  agree = shared > SAME * union
  return np.stack([a[agree], b[agree]], -1)


def _common(one: Region, two: Region) -> Region:
  """The rows and columns that two regions share."""
  rows, columns = (
    slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, two, strict=True)
  )
  return rows, columns


def _from(part: slice, whole: slice) -> slice:
  return slice(part.start - whole.start, part.stop - whole.start)
