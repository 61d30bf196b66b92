"""What a network must know of its data set: classes, channels, intensities, counts."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ssl_jax.io import images
from ssl_jax.types import IGNORE, MASKS, Source, Splits

SAMPLE = 256
"""Images looked at to find the intensities and the canvas; all of them in a small set."""


PIXELS = 2**30
"""Of large images and volumes, only as many are looked at as hold so many pixels."""


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class DatasetStats(NamedTuple):
  """What was found in the data and prediction needs: kept beside the checkpoints as data.json."""

  classes: tuple[str, ...]
  channels: int
  intensity: tuple[float, float] | None  # raw values that became 0 and 1; None for 8 bits
  mean: tuple[float, ...]  # of the training images in [0, 1], per channel
  std: tuple[float, ...]
  counts: Mapping[str, int]  # images per split
  fingerprint: int  # of images, masks and splits: a resumed run must see the same
  task: str = MASKS
  scale: float = 1.0  # how much smaller than their files the images were
  preparation: Mapping | None = None  # how volumes were prepared

  def standardize(self, pixels: Any) -> Any:
    """[..., C] in [0, 1] -> zero mean, unit variance per channel, as the network wants it."""
    return (pixels - np.float32(self.mean)) / np.float32(self.std)


def unit(image: np.ndarray) -> np.ndarray:
  """uint8 or float32 [..., C] -> float32 in [0, 1]."""
  return image.astype(np.float32) / 255 if image.dtype == np.uint8 else image


def _spread(source: Source) -> list[int]:
  """Indices from the first to the last image, at most SAMPLE, and of PIXELS in all."""
  most = int(np.clip(PIXELS // np.prod(source[0]['image'].shape[:-1]), 2, SAMPLE))
  return np.unique(np.linspace(0, len(source) - 1, most).astype(int)).tolist()


def _sample(splits: Splits) -> Iterator[np.ndarray]:
  for source in (splits.labeled, splits.unlabeled):
    if source is not None:
      for index in _spread(source):
        yield source[index]['image']


def _per_channel(image: np.ndarray) -> np.ndarray:
  return image.mean(tuple(range(image.ndim - 1)))


def _ends(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  axes = tuple(range(image.ndim - 1))
  return image.min(axes), image.max(axes)


def compute_stats(splits: Splits, normalize: str = 'data') -> DatasetStats:
  """Reads what prediction will need off the training images, never off val or test.

  `normalize`: 'data' for the training images' own mean and deviation, 'minmax' for their minimum
  and maximum, which become 0 and 1, 'imagenet' for ImageNet's mean and deviation.
  """
  sums = [(_per_channel(x), _per_channel(x**2)) for x in map(unit, _sample(splits))]
  mean, square = (np.mean([s[i] for s in sums], axis=0) for i in (0, 1))
  std = np.sqrt(np.maximum(square - mean**2, 1e-6))
  channels = len(mean)
  if normalize == 'imagenet' and channels == 3:
    mean, std = IMAGENET
  if normalize == 'minmax':
    low = np.min([_ends(image)[0] for image in map(unit, _sample(splits))], 0)
    high = np.max([_ends(image)[1] for image in map(unit, _sample(splits))], 0)
    mean, std = low, np.maximum(high - low, 1e-3)
  named = {n: getattr(splits, n) for n in ('labeled', 'unlabeled', 'val', 'test')}
  counts = {n: len(source) for n, source in named.items() if source is not None}
  return DatasetStats(
    classes=tuple(splits.classes),
    channels=channels,
    intensity=splits.intensity,
    mean=tuple(round(float(m), 6) for m in mean),
    std=tuple(round(float(s), 6) for s in std),
    counts=counts,
    fingerprint=zlib.crc32(repr((*counts.items(), splits.digest)).encode()),
    task=splits.task,
    scale=splits.scale,
    preparation=splits.preparation,
  )


def class_shares(source: Source, classes: Sequence[str]) -> dict[str, float]:
  """The share of each class among the labeled pixels (or patches) of a sample."""
  total = np.zeros(len(classes))
  for index in _spread(source):
    label = np.asarray(source[index]['label'])
    total += np.bincount(label[label != IGNORE], minlength=len(classes))[: len(classes)]
  return dict(zip(classes, (total / max(total.sum(), 1)).tolist(), strict=True))


def prepared(image: np.ndarray, facts: DatasetStats, name: str) -> np.ndarray:
  """A new image as training saw its own: float32 [h, w, facts.channels] in [0, 1], scaled."""
  ready = images.to_channels(images.rescale(image, facts.intensity, name), facts.channels, name)
  if facts.scale == 1:
    return ready
  size = [max(round(n * facts.scale), 1) for n in ready.shape[:2]]
  return images.resized(ready, size, smooth=True)
