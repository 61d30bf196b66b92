"""Puts the blocks of a stack or a large image together: masks, instances, a table and overlays."""

import csv
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile

from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.inference import instances, joined_instances
from ssl_jax.inference.block_store import CLASSES, OBJECTS, STRIP, Block, BlockStore
from ssl_jax.inference.joined_instances import Joined
from ssl_jax.inference.prediction_folder import PredictionFolder, Source
from ssl_jax.io import atomic, images, nifti, ome_zarr, planes, tiff_stacks
from ssl_jax.io.planes import NIFTI, OME_ZARR, Planes

OVERVIEW = 2048
"""Pixels of the longer side of an overlay; that of a larger image is made smaller."""

CACHED_STRIPS = 8
"""Strips of blocks that are kept while tiles are cut from them."""


def output_templates(image: Planes, with_instances: bool) -> list[str]:
  """Returns the files that are written for an image, with {} for its name."""
  single = image.count() == 1 and not image.is_large()
  ending = planes.ENDINGS[image.form]
  as_picture = single and ending == '.tif'
  names = [
    'masks/{}' + ('.png' if as_picture else ending),
    'overlays/{}' + ('.png' if image.count() == 1 else '.tif'),
  ]
  if with_instances and image.form == OME_ZARR:  # among the labels of the mask
    return [*names, f'{instances.FOLDER}/{{}}.csv']
  if with_instances:
    return [*names, f'{instances.FOLDER}/{{}}{ending}', f'{instances.FOLDER}/{{}}.csv']
  return names


def write_all(
  image: Planes,
  store: BlockStore,
  stats: DatasetStats,
  out: PredictionFolder,
  files: Sequence[str],
  source: Source,
) -> None:
  """Writes all files of an image whose blocks are done, in the order of output_templates."""
  mask_file, overlay_file, *more = files
  classes = _Ids(store, CLASSES, lambda _, ids: ids, np.uint8, stats.classes)
  labels = {'classes': classes}
  joined = None
  if stats.instances is not None:
    joined = joined_instances.join(store, instances.native_min_size(stats))
    dtype = np.uint16 if len(joined.sums) < 2**16 else np.uint32
    labels['objects'] = _Ids(store, OBJECTS, joined.renumber, dtype, ())
  if image.form == OME_ZARR:
    with out.writing(mask_file, source) as path:
      _write_zarr(path, image, labels)
  else:
    for file, name in zip([mask_file, *more], labels, strict=False):
      with out.writing(file, source) as path:
        _write_ids(path, image, labels[name])
  if joined is not None:
    with out.writing(more[-1], source) as path:
      _write_table(path, image, joined)
  with out.writing(overlay_file, source) as path:
    _write_overlay(path, image, list(labels.values())[-1])


class _Ids(NamedTuple):
  """The class ids, or the ids of objects, of all blocks."""

  store: BlockStore
  kind: str
  renumber: Callable[[Block, np.ndarray], np.ndarray]
  dtype: type
  meaning: Sequence[str]

  def whole(self, plane: int) -> np.ndarray:
    """Returns the ids of a small plane, of any number of blocks."""
    grid = self.store.grid
    ids = np.zeros((grid.height, grid.width), self.dtype)
    for block in grid.blocks():
      if block.plane == plane:
        ids[grid.region(block)] = self.renumber(block, self.store.whole(block, self.kind))
    return ids

  def strips(self) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """Yields (plane, first row, first column, ids) of all strips of blocks."""
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


def _write_ids(path: Path, image: Planes, ids: _Ids) -> None:
  if path.suffix == '.png':
    images.write_mask(path, ids.whole(0))
  elif image.form == NIFTI:
    # [planes, rows, columns] -> the order of the file.
    volume = np.stack([ids.whole(plane) for plane in range(image.count())])
    nifti.write_stored(path, volume.transpose(2, 1, 0), image.metadata['like'], ids.dtype)
  else:
    tiff_stacks.write(path, image, ids.dtype, ids.meaning, ids.whole, ids.tiles)


def _write_zarr(path: Path, image: Planes, labels: dict[str, _Ids]) -> None:
  with atomic.replacing_folder(path) as temporary:
    writer = ome_zarr.LabelWriter(temporary, image, list(labels))
    for name, ids in labels.items():
      writer.write(name, ids.strips(), ids.dtype, ids.meaning, path)


def _write_table(path: Path, image: Planes, joined: Joined) -> None:
  """As instances.write_table, with the plane of each object."""
  channels = image.header.channels
  means = [f'mean_intensity_{c + 1}' for c in range(channels)]
  if channels == 1:
    means = ['mean_intensity']
  with atomic.replacing(path) as temporary, temporary.open('w', newline='') as file:
    table = csv.writer(file)
    table.writerow(['id', *image.axes.lower(), 'area', 'x', 'y', *means])
    # Row by row: a slide may hold millions.
    for number, (row, plane) in enumerate(zip(joined.sums, joined.plane, strict=True), start=1):
      area, rows, columns, *intensities = row.tolist()
      values = [area, columns / area, rows / area, *(total / area for total in intensities)]
      place = image.position(int(plane)).values()
      table.writerow([number, *place, *(f'{value:g}' for value in values)])


def _write_overlay(path: Path, image: Planes, ids: _Ids) -> None:
  """A picture, or a TIFF with a page for each plane."""
  with atomic.replacing(path) as temporary:
    if image.count() == 1:
      images.write_image(temporary, _overlay(image, 0, ids))
      return
    big = image.count() * OVERVIEW**2 * 3 > tiff_stacks.CLASSIC_BYTES
    with tifffile.TiffWriter(temporary, bigtiff=big) as tif:
      for plane in range(image.count()):
        picture = _overlay(image, plane, ids)
        tif.write(picture, photometric='rgb', compression='zlib', metadata=None)


def _overlay(image: Planes, plane: int, ids: _Ids) -> np.ndarray:
  """The mask over the plane [h, w, 3], made smaller where it is large."""
  grid = ids.store.grid
  step = -(-max(grid.height, grid.width) // OVERVIEW)
  if not image.is_large():
    pixels, mask = image.read_plane(plane), ids.whole(plane)
    if step > 1:
      mask = mask[::step, ::step]
      pixels = images.resize(pixels.astype(np.float32), mask.shape, smooth=True)
      pixels = pixels.astype(image.header.dtype)
  else:
    pixels, mask = _reduced(image, plane, ids, step)
  return images.overlay(pixels, instances.as_colours(mask) if ids.kind == OBJECTS else mask)


def _reduced(image: Planes, plane: int, ids: _Ids, step: int) -> tuple[np.ndarray, np.ndarray]:
  """Means of squares of `step` pixels, and the ids at their first ones."""
  grid = ids.store.grid
  size = -(-grid.height // step), -(-grid.width // step)
  totals = np.zeros((*size, image.header.channels), np.float32)
  for block in grid.blocks():
    if block.plane == plane:
      rows, columns = grid.region(block)
      pixels = image.read(plane, rows, columns).astype(np.float32)
      # Squares may be cut by the border of a block; each block adds its part.
      for axis, part in ((0, rows), (1, columns)):
        cuts = np.arange(-(-part.start // step) * step, part.stop, step) - part.start
        cuts = cuts if len(cuts) and cuts[0] == 0 else np.concatenate([[0], cuts])
        pixels = np.add.reduceat(pixels, cuts.astype(int), axis)
      first = rows.start // step, columns.start // step
      place = tuple(
        slice(start, start + n) for start, n in zip(first, pixels.shape[:2], strict=True)
      )
      totals[place] += pixels
  counts = [np.minimum(step, length - np.arange(0, length, step)) for length in grid[1:3]]
  means = totals / (counts[0][:, None, None] * counts[1][None, :, None])
  tiles = ids.tiles(plane, step)
  across = -(-size[1] // tiff_stacks.TILE)
  mask = np.zeros(size, ids.dtype)
  for number, tile in enumerate(tiles):
    top, left = (place * tiff_stacks.TILE for place in divmod(number, across))
    part = mask[top : top + tiff_stacks.TILE, left : left + tiff_stacks.TILE]
    part[:] = tile[: part.shape[0], : part.shape[1]]
  if image.header.dtype == np.uint8:
    means = (means + 0.5).astype(np.uint8)
  return means, mask
