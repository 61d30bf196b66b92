"""PredictFn for images of any size, whole or in overlapping tiles, and for volumes."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ssl_jax.inference.sliding_window import OVERLAP, Windowed, starts
from ssl_jax.io.interpolation import interpolation
from ssl_jax.types import PredictFn

MULTIPLE = 32
"""Images are padded to multiples of this, so that few shapes are compiled and U-Nets fit."""

BUDGET = 1024 * 1024
"""Pixels that go through the network at once; an image of more is cut into tiles."""


def _pad(image: np.ndarray) -> np.ndarray:
  """Extends an image [H, W, C] at the bottom and right by its own edge, to the next multiple."""
  margin = [(0, -side % MULTIPLE) for side in image.shape[:-1]]
  return np.pad(image, [*margin, (0, 0)], mode='edge')


def _batch(image: np.ndarray, most: int, budget: int) -> int:
  """How many images of this size go through the network together."""
  return max(1, min(most, budget // (image.shape[0] * image.shape[1])))


def predict_many(
  probabilities: PredictFn,
  images: Iterable[np.ndarray],
  batch: int = 8,
  budget: int = BUDGET,
) -> Iterator[tuple[int, np.ndarray]]:
  """Yields (index, probabilities [*space, classes], native size); images of one shape together."""
  waiting: dict[tuple, list] = {}

  def run(group: list) -> Iterator[tuple[int, np.ndarray]]:
    # A full batch even for a few images: one shape, one compilation.
    size = _batch(group[0][2], batch, budget)
    filled = [group[min(i, len(group) - 1)][2] for i in range(size)]
    for (index, space, _), probs in zip(group, probabilities(np.stack(filled)), strict=False):
      yield index, probs[: space[0], : space[1]]

  for index, image in enumerate(images):
    if image.ndim == 4:
      yield index, probabilities(image[None])[0]
      continue
    if image.shape[0] * image.shape[1] > budget:
      yield index, predict_tiled(probabilities, image, budget)
      continue
    padded = _pad(image)
    group = waiting.setdefault(padded.shape, [])
    group.append((index, image.shape[:-1], padded))
    if len(group) == _batch(padded, batch, budget):
      yield from run(waiting.pop(padded.shape))
  for group in waiting.values():
    yield from run(group)


def predict_labels(
  probabilities: PredictFn,
  images: Iterable[np.ndarray],
  scales: Sequence[float] = (1.0,),
  flip: bool = False,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
  """Yields (index, class ids, their probabilities [*space]); averaged as `predict_averaged` does.

  Of volumes that nothing is averaged over, the probabilities of all classes are never held.
  """
  plain = tuple(scales) == (1.0,) and not flip
  if plain and isinstance(probabilities, Windowed):
    for index, volume in enumerate(images):
      yield index, *probabilities.labels(volume)
    return
  answers = (
    predict_many(probabilities, images)
    if plain
    else predict_averaged(probabilities, images, scales, flip)
  )
  for index, probs in answers:
    yield index, probs.argmax(-1).astype(np.uint8), probs.max(-1)


def predict_averaged(
  probabilities: PredictFn,
  images: Iterable[np.ndarray],
  scales: Sequence[float] = (0.5, 0.75, 1.0, 1.5, 2.0),
  flip: bool = True,
  together: int = 32,
) -> Iterator[tuple[int, np.ndarray]]:
  """As predict_many, averaged over scaled and mirrored copies (test-time augmentation)."""
  for first, group in _chunks(images, together):
    totals = [0.0] * len(group)
    for scale in scales:
      sizes = [[max(round(n * scale), 1) for n in image.shape[:-1]] for image in group]
      scaled = [resize(image, size) for image, size in zip(group, sizes, strict=True)]
      for mirrored in (False, True)[: 1 + flip]:
        shown = (image[..., ::-1, :] if mirrored else image for image in scaled)
        for i, probs in predict_many(probabilities, shown):
          upright = probs[..., ::-1, :] if mirrored else probs
          totals[i] = totals[i] + resize(upright, group[i].shape[:-1])
    for i, total in enumerate(totals):
      yield first + i, total / (len(scales) * (1 + flip))


def _chunks(images: Iterable[np.ndarray], size: int) -> Iterator[tuple[int, list[np.ndarray]]]:
  first, images = 0, iter(images)
  while group := list(itertools.islice(images, 1)):
    if group[0].ndim < 4:  # the answers of several volumes at once would fill the memory
      group += itertools.islice(images, size - 1)
    yield first, group
    first += len(group)


def resize(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
  """Linear resize of [*space, C] on the host, corners aligned."""
  for axis, new in enumerate(size):
    if new != image.shape[axis]:
      matrix = interpolation(image.shape[axis], new, align_corners=True)
      image = np.moveaxis(np.tensordot(matrix, image, (1, axis)), 0, axis)
  return image


def predict_tiled(
  probabilities: PredictFn,
  image: np.ndarray,
  budget: int = BUDGET,
  overlap: float = OVERLAP,
) -> np.ndarray:
  """PredictFn [H, W, classes] from overlapping tiles of at most `budget` pixels.

  Tiles are blended with weights that fall linearly towards their borders, where a network sees
  least of the surroundings.
  """
  side = max(int(budget**0.5) // MULTIPLE, 1) * MULTIPLE
  tiles = [min(side, length) for length in image.shape[:2]]
  ramps = [np.minimum(np.arange(t) + 1, np.arange(t)[::-1] + 1) / t for t in tiles]
  weight = np.float32(np.minimum(ramps[0][:, None], ramps[1][None, :]))[..., None]
  total = norm = None
  for top in starts(image.shape[0], tiles[0], overlap):
    for left in starts(image.shape[1], tiles[1], overlap):
      here = np.s_[top : top + tiles[0], left : left + tiles[1]]
      probs = probabilities(_pad(image[here])[None])[0][: tiles[0], : tiles[1]]
      if total is None:
        total = np.zeros((*image.shape[:2], probs.shape[-1]), np.float32)
        norm = np.zeros((*image.shape[:2], 1), np.float32)
      total[here] += weight * probs
      norm[here] += weight
  return total / norm
