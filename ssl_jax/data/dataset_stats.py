"""What a network must know of its data set: classes, channels, intensities, counts."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Num

from ssl_jax.data.masks import image_kind
from ssl_jax.io import images
from ssl_jax.io.formats.stored_image import Header
from ssl_jax.types import IGNORE, MASKS, ImageKind, Normalization, Source, Splits

SAMPLED = 256
"""Images from which intensities, class fractions and the canvas are found; all of a small set."""

SAMPLED_PIXELS = 2**30
"""Of large images and volumes only as many are looked at as hold this many pixels."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

SYMMETRIC = (127 / 255, 128 / 255)
"""Mean and deviation with which EfficientNet-Lite was trained: pixels become -1 to 1."""


class DatasetStats(NamedTuple):
  """What prediction must know of the training data; a run keeps it beside its checkpoints."""

  classes: tuple[str, ...]
  channels: int
  # Raw values that became 0 and 1, of all channels or of each; None for 8 bits.
  intensity: tuple[float, float] | tuple[tuple[float, float], ...] | None
  mean: tuple[float, ...]  # of the training images in [0, 1], per channel
  std: tuple[float, ...]
  counts: Mapping[str, int]  # images per split
  fingerprint: int  # of images, masks and splits: a resumed run must see the same
  task: str = MASKS
  scale: float = 1.0  # size of the images relative to their files
  preprocessing: Mapping[str, Any] | None = None  # of volumes: fields of VolumePreprocessing
  kind: Mapping[str, Any] | None = None  # of image files: fields of ImageKind
  instances: Mapping[str, Any] | None = None  # as in Splits; None: of classes

  def image_kind(self) -> ImageKind:
    """Returns what the training's files hold; of a run that does not say, nothing is known."""
    return ImageKind() if self.kind is None else ImageKind(**self.kind)

  def normalization(self) -> Normalization:
    """Returns mean and standard deviation as a network's state holds them, [C] float32 each."""
    return Normalization(np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32))


def to_float(image: Num[np.ndarray, '*space c']) -> Num[np.ndarray, '*space c']:
  """Returns an image as float32 in [0, 1]; 8-bit images are divided by 255, others are so."""
  return image.astype(np.float32) / 255 if image.dtype == np.uint8 else image


def sampled_indices(source: Source) -> list[int]:
  """Returns indices evenly spaced from the first to the last image of a source.

  They are at most SAMPLED, and at least 2 but fewer than SAMPLED where images are large.
  """
  # All images are taken to be as large as the first.
  pixels = np.prod(source[0]['image'].shape[:-1])
  count = int(np.clip(SAMPLED_PIXELS // pixels, 2, SAMPLED))
  # Evenly spaced rather than the first ones: neighbors in a list (frames, sections) look alike.
  return np.unique(np.linspace(0, len(source) - 1, count).astype(int)).tolist()


def _sampled_images(splits: Splits) -> Iterator[np.ndarray]:
  """Images to learn from, in [0, 1]; never those of val or test."""
  for source in (splits.labeled, splits.unlabeled):
    if source is not None:
      for index in sampled_indices(source):
        yield to_float(source[index]['image'])


def compute_stats(splits: Splits, normalize: str = 'data') -> DatasetStats:
  """Computes from the training images what prediction must know; val and test are only counted.

  Args:
    splits: the data set.
    normalize: 'data' for mean and standard deviation of the training images; 'minmax' for their
      minimum and maximum, which become 0 and 1; 'imagenet' for those of ImageNet, where there are
      three channels (else as 'data'); 'symmetric' for SYMMETRIC.
  """
  mean, std = _mean_and_std(splits)
  channels = len(mean)
  # Networks with ImageNet weights expect the standardization that they were trained with.
  if normalize == 'imagenet' and channels == 3:
    mean = np.array(IMAGENET_MEAN)
    std = np.array(IMAGENET_STD)
  if normalize == 'symmetric':
    mean, std = (np.full(channels, value) for value in SYMMETRIC)
  if normalize == 'minmax':
    low, high = _min_and_max(splits)
    # (x - low) / (high - low) in `Normalization`; the floor is for a channel of one value.
    mean = low
    std = np.maximum(high - low, 1e-3)
  return DatasetStats(
    classes=tuple(splits.classes),
    channels=channels,
    intensity=splits.intensity,
    mean=tuple(round(float(value), 6) for value in mean),
    std=tuple(round(float(value), 6) for value in std),
    counts=count_images(splits),
    fingerprint=data_checksum(splits),
    task=splits.task,
    scale=splits.scale,
    preprocessing=splits.preprocessing,
    kind=None if splits.kind is None else splits.kind._asdict(),
    instances=splits.instances,
  )


def data_checksum(splits: Splits) -> int:
  """Returns a number that changes if images, masks or splits do."""
  # Not `hash`, whose result for text is another one in every process.
  return zlib.crc32(repr((*count_images(splits).items(), splits.digest)).encode())


def count_images(splits: Splits) -> dict[str, int]:
  """Returns the number of images of each split that there is."""
  sources = {name: getattr(splits, name) for name in ('labeled', 'unlabeled', 'val', 'test')}
  return {name: len(source) for name, source in sources.items() if source is not None}


def _mean_and_std(splits: Splits) -> tuple[np.ndarray, np.ndarray]:
  """Per channel; every image counts alike, whatever its size."""
  means = []
  squares = []
  for image in _sampled_images(splits):
    # All axes but the channels: 2 of an image, 3 of a volume.
    space = tuple(range(image.ndim - 1))
    means.append(image.mean(space))
    squares.append((image**2).mean(space))
  mean = np.mean(means, axis=0)
  square = np.mean(squares, axis=0)
  # Var x = E x^2 - (E x)^2. Rounding can make it negative where a channel hardly varies, hence the
  # floor.
  return mean, np.sqrt(np.maximum(square - mean**2, 1e-6))


def _min_and_max(splits: Splits) -> tuple[np.ndarray, np.ndarray]:
  """Per channel, over all sampled images."""
  lows = []
  highs = []
  for image in _sampled_images(splits):
    space = tuple(range(image.ndim - 1))
    lows.append(image.min(space))
    highs.append(image.max(space))
  return np.min(lows, 0), np.max(highs, 0)


def class_fractions(source: Source, classes: Sequence[str]) -> dict[str, float]:
  """Returns the fraction of each class among the labeled pixels (or patches) of a sample."""
  total = np.zeros(len(classes))
  for index in sampled_indices(source):
    # [*space] class ids, or one id where the record is a patch.
    label = np.asarray(source[index]['label'])
    # Ids beyond the named classes would make the count longer than `total`, so it is cut.
    total += np.bincount(label[label != IGNORE], minlength=len(classes))[: len(classes)]
  # The floor avoids 0 / 0 if every sampled pixel is IGNORE.
  fractions = total / max(total.sum(), 1)
  return dict(zip(classes, fractions.tolist(), strict=True))


def check_image(
  image: Num[np.ndarray, 'h w c'], header: Header, stats: DatasetStats, name: str
) -> list[str]:
  """Returns what a new image has that those of the training had not, and is converted or doubtful.

  Raises:
    UserError: naming the image, if it holds another kind of numbers.
  """
  converted = image_kind.check_kind(header, stats.image_kind(), stats.intensity, name)
  return [*header.changes, *converted, *image_kind.check_range(image, stats.intensity)]


def preprocess_image(
  image: Num[np.ndarray, 'h w c'], stats: DatasetStats, name: str
) -> Float[np.ndarray, 'new_h new_w new_c']:
  """Returns a new image as training saw its own: in [0, 1], with their channels and scale.

  Raises:
    UserError: naming the image, if it is in color or deep where the training images were not.
  """
  # The number of channels first, because it decides on the ranges.
  ready = images.rescale(images.to_channels(image, stats.channels, name), stats.intensity, name)
  size = preprocessed_size(ready.shape[:2], stats)
  return ready if size == ready.shape[:2] else images.resize(ready, size, smooth=True)


def preprocessed_size(size: Sequence[int], stats: DatasetStats) -> tuple[int, int]:
  """Returns the rows and columns that `preprocess_image` makes of an image's own."""
  # `data.scale` made the training images smaller, so a new one has to shrink alike.
  height, width = (max(round(length * stats.scale), 1) for length in size[:2])
  return height, width
