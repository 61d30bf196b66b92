"""Stacks, and planes too large for memory, predicted by a network of two dimensions.

Stacks of TIFF, NIfTI and OME-Zarr go plane by plane, each as an image of its own; large planes go
by blocks, with the same result as an image that is predicted as a whole. What is done is kept in a
BlockStore until the file is written.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ssl_jax.data import dataset_stats
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.data.masks.image_kind import FileNotes
from ssl_jax.errors import UserError
from ssl_jax.inference import averaging, instances
from ssl_jax.inference.blocks import block_store, joined_instances, joined_measurements
from ssl_jax.inference.blocks.block_store import CLASSES, OBJECTS, Block, BlockStore, Grid
from ssl_jax.inference.blocks.joined_instances import MARGIN
from ssl_jax.inference.blocks.regions import PlaneRegions, Region, TileStore
from ssl_jax.inference.images import predict_many
from ssl_jax.inference.writing import image_outputs, maps
from ssl_jax.inference.writing.outputs import PROBABILITIES, UNCERTAINTY, Wanted
from ssl_jax.io import images
from ssl_jax.io.folders.listing import PREDICTED, VOLUMES
from ssl_jax.io.stacks import nifti_planes, ome_zarr, tiff_planes
from ssl_jax.io.stacks.planes import Planes
from ssl_jax.types import PredictFn

SAMPLES = 3
"""Planes, rows and columns of the grid of small parts from which the range of a file is found."""

SAMPLE_SIDE = 128
"""Pixels; side of such a part."""


class BlockTask(NamedTuple):
  """How the blocks of a file are predicted."""

  stats: DatasetStats
  budget: int  # pixels that go through the network at once
  margin: int = MARGIN  # pixels around a block that are separated into objects with it
  wanted: Wanted = Wanted()

  def maps(self) -> dict[str, list[str]]:
    """Returns the kinds of the channels of each map that is wanted."""
    kinds = {}
    if self.wanted.probabilities:
      kinds[PROBABILITIES] = block_store.map_kinds(PROBABILITIES, len(self.stats.classes))
    if self.wanted.uncertainty:
      kinds[UNCERTAINTY] = block_store.map_kinds(UNCERTAINTY, 1 + self.wanted.spread)
    return kinds

  def store(self, folder: Path, image: Planes, side: int | None = None) -> BlockStore:
    """Returns the store of the blocks of a file; `side` is that of a block, if not as usual."""
    kinds = [CLASSES, *itertools.chain.from_iterable(self.maps().values())]
    more = joined_measurements.PIXELS
    if self.stats.instances is not None:
      kinds.append(OBJECTS)
      more = joined_instances.SUMS
    arrays = [*(f'{kind}_0' for kind in kinds), more]
    return BlockStore(folder, block_store.grid_of(image, side), arrays)

  def region(self, grid: Grid, block: Block) -> Region:
    """Returns the rows and columns that are predicted for a block."""
    return grid.region(block, 0 if self.stats.instances is None else self.margin)


def open_planes(path: Path, axes: str | None = None) -> Planes | None:
  """Opens a stack or a large image; None for what is read as a whole.

  Raises:
    UserError: if it is broken, or does not say what its axes are and `axes` does not either.
  """
  name = path.name.lower()
  if name.endswith(PREDICTED.folders):
    return ome_zarr.open_planes(path)
  if name.endswith(VOLUMES.endings):
    return nifti_planes.open_planes(path)
  if not tiff_planes.is_tiff(path):
    return None
  opened = tiff_planes.open_planes(path, axes)
  turned = opened.header.orientation in range(2, 9)
  if opened.count() > 1 and turned:
    raise UserError(
      f'{path} is a stack that is stored turned (orientation tag {opened.header.orientation}); '
      'save it upright.'
    )
  if opened.count() == 1 and (turned or not (opened.is_large() or opened.notes)):
    opened.close()
    return None
  return opened


def check(image: Planes, stats: DatasetStats, notes: FileNotes) -> None:
  """Adds conversions and doubts to the notes, from a bounded sample of the pixels.

  Raises:
    UserError: naming the file, if its pixels are of another kind than those of the training.
  """
  header = image.header
  side_y, side_x = min(SAMPLE_SIDE, header.height), min(SAMPLE_SIDE, header.width)
  parts = []
  for plane in np.unique(np.linspace(0, image.count() - 1, SAMPLES).astype(int)):
    for top in np.unique(np.linspace(0, header.height - side_y, SAMPLES).astype(int)):
      for left in np.unique(np.linspace(0, header.width - side_x, SAMPLES).astype(int)):
        rows, columns = slice(int(top), int(top) + side_y), slice(int(left), int(left) + side_x)
        parts.append(image.read(int(plane), rows, columns).reshape(-1, 1, header.channels))
  name = Path(image.name).name
  sample = np.concatenate(parts)
  for change in (*image.notes, *dataset_stats.check_image(sample, header, stats, image.name)):
    notes.add(change, name)
  # A network that knows other channels is found before anything is predicted.
  images.to_channels(sample, stats.channels, image.name)


def goes_by_tiles(image: Planes, grid: Grid) -> bool:
  """Returns whether planes are predicted in tiles, and not as images of a folder are."""
  return image.is_large() or grid.rows() * grid.columns() > 1


def predict_blocks(
  predict_fn: PredictFn, image: Planes, store: BlockStore, task: BlockTask
) -> None:
  """Predicts all blocks that are not done."""
  left = [block for block in store.grid.blocks() if not store.is_done(block)]
  bar = tqdm(
    left,
    total=len(store.grid.blocks()),
    initial=len(store.grid.blocks()) - len(left),
    unit=' blocks' if image.is_large() else ' planes',
    desc=Path(image.name).name,
    leave=False,
  )
  results = (
    large_blocks(predict_fn, image, store.grid, left, task, store.folder)
    if goes_by_tiles(image, store.grid)
    else whole_planes(predict_fn, image, store.grid, left, task)
  )
  for block, data in results:
    store.write(block, data)
    bar.update()
  bar.close()


def whole_planes(
  predict_fn: PredictFn, image: Planes, grid: Grid, blocks: list[Block], task: BlockTask
) -> Iterator[tuple[Block, bytes]]:
  """Yields planes that are small, predicted as images of a folder are."""
  native = image.header.height, image.header.width
  originals: dict[int, np.ndarray] = {}

  def prepared() -> Iterator[np.ndarray]:
    for number, block in enumerate(blocks):
      originals[number] = image.read_plane(block.plane)
      yield dataset_stats.preprocess_image(originals[number], task.stats, image.name)

  for number, probs in predict_many(predict_fn, prepared(), budget=task.budget):
    if probs.shape[:2] != native:
      probs = images.resize(probs, native, smooth=True)
    data = _block_data(probs, originals.pop(number), grid, blocks[number], task)
    yield blocks[number], data


def large_blocks(
  predict_fn: PredictFn,
  image: Planes,
  grid: Grid,
  blocks: list[Block],
  task: BlockTask,
  folder: Path | None,
) -> Iterator[tuple[Block, bytes]]:
  """Yields blocks of large planes; tiles that several need are kept in `folder`, if any."""
  for plane in sorted({block.plane for block in blocks}):
    tiles = TileStore(folder, plane)
    regions = PlaneRegions(predict_fn, image, plane, task.stats, task.budget, tiles)
    of_plane = [block for block in blocks if block.plane == plane]
    for block in of_plane:
      tiles.expect(regions.tiles(task.region(grid, block)))
    for block in of_plane:
      yield block, block_of_tiles(regions, image, grid, block, task)
    for path in folder.glob('tile_*.npy') if folder else ():
      path.unlink()


def block_of_tiles(
  regions: PlaneRegions, image: Planes, grid: Grid, block: Block, task: BlockTask
) -> bytes:
  """Returns what is stored of a block of a large plane."""
  probs = regions.probabilities(task.region(grid, block))
  original = image.read(block.plane, *grid.region(block))
  return _block_data(probs, original, grid, block, task)


def _block_data(
  probs: np.ndarray, original: np.ndarray, grid: Grid, block: Block, task: BlockTask
) -> bytes:
  """What is stored of a block, from the probabilities of it and its margin."""
  stats = task.stats
  probs, mean_entropy = averaging.split(probs, task.wanted.spread)
  core = grid.region(block)
  region = task.region(grid, block)
  inside = tuple(
    slice(a.start - b.start, a.stop - b.start) for a, b in zip(core, region, strict=True)
  )
  if grid.rows() * grid.columns() == 1:  # a whole plane
    mask, separated = image_outputs.decide_ids(probs, stats, task.wanted.cleaning)
  else:
    mask, separated = probs[inside].argmax(-1).astype(np.uint8), None
    if stats.instances is not None:
      # Of any size: a small part may belong to a large object of the next block.
      separated = instances.separate(probs, 1)
  layers = {CLASSES: mask, **_maps(probs, mean_entropy, inside, task)}
  if separated is None:
    more = joined_measurements.of_block(mask, original, len(stats.classes), grid)
    return block_store.to_bytes(layers, more)
  layers[OBJECTS] = separated[inside]
  more = joined_instances.margins(separated, region, grid, block)
  count = int(separated.max(initial=0))
  more[joined_instances.SUMS] = joined_instances.sums(layers[OBJECTS], original, core, count)
  return block_store.to_bytes(layers, more)


def _maps(
  probs: np.ndarray, mean_entropy: np.ndarray | None, inside: tuple[slice, ...], task: BlockTask
) -> dict[str, np.ndarray]:
  """The maps of a block that are wanted, by the kinds of their channels."""
  channels: dict[str, np.ndarray] = {}
  for name, kinds in task.maps().items():
    values = probs[inside]
    if name == UNCERTAINTY:
      own_entropy = None if mean_entropy is None else mean_entropy[inside]
      values, _ = maps.uncertainty(values, own_entropy)
    stored = maps.quantize(values, task.wanted.bits)
    channels |= dict(zip(kinds, np.moveaxis(stored, -1, 0), strict=True))
  return channels
