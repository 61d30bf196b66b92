"""Measurements of the classes of a plane that is predicted by blocks.

Pixels and intensities of blocks are added. A component that runs through several blocks is one:
each block keeps the numbers of its components along its edges, and those that meet are joined.
"""

import numpy as np
from jaxtyping import Integer, Num
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage import measure

from ssl_jax.inference.blocks.block_store import Block, BlockStore, Grid
from ssl_jax.inference.writing import measurements
from ssl_jax.inference.writing.measurements import Measured
from ssl_jax.types import BACKGROUND

MEASURED = PIXELS, INTENSITIES, COMPONENTS = 'class_pixels', 'class_intensities', 'class_components'
"""Arrays of a block, as measurements.Measured has them."""

EDGES = {
  'edge_top': np.s_[0, :],
  'edge_bottom': np.s_[-1, :],
  'edge_left': np.s_[:, 0],
  'edge_right': np.s_[:, -1],
}
"""Arrays [2, n] of a block: component (from 1) and class id of each pixel of an edge."""

SHARED = (('edge_right', 'edge_left', (0, 1)), ('edge_bottom', 'edge_top', (1, 0)))
"""Edges at which a block and a later one meet, and how many rows and columns that one lies away."""


def of_block(
  mask: Integer[np.ndarray, 'h w'], image: Num[np.ndarray, 'h w c'], count: int, grid: Grid
) -> dict[str, np.ndarray]:
  """Returns what is stored of a block, without its margin.

  Args:
    mask: class ids.
    image: raw intensities.
    count: of classes.
    grid: of the blocks.
  """
  measured = measurements.measure(mask, image, count)
  arrays = {
    PIXELS: measured.pixels,
    INTENSITIES: measured.intensities,
    COMPONENTS: measured.components,
  }
  if grid.rows() * grid.columns() == 1:
    return arrays
  components = measure.label(mask, background=BACKGROUND, connectivity=1)
  for name, edge in EDGES.items():
    arrays[name] = np.stack([components[edge], mask[edge]]).astype(np.int32)
  return arrays


def join(store: BlockStore, plane: int) -> Measured:
  """Returns the measurements of a plane whose blocks are done."""
  blocks = [block for block in store.grid.blocks() if block.plane == plane]
  parts = {}
  for block in blocks:
    parts[block] = Measured(*(store.read(block, name) for name in MEASURED))
  pixels, intensities, components = (
    np.sum(values, 0) for values in zip(*parts.values(), strict=True)
  )
  if len(blocks) == 1:
    return Measured(pixels, intensities, components)
  # Numbers of components are counted over all blocks.
  first = {}
  total = 0
  for block, part in parts.items():
    first[block] = total
    total += int(part.components.sum())
  return Measured(pixels, intensities, components - _merged(store, first, len(components)))


def _merged(store: BlockStore, first: dict[Block, int], count: int) -> np.ndarray:
  """How many components of each class go away where those of neighboring blocks are joined."""
  ones, twos, classes = [], [], []
  for block in first:
    for name, other_name, (down, across) in SHARED:
      other = block._replace(row=block.row + down, column=block.column + across)
      if other not in first:
        continue
      own, its = store.read(block, name), store.read(other, other_name)
      meet = (own[1] == its[1]) & (own[1] != BACKGROUND)
      # Components begin at 1, places at 0.
      ones.append(own[0, meet].astype(np.int64) - 1 + first[block])
      twos.append(its[0, meet].astype(np.int64) - 1 + first[other])
      classes.append(own[1, meet])
  one, two = np.concatenate(ones), np.concatenate(twos)
  if not len(one):
    return np.zeros(count, int)
  numbers, places = np.unique(np.concatenate([one, two]), return_inverse=True)
  class_of = np.zeros(len(numbers), int)
  class_of[places] = np.tile(np.concatenate(classes), 2)
  pairs = places.reshape(2, -1)
  graph = coo_array((np.ones(len(one), bool), tuple(pairs)), shape=(len(numbers), len(numbers)))
  joined, of_number = connected_components(graph, directed=False)
  class_of_joined = np.zeros(joined, int)
  class_of_joined[of_number] = class_of
  before = np.bincount(class_of, minlength=count)
  return before - np.bincount(class_of_joined, minlength=count)
