"""Class probabilities of parts of a plane, equal to those of the whole plane.

A plane may be larger than memory: only the part that is asked for is read, and only the tiles that
touch it go through the network. Tiles that a later part needs as well are kept on disk.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from ssl_jax.data import dataset_stats
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.inference.images import predict_tile, tiles_of
from ssl_jax.io.stacks.planes import Planes
from ssl_jax.types import PredictFn

Region = tuple[slice, slice]
"""Rows and columns."""

ReadFn = Callable[[slice, slice], np.ndarray]
"""Rows and columns -> that part [h, w, C]."""


class TileStore:
  """Keeps tiles of a plane on disk while parts need them; without a folder it keeps none."""

  def __init__(self, folder: Path | None, plane: int = 0):
    self._folder = folder
    # In the name, because a kill may leave tiles of the plane before.
    self._plane = plane
    self._uses: Counter[tuple[int, int]] = Counter()

  def expect(self, tiles: Iterable[tuple[int, int]]) -> None:
    """Adds tiles that will be asked for, once for each time."""
    self._uses.update(tiles)

  def get(self, tile: tuple[int, int], predict: Callable[[], np.ndarray]) -> np.ndarray:
    """Returns the probabilities of a tile; predicts them if they are not there."""
    if self._folder is None:
      return predict()
    path = self._folder / f'tile_{self._plane}_{tile[0]}_{tile[1]}.npy'
    self._uses[tile] -= 1
    probs = np.load(path) if path.exists() else None
    if probs is None:
      probs = predict()
      if self._uses[tile] > 0:
        # Through another name: a kill must not leave a part of a tile.
        temporary = path.with_name(f'.{path.name}')
        np.save(temporary, probs)
        temporary.replace(path)
    if self._uses[tile] <= 0:
      path.unlink(missing_ok=True)
    return probs


class GivenTiles(TileStore):
  """Tiles that other tasks have predicted."""

  def __init__(self, tiles: Mapping[tuple[int, int], np.ndarray]):
    super().__init__(None)
    self._given = tiles

  def get(self, tile: tuple[int, int], predict: Callable[[], np.ndarray]) -> np.ndarray:
    """Returns the probabilities of a tile."""
    return self._given[tile]


class PlaneRegions:
  """The class probabilities of one plane, part by part.

  Args:
    predict_fn: gives the class probabilities of a batch.
    image: the file.
    plane: number of the plane.
    stats: of the training data, as which the image is prepared.
    budget: pixels that go through the network at once.
    tiles: where tiles are kept.
  """

  def __init__(
    self,
    predict_fn: PredictFn,
    image: Planes,
    plane: int,
    stats: DatasetStats,
    budget: int,
    tiles: TileStore,
  ):
    self._predict_fn = predict_fn
    self._image = image
    self._plane = plane
    self._stats = stats
    self._size = image.header.height, image.header.width
    # The size at which training saw its images.
    self._prepared_size = self._size
    if stats.scale != 1:
      height, width = (max(round(length * stats.scale), 1) for length in self._size)
      self._prepared_size = height, width
    self._tiles = tiles_of(predict_fn, self._prepared_size, budget)
    if self._prepared_size[0] * self._prepared_size[1] <= budget:
      # As a whole, as predict_many does it.
      weight = np.ones((*self._prepared_size, 1), np.float32)
      self._tiles = self._tiles._replace(tops=[0], lefts=[0], weight=weight)
    self._store = tiles

  def tiles(self, region: Region) -> list[tuple[int, int]]:
    """Returns the tiles, by row and column, that the probabilities of a region need."""
    if self._stats.scale != 1:
      region = _source_region(region, self._size, self._prepared_size)
    rows, columns = region
    height, width = self._tiles.weight.shape[:2]
    return [
      (row, column)
      for row in _overlapping(self._tiles.tops, height, rows)
      for column in _overlapping(self._tiles.lefts, width, columns)
    ]

  def tile(self, row: int, column: int) -> Float[np.ndarray, 'h w k']:
    """Returns the class probabilities of a tile."""
    place = self._tiles.place(row, column)
    return predict_tile(self._predict_fn, self._read_prepared(*place), self._tiles)

  def probabilities(self, region: Region) -> Float[np.ndarray, 'h w k']:
    """Returns the class probabilities of a region, at the size of the file."""
    if self._stats.scale == 1:
      return self._blended(*region)
    return resize_part(self._blended, self._prepared_size, self._size, region)

  def _blended(self, rows: slice, columns: slice) -> Float[np.ndarray, 'h w k']:
    """As predict_tiled blends its tiles, in the same order."""
    total = norm = None
    height, width = self._tiles.weight.shape[:2]
    for row in _overlapping(self._tiles.tops, height, rows):
      for column in _overlapping(self._tiles.lefts, width, columns):
        place = self._tiles.place(row, column)
        probs = self._store.get((row, column), lambda r=row, c=column: self.tile(r, c))
        if total is None or norm is None:  # only now is the number of classes known
          size = rows.stop - rows.start, columns.stop - columns.start
          total = np.zeros((*size, probs.shape[-1]), np.float32)
          norm = np.zeros((*size, 1), np.float32)
        # What the tile and the region share, as indices of each.
        shared = [_shared(p, wanted) for p, wanted in zip(place, (rows, columns), strict=True)]
        inside, outside = (tuple(both) for both in zip(*shared, strict=True))
        weight = self._tiles.weight[inside]
        total[outside] += weight * probs[inside]
        norm[outside] += weight
    assert total is not None  # tiles cover the plane
    assert norm is not None
    total /= norm
    return total

  def _read_prepared(self, rows: slice, columns: slice) -> Float[np.ndarray, 'h w c']:
    """A part of the plane as training saw its images."""
    if self._stats.scale == 1:
      return self._rescaled(rows, columns)
    return resize_part(self._rescaled, self._size, self._prepared_size, (rows, columns))

  def _rescaled(self, rows: slice, columns: slice) -> Float[np.ndarray, 'h w c']:
    pixels = self._image.read(self._plane, rows, columns)
    return dataset_stats.preprocess_image(pixels, self._stats._replace(scale=1.0), self._image.name)


def _overlapping(starts: Sequence[int], length: int, wanted: slice) -> list[int]:
  """Numbers of the tiles along one axis that touch a range."""
  touched = []
  for number, start in enumerate(starts):
    if start < wanted.stop and start + length > wanted.start:
      touched.append(number)
  return touched


def _shared(tile: slice, wanted: slice) -> tuple[slice, slice]:
  """What two ranges share, counted from the start of the first and of the second."""
  start, stop = max(tile.start, wanted.start), min(tile.stop, wanted.stop)
  first = slice(start - tile.start, stop - tile.start)
  return first, slice(start - wanted.start, stop - wanted.start)


def _source_region(region: Region, new: Sequence[int], old: Sequence[int]) -> Region:
  """The part of an array of the size `old` from which a part of the resized one is interpolated."""
  ranges = []
  for part, new_length, old_length in zip(region, new, old, strict=True):
    factor = old_length / new_length
    # Half of the width of Pillow's bilinear filter, which grows where an image is made smaller.
    reach = max(factor, 1.0) + 1
    start = max(int(np.floor(part.start * factor - reach)), 0)
    ranges.append(slice(start, min(int(np.ceil(part.stop * factor + reach)), old_length)))
  return ranges[0], ranges[1]


def resize_part(
  read: ReadFn, old: Sequence[int], new: Sequence[int], region: Region
) -> Float[np.ndarray, 'h w c']:
  """Returns a part of what `images.resize` makes of an array that is read by parts.

  Args:
    read: gives parts of the array, float32.
    old: rows and columns of the array.
    new: rows and columns of the resized one.
    region: part of the resized one.
  """
  rows, columns = _source_region(region, new, old)
  part = read(rows, columns)
  height, width = (axis.stop - axis.start for axis in region)
  down, across = old[0] / new[0], old[1] / new[1]
  # Where the region lies in the part, in fractions of a pixel.
  box = (
    region[1].start * across - columns.start,
    region[0].start * down - rows.start,
    region[1].stop * across - columns.start,
    region[0].stop * down - rows.start,
  )
  channels = []
  for channel in range(part.shape[-1]):
    picture = Image.fromarray(np.ascontiguousarray(part[..., channel], np.float32))
    resized = picture.resize((width, height), Image.Resampling.BILINEAR, box=box)
    channels.append(np.asarray(resized))
  return np.stack(channels, -1)
