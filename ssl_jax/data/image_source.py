"""Image and mask files as records of equal channels, kind of numbers and class ids."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8

from ssl_jax.data.image_mask_pairs import ImageFile
from ssl_jax.data.masks import image_kind, instances
from ssl_jax.errors import UserError
from ssl_jax.io import images
from ssl_jax.io.formats import stored_image
from ssl_jax.io.images import Intensity
from ssl_jax.types import ImageKind, Record, Splits

CACHE_BYTES = 1 << 30
"""Decoded images kept in memory, of all splits together."""

SAMPLED_IMAGES = 64
SAMPLED_PIXELS = 20_000
"""Percentiles of raw values are computed from at most so many images and pixels of each."""

PERCENTILES = (0.1, 99.9)
"""Percentiles of raw values that become 0 and 1 by default."""

ReadMask = Callable[[Path], UInt8[np.ndarray, 'h w']]
"""A mask file -> class ids."""

ReadIds = Callable[[Path], Integer[np.ndarray, '*space']]
"""A mask file -> instance ids 1, 2, ...; 0 for the background."""

Roles = Mapping[str, Sequence[ImageFile]]
"""Files of 'labeled', 'unlabeled', 'val' and 'test'."""


class ImageSource:
  """A Source of images on disk, decoded when asked for and kept while memory allows."""

  def __init__(self, files: Sequence[ImageFile], reader: '_RecordReader'):
    self._files = files
    self._reader = reader
    self._kept: dict[int, Record] = {}

  def __len__(self) -> int:
    return len(self._files)

  def __getitem__(self, index: int) -> Record:
    file = self._files[index]
    # -1 and the last index share one entry.
    index = int(index) % len(self)
    if index not in self._kept:
      record = self._reader.read(file)
      size = sum(value.nbytes for value in record.values() if isinstance(value, np.ndarray))
      # Beyond the budget an image is decoded each time it is asked for.
      if not self._reader.reserve(size):
        return record
      self._kept[index] = record
    # A shallow copy: callers may add keys; the arrays are shared and read-only.
    return self._kept[index].copy()

  def sizes(self) -> list[tuple[int, int]]:
    """Returns the rows and columns of each image, as the headers say."""
    return [(file.header.height, file.header.width) for file in self._files]


class ImageSplits(NamedTuple):
  """The fields of Splits that hold images and what they are made from, and notes on them."""

  labeled: ImageSource
  unlabeled: ImageSource | None
  val: ImageSource | None
  test: ImageSource | None
  truth: ImageSource | None
  intensity: Intensity | None
  kind: ImageKind
  digest: str
  notes: list[str]


def make_sources(
  roles: Roles,
  read_mask: ReadMask,
  percentiles: Sequence[float | int] = PERCENTILES,
  read_ids: ReadIds | None = None,
) -> ImageSplits:
  """Makes sources of files, whose images all have the same channels and kind of numbers.

  What reading changes of the images is among the notes.

  Unlabeled images have no mask, so that a hidden truth cannot reach training; `truth` has it where
  there is one for each.

  Args:
    roles: the files.
    read_mask: reads the class ids of a mask file.
    percentiles: of the raw values of training images deeper than 8 bits: they become 0 and 1.
      (0, 100) are their minimum and maximum.
    read_ids: of instance masks, whose class ids are made of the ids that it reads; None: of masks
      of classes.

  Raises:
    UserError: if images differ in their channels, if images of 16 bits and floating point are
      mixed, or only those are deep that no network is trained on.
  """
  reader, notes = _make_reader(roles, read_mask, percentiles)
  reader.read_ids = read_ids

  def source(files: Sequence[ImageFile]) -> ImageSource | None:
    return ImageSource(files, reader) if files else None

  # Index i of `truth` must be index i of `unlabeled`, so it exists only if every image has a mask.
  unlabeled = roles['unlabeled']
  has_truth = bool(unlabeled) and all(file.mask for file in unlabeled)
  return ImageSplits(
    labeled=ImageSource(roles['labeled'], reader),
    unlabeled=source([file._replace(mask=None) for file in unlabeled]),
    val=source(roles['val']),
    test=source(roles['test']),
    truth=source(unlabeled) if has_truth else None,
    intensity=reader.intensity,
    kind=image_kind.kind_of([*roles['labeled'], *unlabeled], _masks_stored(roles)),
    digest=_digest(roles),
    notes=notes,
  )


class _RecordReader:
  """Reads files into records; all sources of a data set share one, and with it the cache."""

  def __init__(self, read_mask: ReadMask, channels: int, floats: bool):
    self._read_mask = read_mask
    self._channels = channels
    self._floats = floats
    self._free_bytes = CACHE_BYTES
    self.intensity: Intensity | None = None
    self.read_ids: ReadIds | None = None

  def reserve(self, size: int) -> bool:
    """Takes bytes of the cache; False if so many are not left."""
    if size > self._free_bytes:
      return False
    self._free_bytes -= size
    return True

  def read(self, file: ImageFile) -> Record:
    """Reads an image, and its mask where it has one."""
    # [H, W, C]
    image = images.to_channels(images.read_image(file.image), self._channels)
    # 8-bit images are rescaled, too, if others are deep, so that all of a batch have one dtype.
    if self._floats:
      image = images.rescale(image, self.intensity, str(file.image))
    record = Record(image=image, name=file.name)
    if file.mask is not None and self.read_ids is not None:
      record['instances'] = file.upright(self.read_ids(file.mask))
      record['label'] = instances.to_classes(record['instances'])
    elif file.mask is not None:
      # [H, W] class ids
      record['label'] = file.upright(self._read_mask(file.mask))
    for value in record.values():
      if isinstance(value, np.ndarray):
        value.flags.writeable = False  # one copy serves every epoch
    return record


def _make_reader(
  roles: Roles, read_mask: ReadMask, percentiles: Sequence[float | int]
) -> tuple[_RecordReader, list[str]]:
  """Decides on the channels and the range of intensities; returns notes on them."""
  files = [file for role in roles.values() for file in role]
  dtypes = {str(file.header.dtype) for file in files}
  channels, notes = image_kind.common_channels(files)
  notes += image_kind.changes(files)
  reader = _RecordReader(read_mask, channels, floats=dtypes != {'uint8'})
  if {'uint16', 'float32'} <= dtypes:
    raise UserError(
      f'{_first_of(files, "uint16")} is 16-bit and {_first_of(files, "float32")} is floating '
      'point, whose ranges cannot be compared; convert them to one kind.'
    )
  if dtypes == {'uint8'}:
    return reader, notes
  # The range comes from training images alone; val and test must not influence the preprocessing.
  training = [*roles['labeled'], *roles['unlabeled']]
  deep = [file for file in training if file.header.dtype != np.uint8]
  # No training image shows which raw values are dark and bright.
  if not deep:
    odd = next(file.image for file in files if file.header.dtype != np.uint8)
    raise UserError(f'{odd} is not 8-bit but the training images are; convert it to 8-bit.')
  # Red, green and blue share a range, or white would get a tint. Stains differ in brightness: in
  # the range of the brightest the others would be dark.
  apart = channels > 1 and all(file.header.layout == stored_image.CHANNELS for file in deep)
  ranges = _fit_ranges(deep, percentiles, channels if apart else 1)
  reader.intensity = ranges if apart else ranges[0]
  spoken = ', '.join(f'{low:g}..{high:g}' for low, high in ranges)
  each = ' (of each channel)' if apart else ''
  notes.append(f'raw intensities {spoken}{each} of the training images became 0..1')
  if not apart:
    notes += image_kind.fill_values(deep, ranges[0])
  notes += image_kind.odd_roles(roles, reader.intensity)
  if 'uint8' in dtypes:
    notes.append('8-bit and deeper images are mixed: 8-bit ones were divided by 255')
  return reader, notes


def _first_of(files: Sequence[ImageFile], dtype: str) -> Path:
  return next(file.image for file in files if str(file.header.dtype) == dtype)


def _fit_ranges(
  files: Sequence[ImageFile], percentiles: Sequence[float | int], channels: int
) -> tuple[tuple[float, float], ...]:
  """Low and high percentile of a bounded sample of raw pixels; of all for minimum and maximum.

  With one channel a single range is found over all channels of the files.
  """

  def flat(file: ImageFile) -> np.ndarray:
    return images.read_image(file.image).reshape(-1, channels)

  # [2, C] low and high
  if tuple(percentiles) == (0, 100):
    # A sample would miss the extremes.
    extremes = [(pixels.min(0), pixels.max(0)) for pixels in map(flat, files)]
    lows, highs = zip(*extremes, strict=True)
    ends = np.stack([np.min(lows, 0), np.max(highs, 0)])
  else:
    # Evenly spaced over the files. Few pixels of many images say more than many pixels of a few.
    chosen = np.linspace(0, len(files) - 1, min(len(files), SAMPLED_IMAGES)).astype(int)
    sample = []
    for index in chosen:
      pixels = flat(files[index])
      # An odd stride does not fall on the same column or channel every time.
      stride = max(1, len(pixels) // SAMPLED_PIXELS) | 1
      sample.append(pixels[::stride])
    ends = np.percentile(np.concatenate(sample), percentiles, axis=0)
  # If all pixels have one value there is no range; 1 avoids a division by 0.
  return tuple(
    (float(low), float(high) if high > low else float(low) + 1)
    for low, high in zip(*ends, strict=True)
  )


def _masks_stored(roles: Roles) -> bool:
  """Whether masks of turned images were drawn on the pixels as stored, all of them."""
  turned = [file for role in roles.values() for file in role if file.mask and file.is_turned()]
  return bool(turned) and all(file.mask_stored for file in turned)


def _digest(roles: Roles) -> str:
  """A content hash; changes if images, masks or splits change."""
  # The role and the name count as well: moving an image from training to test changes the data.
  digest = hashlib.sha256()
  for role, files in roles.items():
    for file in files:
      mask = images.read_bytes(file.mask) if file.mask else b''
      digest.update(f'{role} {file.name} {file.sha256} '.encode() + mask)
  return digest.hexdigest()


def make_splits(sources: ImageSplits, classes: Sequence[str], notes: Sequence[str]) -> Splits:
  """Returns a data set of images; `notes` of its loader come before those on its images."""
  return Splits(
    labeled=sources.labeled,
    unlabeled=sources.unlabeled,
    val=sources.val,
    test=sources.test,
    truth=sources.truth,
    classes=tuple(classes),
    notes=(*notes, *sources.notes),
    intensity=sources.intensity,
    kind=sources.kind,
    digest=sources.digest,
  )
