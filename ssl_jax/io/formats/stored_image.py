"""What an image file holds: header, samples as they are stored, and which way up they are."""

import os
from typing import NamedTuple

import numpy as np

from ssl_jax.errors import UserError

ORIENTATION_TAG = 274
"""Number of the tag of EXIF and TIFF that says how an image is turned."""

SIDEWAYS = (5, 6, 7, 8)
"""Orientations that exchange height and width."""

# 'grey' stands in the files of runs, so its spelling stays.
GRAY, RGB, CHANNELS = 'grey', 'RGB', 'channels'
"""Layouts: one channel; red, green and blue; or any number of channels that are no colors."""

LIMIT_VARIABLE = 'SSL_JAX_MAX_MEGAPIXELS'
MAX_MEGAPIXELS = 1000.0
"""Images of more megapixels are refused, unless the variable of the environment allows more."""

CHANNELS_IN_LIMIT = 4
"""Of images with more channels than these, the limit is lower in proportion."""

TURNED = 'turned upright, as the orientation tag says'
INVERTED = 'inverted, because the file stores white as 0'
TRANSPARENT = 'alpha dropped, though some pixels are transparent'


class Header(NamedTuple):
  """What is known of an image before its pixels are decoded."""

  height: int  # upright
  width: int
  channels: int  # as images.decode_image returns them: without alpha, palettes as colors
  dtype: np.dtype  # uint8, uint16 or float32, as images.decode_image returns it
  layout: str = GRAY
  orientation: int = 1  # 1: the file stores the image upright; 2 to 8: as in EXIF
  has_alpha: bool = False
  changes: tuple[str, ...] = ()  # what images.decode_image makes of the samples, for notes


class StoredImage(NamedTuple):
  """The samples of an image as its file holds them, not turned."""

  samples: np.ndarray  # [H, W, C] without alpha
  alpha: np.ndarray | None  # [H, W]
  palette: np.ndarray | None  # [entries, 3] uint8; the samples are then indices into it
  header: Header
  bits: int = 8  # below 8: samples are in 0..2^bits - 1, and not yet stretched
  white_is_zero: bool = False
  inks: bool = False  # samples are amounts of cyan, magenta, yellow and black
  lossy: bool = False  # compressed inside a TIFF in a way that alters values


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
  """Undoes one of the eight orientations of EXIF; a value outside 1..8 means upright."""
  # Keys are the EXIF values; axis 0 is the row and axis 1 the column. 5 to 8 exchange the axes.
  operations = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
    8: lambda x: x.swapaxes(0, 1)[::-1],
  }
  if orientation in operations:
    pixels = operations[orientation](pixels)
  return np.ascontiguousarray(pixels)


def turn_back(pixels: np.ndarray, orientation: int) -> np.ndarray:
  """Brings upright pixels back to how a file of this orientation stores them."""
  # A quarter turn is undone by the opposite one; all other orientations undo themselves.
  return turn(pixels, {6: 8, 8: 6}.get(orientation, orientation))


def upright_size(height: int, width: int, orientation: int) -> tuple[int, int]:
  """Returns the height and width after `turn`."""
  return (width, height) if orientation in SIDEWAYS else (height, width)


def check_size(height: int, width: int, channels: int, name: str) -> None:
  """Checks the size that a header declares, before memory is taken for it.

  Raises:
    UserError: if it exceeds the limit; the message says how to raise it.
  """
  text = os.environ.get(LIMIT_VARIABLE, '')
  try:
    limit = float(text) if text else MAX_MEGAPIXELS
  except ValueError as error:
    raise UserError(
      f'{LIMIT_VARIABLE}={text} is no number; set it to the megapixels that an image may have.'
    ) from error
  megapixels = height * width * max(channels / CHANNELS_IN_LIMIT, 1) / 1e6
  if megapixels > limit:
    channels_text = f' of {channels} channels' if channels > CHANNELS_IN_LIMIT else ''
    raise UserError(
      f'{name} declares {height:,} x {width:,} pixels{channels_text}, more than the '
      f'{limit:g} megapixels that may be read; if it is truly so large and memory allows, set the '
      f'environment variable {LIMIT_VARIABLE}={int(np.ceil(megapixels))}, or cut it into tiles.'
    )
