"""Puts the blocks of a stack or a large image together: all files that predict writes for it."""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tifffile

from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.inference import instances
from ssl_jax.inference.blocks import joined_instances, joined_measurements
from ssl_jax.inference.blocks.block_layers import Layer
from ssl_jax.inference.blocks.block_store import CLASSES, OBJECTS, BlockStore
from ssl_jax.inference.blocks.joined_instances import Joined
from ssl_jax.inference.blocks.stacks import BlockTask
from ssl_jax.inference.writing import maps, measurements, outline_files, outputs
from ssl_jax.inference.writing.outline_files import Place, Shape
from ssl_jax.inference.writing.outputs import Endings, Wanted
from ssl_jax.inference.writing.prediction_folder import PredictionFolder, Source
from ssl_jax.io import atomic, images, nifti
from ssl_jax.io.formats.stored_image import CHANNELS
from ssl_jax.io.stacks import ome_zarr, plane_sizes, planes, tiff_stacks
from ssl_jax.io.stacks.plane_sizes import pixel_of
from ssl_jax.io.stacks.planes import NIFTI, OME_ZARR, Planes

OVERVIEW = 2048
"""Pixels of the longer side of an overlay; that of a larger image is made smaller."""


def templates(image: Planes, wanted: Wanted, stats: DatasetStats) -> dict[str, str]:
  """Returns the files of an image by their kind, with {} for its name, in the order of writing."""
  ending = planes.ENDINGS[image.form]
  is_picture = image.count() == 1 and not image.is_large() and ending == '.tif'
  endings = Endings(
    '.png' if is_picture else ending,
    '' if image.form == OME_ZARR else ending,  # among the labels of the mask
    ending if image.form == NIFTI else '.ome.tif',
    '.png' if image.count() == 1 else '.tif',
  )
  return outputs.templates(wanted, stats, endings)


class _Assembly:
  """An image whose blocks are done, and the layers of these."""

  def __init__(self, image: Planes, store: BlockStore, task: BlockTask):
    self.image = image
    self.store = store
    self.task = task
    self.sizes = plane_sizes.read_sizes(image)
    self.layers = {CLASSES: Layer(store, CLASSES, np.uint8, meaning=task.stats.classes)}
    self.joined: Joined | None = None
    if task.stats.instances is not None:
      self.joined = joined_instances.join(store, instances.native_min_size(task.stats))
      dtype = np.uint16 if len(self.joined.sums) < 2**16 else np.uint32
      self.layers[OBJECTS] = Layer(store, OBJECTS, dtype, self.joined.renumber)

  def shown(self) -> Layer:
    """What overlays and outlines show: objects where there are any."""
    return list(self.layers.values())[-1]

  def pixel_area(self) -> float | None:
    """In square micrometers; None where the file names no pixel size."""
    pixel = pixel_of(self.sizes)
    return None if pixel is None else pixel.area

  def shapes(self) -> Iterator[Shape]:
    """Yields the outlines of all planes; those of one plane are in memory."""
    image, classes = self.image, self.task.stats.classes
    # Rows and columns of colors are no further axis to ImageJ, channels are.
    lengths = [n for n in image.shape if n > 1]
    is_hyperstack = len(lengths) + (image.header.layout == CHANNELS) > 1
    counts: Counter[int] = Counter()
    for plane in range(image.count()):
      place = None
      if image.count() > 1:
        place = Place(plane, image.position(plane), is_hyperstack)
      mask = self.layers[CLASSES].whole(plane)
      ids = self.layers[OBJECTS].whole(plane) if OBJECTS in self.layers else None
      yield from outline_files.shapes_of(mask, ids, classes, place, counts)


def write_all(
  image: Planes,
  store: BlockStore,
  task: BlockTask,
  out: PredictionFolder,
  files: Sequence[str],
  source: Source,
) -> None:
  """Writes all files of an image whose blocks are done, which are in the order of `templates`."""
  assembly = _Assembly(image, store, task)
  kinds = templates(image, task.wanted, task.stats)
  for kind, file in zip(kinds, files, strict=True):
    with out.writing(file, source) as path:
      _write(kind, path, assembly)


def _write(kind: str, path: Path, assembly: _Assembly) -> None:
  """Writes one file."""
  image, layers = assembly.image, assembly.layers
  if kind == outputs.MASK and image.form == OME_ZARR:
    _write_zarr(path, image, layers)
  elif kind == outputs.MASK:
    _write_ids(path, image, layers[CLASSES])
  elif kind == outputs.INSTANCES:
    _write_ids(path, image, layers[OBJECTS])
  elif kind == outputs.OBJECTS and assembly.joined is not None:
    _write_table(path, image, assembly.joined, assembly.pixel_area())
  elif kind == outputs.MEASUREMENTS:
    _write_measurements(path, assembly)
  elif kind in (outputs.PROBABILITIES, outputs.UNCERTAINTY):
    _write_maps(kind, path, assembly)
  elif kind == outputs.GEOJSON:
    outline_files.write_geojson(path, assembly.shapes())
  elif kind == outputs.ROIS:
    size = image.header.height, image.header.width
    outline_files.write_rois(path, assembly.shapes(), size)
  elif kind == outputs.OVERLAY:
    _write_overlay(path, image, assembly.shown())


def _write_measurements(path: Path, assembly: _Assembly) -> None:
  """A row for each class of each plane."""
  image, classes = assembly.image, assembly.task.stats.classes
  shape = image.header.height, image.header.width
  area = assembly.pixel_area()
  rows = []
  for plane in range(image.count()):
    measured = joined_measurements.join(assembly.store, plane)
    place = image.position(plane)
    rows += measurements.rows_of(path.stem, place, measured, shape, classes, area)
  measurements.write_rows(path, rows)


def _write_maps(kind: str, path: Path, assembly: _Assembly) -> None:
  """Maps of probabilities or of uncertainty, with a channel for each class or measure."""
  image, task = assembly.image, assembly.task
  names = list(task.stats.classes)
  if kind == outputs.UNCERTAINTY:
    names = list(maps.UNCERTAINTIES[: 1 + task.wanted.spread])
  dtype = maps.KINDS[task.wanted.bits]
  layers = [Layer(assembly.store, stored, dtype) for stored in task.maps()[kind]]
  if image.form == NIFTI:
    values = np.zeros((image.header.width, image.header.height, image.count(), len(layers)), dtype)
    for channel, layer in enumerate(layers):
      for plane in range(image.count()):
        values[:, :, plane, channel] = layer.whole(plane).T
    maps.write_stored_volume(path, values, names, image.metadata['like'])
  else:
    channels = [tiff_stacks.Layer(layer.whole, layer.tiles) for layer in layers]
    tiff_stacks.write_maps(path, image, dtype, names, channels, assembly.sizes)


def _write_ids(path: Path, image: Planes, ids: Layer) -> None:
  if path.suffix == '.png':
    images.write_mask(path, ids.whole(0))
  elif image.form == NIFTI:
    # [planes, rows, columns] -> the order of the file.
    volume = np.stack([ids.whole(plane) for plane in range(image.count())])
    nifti.write_stored(path, volume.transpose(2, 1, 0), image.metadata['like'], ids.dtype)
  else:
    layer = tiff_stacks.Layer(ids.whole, ids.tiles)
    tiff_stacks.write(path, image, ids.dtype, ids.meaning, layer)


def _write_zarr(path: Path, image: Planes, labels: Mapping[str, Layer]) -> None:
  with atomic.replacing_folder(path) as temporary:
    writer = ome_zarr.LabelWriter(temporary, image, list(labels))
    for name, ids in labels.items():
      writer.write(name, ids.strips(), ids.dtype, ids.meaning, path)


def _write_table(path: Path, image: Planes, joined: Joined, pixel_area: float | None) -> None:
  """As instances.write_table, with the plane of each object."""
  channels = image.header.channels
  means = [f'mean_intensity_{c + 1}' for c in range(channels)]
  if channels == 1:
    means = ['mean_intensity']
  with atomic.replacing(path) as temporary, temporary.open('w', newline='') as file:
    table = csv.writer(file)
    micrometers = [] if pixel_area is None else ['area_um2']
    table.writerow(['id', *image.axes.lower(), 'area', 'x', 'y', *means, *micrometers])
    # Row by row: a slide may hold millions.
    for number, (row, plane) in enumerate(zip(joined.sums, joined.plane, strict=True), start=1):
      area, rows, columns, *intensities = row.tolist()
      values = [area, columns / area, rows / area, *(total / area for total in intensities)]
      if pixel_area is not None:
        values.append(area * pixel_area)
      place = image.position(int(plane)).values()
      table.writerow([number, *place, *(f'{value:g}' for value in values)])


def _write_overlay(path: Path, image: Planes, ids: Layer) -> None:
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


def _overlay(image: Planes, plane: int, ids: Layer) -> np.ndarray:
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
  return images.overlay(pixels, instances.as_colors(mask) if ids.kind == OBJECTS else mask)


def _reduced(image: Planes, plane: int, ids: Layer, step: int) -> tuple[np.ndarray, np.ndarray]:
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
