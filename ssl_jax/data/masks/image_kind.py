"""What kind of numbers and channels the image files of a data set hold, and what fits to them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Num

from ssl_jax.data.image_mask_pairs import ImageFile
from ssl_jax.errors import UserError
from ssl_jax.io import image_decoding, images
from ssl_jax.io.formats import stored_image
from ssl_jax.io.formats.stored_image import CHANNELS, GRAY, RGB, Header
from ssl_jax.types import ImageKind

NUMBERS = {'uint8': '8-bit', 'uint16': '16-bit', 'float32': 'floating point or signed'}
"""Kinds of numbers in words."""

SAMPLED_ALPHA = 64
"""Images whose alpha is looked at, evenly spaced."""

SAMPLED_ROLE = 8
"""Images of each role whose range is compared with that of the training."""

SAMPLED_PIXELS = 20_000
"""Pixels of an image from which its range is found."""

FAINTEST = 1 / 255
"""Fraction of the range of the training images below which an image shows nothing."""

MOSTLY = 0.5
"""Fraction of values beyond that range from which on an image is on another scale."""


class FileNotes:
  """Collects what was changed of which file; says each change once, with the number of files."""

  def __init__(self) -> None:
    self._names: dict[str, list[str]] = {}

  def add(self, change: str, name: str) -> None:
    """Adds a change of one file."""
    self._names.setdefault(change, []).append(name)

  def merge(self, other: 'FileNotes') -> None:
    """Adds the changes that others have."""
    for change, names in other._names.items():
      self._names.setdefault(change, []).extend(names)

  def sentences(self) -> list[str]:
    """Returns a sentence for each change."""
    lines = []
    for change, names in self._names.items():
      more = f' and {len(names) - 1} more' if len(names) > 1 else ''
      lines.append(f'{names[0]}{more}: {change}')
    return lines


def changes(files: Sequence[ImageFile]) -> list[str]:
  """Returns notes on what reading changes of images: turned, inverted, alpha dropped, ..."""
  notes = FileNotes()
  for file in files:
    for change in file.header.changes:
      notes.add(change, file.image.name)
  with_alpha = [file for file in files if file.header.has_alpha]
  # Alpha is only known from the pixels, and decoding all of them would take long.
  count = min(len(with_alpha), SAMPLED_ALPHA)
  for index in np.linspace(0, len(with_alpha) - 1, count).astype(int):
    file = with_alpha[index]
    if image_decoding.is_transparent(images.read_bytes(file.image), str(file.image)):
      notes.add(stored_image.TRANSPARENT, file.image.name)
  return notes.sentences()


def common_channels(files: Sequence[ImageFile]) -> tuple[int, list[str]]:
  """Returns the number of channels of all images, and notes on it.

  Gray images may be among RGB ones.

  Raises:
    UserError: naming two files, if others differ.
  """
  # One file for each number and layout, so that messages can name them.
  first: dict[tuple[int, str], ImageFile] = {}
  for file in files:
    first.setdefault((file.header.channels, file.header.layout), file)
  counts = sorted({count for count, _ in first})
  notes = []
  if len(counts) > 1:
    (few, few_layout), (many, many_layout) = min(first), max(first)
    if counts != [1, 3] or (3, CHANNELS) in first:
      raise UserError(
        f'{first[few, few_layout].image} has {_channels(few, few_layout)} and '
        f'{first[many, many_layout].image} has {_channels(many, many_layout)}; all images of a '
        'data set need the same channels, in the same order: save them alike.'
      )
    notes.append('gray and RGB images are mixed: gray ones are repeated to RGB')
  if {(3, CHANNELS), (3, RGB)} <= set(first):
    notes.append(
      f'{first[3, RGB].image.name} is RGB and {first[3, CHANNELS].image.name} has three channels '
      'that its file does not call colors: they are taken alike'
    )
  channels = counts[-1]
  if [*first] == [(3, CHANNELS)]:
    notes.append('images have 3 channels that are no colors; pictures show red, green and blue')
  if channels not in (1, 3):
    shown = 'magenta and green' if channels == 2 else 'the first three in red, green and blue'
    notes.append(
      f'images have {channels} channels; pictures show {shown}; changes of hue, saturation and '
      'grayscale do not apply'
    )
  return channels, notes


def _channels(count: int, layout: str) -> str:
  named = {GRAY: '1 channel (gray)', RGB: '3 channels (RGB)'}
  return named.get(layout, f'{count} channels')


def kind_of(files: Sequence[ImageFile], masks_stored: bool = False) -> ImageKind:
  """Returns what prediction must know of the files of the training images."""
  return ImageKind(
    dtypes=tuple(sorted({str(file.header.dtype) for file in files})),
    layouts=tuple(sorted({file.header.layout for file in files})),
    masks_stored=masks_stored,
  )


def check_kind(header: Header, kind: ImageKind, intensity: Any, name: str) -> list[str]:
  """Returns what is converted of a new image to be as those of the training.

  Args:
    header: of the image.
    kind: of the training images.
    intensity: their raw values that became 0 and 1 (of each channel); None where they had 8 bits.
    name: of the image, for the message.

  Raises:
    UserError: if the image holds another kind of numbers.
  """
  dtype = str(header.dtype)
  if kind.dtypes and dtype not in kind.dtypes:
    learned = ' and '.join(NUMBERS[known] for known in kind.dtypes)
    values = '' if intensity is None else f', whose values {_range_text(intensity)} became 0 to 1'
    raise UserError(
      f'{name} is {NUMBERS[dtype]} but the run learned from {learned} images{values}; give it '
      'images that were saved in the same way.'
    )
  # RGB with other numbers of channels is refused where the channels are converted.
  if header.layout == GRAY and kind.layouts == (RGB,):
    return ['gray, repeated to the RGB from which the run learned']
  if header.layout == RGB and kind.layouts == (GRAY,):
    return ['RGB, taken as the gray from which the run learned']
  apart = kind.layouts in ((RGB,), (CHANNELS,)) and header.layout not in kind.layouts
  if header.channels == 3 and apart:
    return ['three channels are taken for those of the training, though only one is called RGB']
  return []


def check_range(image: Num[np.ndarray, 'h w c'], intensity: Any) -> list[str]:
  """Returns a warning if the raw values of an image are on another scale than `intensity`."""
  if intensity is None or image.dtype == np.uint8:
    return []
  # [n, C]
  pixels = image.reshape(-1, image.shape[-1])
  pixels = pixels[:: max(len(pixels) // SAMPLED_PIXELS, 1)].astype(np.float32)
  low, high = np.asarray(intensity, np.float32).reshape(-1, 2).T
  if len(low) not in (1, pixels.shape[-1]):
    return []
  darkest, brightest = np.percentile(pixels, (0.1, 99.9), axis=0)
  warning = (
    f'its values {darkest.min():g} to {brightest.max():g} do not fit the '
    f'{_range_text(intensity)} from which the run learned: do not trust its prediction'
  )
  scaled = (pixels - low) / (high - low)
  # All dark, all of one value, or mostly beyond the brightest that was seen.
  span = ((np.clip(brightest, low, high) - np.clip(darkest, low, high)) / (high - low)).max()
  return [warning] if span < FAINTEST or (scaled > 1).mean() > MOSTLY else []


def fill_values(files: Sequence[ImageFile], intensity: tuple[float, float]) -> list[str]:
  """Returns a warning if one repeated value, such as -9999, makes nearly all of the range."""
  for index in np.linspace(0, len(files) - 1, min(len(files), SAMPLED_ROLE)).astype(int):
    pixels = images.read_image(files[index].image).ravel()
    low, high = intensity
    for fill in (pixels.min(), pixels.max()):
      rest = pixels[pixels != fill]
      faint = FAINTEST * (high - low)
      if len(rest) and float(np.ptp(rest)) < faint < abs(float(rest[0]) - float(fill)):
        return [
          f'{files[index].image.name} holds {len(pixels) - len(rest)} pixels of {fill:g} and all '
          f'others between {rest.min():g} and {rest.max():g}: where {fill:g} stands for pixels '
          'without a value, replace it by one of theirs, or the network sees one flat gray'
        ]
  return []


def odd_roles(roles: Mapping[str, Sequence[ImageFile]], intensity: Any) -> list[str]:
  """Returns a warning for each role all of whose images are on another scale than the training."""
  notes = []
  for role, files in roles.items():
    deep = [file for file in files if file.header.dtype != np.uint8]
    chosen = np.linspace(0, len(deep) - 1, min(len(deep), SAMPLED_ROLE)).astype(int)
    doubts = [check_range(images.read_image(deep[i].image), intensity) for i in chosen]
    if doubts and all(doubts):
      notes.append(
        f'{role} images (such as {deep[0].image.name}) hardly overlap with the raw intensities '
        f'{_range_text(intensity)} of the training images: are they on another scale?'
      )
  return notes


def _range_text(intensity: Any) -> str:
  """One range in words, or the widest of those of several channels."""
  ranges = np.asarray(intensity, np.float32).reshape(-1, 2)
  return f'{ranges[:, 0].min():g} to {ranges[:, 1].max():g}'
