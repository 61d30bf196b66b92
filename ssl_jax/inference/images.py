"""Class probabilities of images of any size, whole or in overlapping tiles, and of volumes."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from ssl_jax.inference import shared_shapes
from ssl_jax.inference.shared_shapes import Size, counted, rounded_up
from ssl_jax.inference.sliding_window import WindowedPredictor, window_starts
from ssl_jax.inference.window_defaults import BUDGET, OVERLAP
from ssl_jax.io.interpolation import interpolation_matrix
from ssl_jax.types import PredictFn

BATCH = 4
"""Images that are predicted together, always so many: images of a size that few others have are
predicted several times over, for the sake of one compiled program for each size."""

TILE_MULTIPLE = 32
"""Sides of tiles are multiples of this."""

WAITING_PIXELS = 16 * 1024 * 1024
"""Pixels of images that wait for others of their shape. Where all have other sizes, none would ever
fill a batch, and the folder would fill the memory."""


class ImagePredictor(NamedTuple):
  """A PredictFn of whole images whose network has sides of `multiple` pixels.

  Networks that take any size (`multiple` 1: DeepLab, PSPNet) see each image at its own size. Those
  that halve their sides again and again (U-Nets) reflect the image at the bottom and right; it is
  done here, and not left to them, so that images of similar sizes share a compiled program. Of
  images whose `sizes` are known and many, all networks see a few shapes (see shared_shapes).
  """

  predict_fn: PredictFn
  multiple: int
  sizes: tuple[tuple[Size, int], ...] = ()  # of the images that are to come, with their numbers

  def __call__(self, images: Float[np.ndarray, 'b *shape']) -> Any:
    """Returns the class probabilities of images of one size; a GAN's images of random vectors."""
    return self.predict_fn(images)


def multiple_of(predict_fn: PredictFn) -> int:
  """Returns of how many pixels the sides of what a network sees are multiples."""
  return predict_fn.multiple if isinstance(predict_fn, ImagePredictor) else 1


def of_sizes(predict_fn: PredictFn, sizes: Iterable[Sequence[int]]) -> PredictFn:
  """Returns the predict function of images whose sizes are known: it is compiled for few shapes.

  What is predicted of an image then depends on the sizes of the others if there are many: it is
  reflected further. A run that is resumed has to give all sizes again.

  Args:
    predict_fn: of images; any other is returned as it is.
    sizes: [H, W] of each image, and perhaps more axes, which do not count.
  """
  if not isinstance(predict_fn, ImagePredictor):
    return predict_fn
  return predict_fn._replace(sizes=counted(sizes))


def _scaled(predict_fn: PredictFn, scale: float | int) -> PredictFn:
  """The predict function of images that `_rescaled` has scaled."""
  if not isinstance(predict_fn, ImagePredictor):
    return predict_fn
  scaled: Counter[Size] = Counter()
  for size, count in predict_fn.sizes:
    height, width = _scaled_size(size, scale)
    scaled[height, width] += count
  return predict_fn._replace(sizes=tuple(sorted(scaled.items())))


def _pad(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
  """Reflects an image [H, W, C] at the bottom and right, up to a shape [rows, columns]."""
  margin = [(0, new - old) for new, old in zip(shape, image.shape[:-1], strict=True)]
  return np.pad(image, [*margin, (0, 0)], mode='reflect')


def _batch_size(image: np.ndarray, max_batch: int, budget: int) -> int:
  """How many images of this size go through the network together."""
  return max(1, min(max_batch, budget // (image.shape[0] * image.shape[1])))


def predict_many(
  predict_fn: PredictFn,
  images: Iterable[np.ndarray],
  batch: int = BATCH,
  budget: int = BUDGET,
) -> Iterator[tuple[int, np.ndarray]]:
  """Yields (index, probabilities [*space, classes]) at native size, not always in order.

  Images of one shape are predicted together. An image's probabilities do not depend on the pixels
  of the others, nor on their order, so that a stage that was killed goes on bit for bit.

  Args:
    predict_fn: gives the class probabilities of a batch.
    images: [H, W, C], or volumes [x, y, z, C], in [0, 1].
    batch: images that are predicted together, at most.
    budget: pixels that are predicted together, at most.
  """
  multiple = multiple_of(predict_fn)
  sizes = predict_fn.sizes if isinstance(predict_fn, ImagePredictor) else ()
  shapes = shared_shapes.shared_shapes(sizes, multiple, budget)
  # Padded shape -> (index, native sides, padded image) of the images that still wait for a batch.
  waiting: dict[tuple[int, ...], list[tuple[int, tuple[int, ...], np.ndarray]]] = {}

  def run(
    group: list[tuple[int, tuple[int, ...], np.ndarray]],
  ) -> Iterator[tuple[int, np.ndarray]]:
    # A full batch even for a few images: one shape, one compilation.
    size = _batch_size(group[0][2], batch, budget)
    # The last image is repeated; `zip` ends with the group, so that the copies are dropped.
    filled = [group[min(i, len(group) - 1)][2] for i in range(size)]
    for (index, space, _), probs in zip(group, predict_fn(np.stack(filled)), strict=False):
      # Without the padding.
      yield index, probs[: space[0], : space[1]]

  for index, image in enumerate(images):
    # A volume is large enough to go through alone; its predict function cuts it into windows.
    if image.ndim == 4:
      yield index, predict_fn(image[None])[0]
      continue
    # Too large even for a batch of one.
    if image.shape[0] * image.shape[1] > budget:
      yield index, predict_tiled(predict_fn, image, budget)
      continue
    size = image.shape[:2]
    padded = _pad(image, shapes.get(size) or rounded_up(size, multiple))
    group = waiting.setdefault(padded.shape, [])
    group.append((index, image.shape[:-1], padded))
    if len(group) == _batch_size(padded, batch, budget):
      yield from run(waiting.pop(padded.shape))
    while _pixels(waiting) > max(WAITING_PIXELS, budget):
      # The shape that has waited longest.
      yield from run(waiting.pop(next(iter(waiting))))
  # What is left has no full batch.
  for group in waiting.values():
    yield from run(group)


def _pixels(waiting: Mapping[tuple[int, ...], Sequence]) -> int:
  """Pixels of groups of images, by the shape [H, W, C] of each group."""
  return sum(shape[0] * shape[1] * len(group) for shape, group in waiting.items())


def predict_labels(
  predict_fn: PredictFn,
  images: Iterable[np.ndarray],
  scales: Sequence[float | int] = (1.0,),
  flip: bool = False,
) -> Iterator[tuple[int, UInt8[np.ndarray, '*space'], Float[np.ndarray, '*space']]]:
  """Yields (index, class ids, probabilities of these classes), averaged as predict_averaged does.

  For volumes that are not averaged the probabilities of all classes are never held in memory.
  """
  # A single copy at its own scale needs no averaging.
  averaged = tuple(scales) != (1.0,) or flip
  if not averaged and isinstance(predict_fn, WindowedPredictor):
    for index, volume in enumerate(images):
      yield index, *predict_fn.labels(volume)
    return
  if averaged:
    predictions = predict_averaged(predict_fn, images, scales, flip)
  else:
    predictions = predict_many(predict_fn, images)
  for index, probs in predictions:
    # The probability of the predicted class is how confident the prediction is.
    yield index, probs.argmax(-1).astype(np.uint8), probs.max(-1)


def predict_averaged(
  predict_fn: PredictFn,
  images: Iterable[np.ndarray],
  scales: Sequence[float | int] = (0.5, 0.75, 1.0, 1.5, 2.0),
  flip: bool = True,
  chunk: int = 32,
) -> Iterator[tuple[int, np.ndarray]]:
  """As predict_many, in order, averaged over scaled and mirrored copies (test-time augmentation).

  Args:
    predict_fn: gives the class probabilities of a batch.
    images: [H, W, C], or volumes [x, y, z, C], in [0, 1].
    scales: factors by which the sides are scaled.
    flip: whether each copy is predicted mirrored as well.
    chunk: images that are held in memory together.
  """
  of_scales = [_scaled(predict_fn, scale) for scale in scales]
  for first, group in _chunks(images, chunk):
    # Sums of probabilities [*space, classes]; 0.0 until the number of classes is known.
    totals: list[np.ndarray | float] = [0.0] * len(group)
    for scale, of_scale in zip(scales, of_scales, strict=True):
      scaled = [_rescaled(image, scale) for image in group]
      for mirrored in (False, True) if flip else (False,):
        # Mirrored along the last axis of space, which lies before the channels.
        copies = (image[..., ::-1, :] if mirrored else image for image in scaled)
        for i, probs in predict_many(of_scale, copies):
          # Each prediction gets the orientation and size of its image before it is added.
          upright = probs[..., ::-1, :] if mirrored else probs
          totals[i] = totals[i] + resize(upright, group[i].shape[:-1])
    for i, total in enumerate(totals):
      # The number of copies: each scale once, or twice with its mirror image.
      yield first + i, np.asarray(total / (len(scales) * (1 + flip)))


def _rescaled(image: np.ndarray, scale: float | int) -> np.ndarray:
  """The image with its sides scaled by a factor."""
  return resize(image, _scaled_size(image.shape[:-1], scale))


def _scaled_size(size: Sequence[int], scale: float | int) -> list[int]:
  # Rounded down, as in ST++'s code.
  return [max(int(side * scale), 1) for side in size]


def _chunks(images: Iterable[np.ndarray], size: int) -> Iterator[tuple[int, list[np.ndarray]]]:
  """Yields the index of the first image of a group, and the group; a volume is alone."""
  first, images = 0, iter(images)
  while group := list(itertools.islice(images, 1)):
    if group[0].ndim < 4:  # the probabilities of several volumes at once would fill the memory
      group += itertools.islice(images, size - 1)
    yield first, group
    first += len(group)


def resize(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
  """Returns an array [*space, C] resized to `size` on the host: linear, corners aligned."""
  # One axis after the other: linear interpolation is separable.
  for axis, new in enumerate(size):
    if new != image.shape[axis]:
      matrix = interpolation_matrix(image.shape[axis], new, align_corners=True)
      # tensordot puts the resampled axis first; it belongs where it was.
      image = np.moveaxis(np.tensordot(matrix, image, (1, axis)), 0, axis)
  return image


def predict_tiled(
  predict_fn: PredictFn,
  image: np.ndarray,
  budget: int = BUDGET,
  overlap: float = OVERLAP,
) -> Float[np.ndarray, 'h w classes']:
  """Returns the probabilities of an image from overlapping tiles of at most `budget` pixels.

  Tiles are blended with weights that fall linearly towards their borders, where the network sees
  the least of the surroundings.
  """
  tiles = tiles_of(predict_fn, image.shape[:2], budget, overlap)
  total = norm = None
  for row in range(len(tiles.tops)):
    for column in range(len(tiles.lefts)):
      place = tiles.place(row, column)
      probs = predict_tile(predict_fn, image[place], tiles)
      if total is None or norm is None:  # only now is the number of classes known
        total = np.zeros((*image.shape[:2], probs.shape[-1]), np.float32)
        norm = np.zeros((*image.shape[:2], 1), np.float32)
      # Divided at the end: the weights that a pixel got depend on how many tiles cover it.
      total[place] += tiles.weight * probs
      norm[place] += tiles.weight
  assert total is not None  # there is at least one tile
  assert norm is not None
  return total / norm


class Tiles(NamedTuple):
  """The overlapping tiles of an image: first rows and columns, and the weight of each pixel."""

  tops: Sequence[int]
  lefts: Sequence[int]
  weight: Float[np.ndarray, 'h w 1']
  multiple: int  # of the sides of the network

  def place(self, row: int, column: int) -> tuple[slice, slice]:
    """Returns the rows and columns of a tile."""
    (height, width), top, left = self.weight.shape[:2], self.tops[row], self.lefts[column]
    return slice(top, top + height), slice(left, left + width)


def tiles_of(
  predict_fn: PredictFn, size: Sequence[int], budget: int = BUDGET, overlap: float = OVERLAP
) -> Tiles:
  """Returns the tiles of an image of `size`, each of at most `budget` pixels."""
  # Square tiles whose sides need no padding, except those of images narrower than a tile.
  multiple = multiple_of(predict_fn)
  unit = math.lcm(multiple, TILE_MULTIPLE)
  side = max(int(budget**0.5) // unit, 1) * unit
  height, width = (min(side, length) for length in size)
  # [height, width, 1]: a pyramid, whose weight is that of the nearer border.
  weight = np.minimum(_tent(height)[:, None], _tent(width)[None, :]).astype(np.float32)[..., None]
  tops, lefts = window_starts(size[0], height, overlap), window_starts(size[1], width, overlap)
  return Tiles(tops, lefts, weight, multiple)


def predict_tile(
  predict_fn: PredictFn, pixels: Float[np.ndarray, 'h w c'], tiles: Tiles
) -> Float[np.ndarray, 'h w k']:
  """Returns the class probabilities of a tile, as if it were an image of its own."""
  height, width = pixels.shape[:2]
  padded = _pad(pixels, rounded_up((height, width), tiles.multiple))
  return np.asarray(predict_fn(padded[None])[0][:height, :width])


def _tent(length: int) -> Float[np.ndarray, ' n']:
  """Weights that rise linearly from both ends of a tile to its middle."""
  # Nowhere 0, so that a border pixel that only one tile covers has a weight.
  return np.minimum(np.arange(length) + 1, np.arange(length)[::-1] + 1) / length
