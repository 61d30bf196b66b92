"""Image and mask files in and out, and pictures of masks to look at."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Integer, Num, UInt8
from PIL import Image

from ssl_jax.errors import UserError
from ssl_jax.io import atomic, image_decoding
from ssl_jax.io.image_decoding import Header
from ssl_jax.types import IGNORE

# The colors of Okabe and Ito, which people with any color vision tell apart, then six of Tol's
# muted ones, so that thirteen organs differ. The first is that of the background.
PALETTE = np.array(
  [
    (0, 0, 0),
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
    (204, 121, 167),
    (51, 34, 136),
    (17, 119, 51),
    (153, 153, 51),
    (136, 34, 85),
    (204, 102, 119),
    (221, 204, 119),
  ],
  np.uint8,
)
GRAY = np.array((128, 128, 128), np.uint8)


def read_bytes(path: str | Path) -> bytes:
  """Reads a whole file.

  Raises:
    UserError: if it cannot be read.
  """
  try:
    return Path(path).read_bytes()
  except OSError as error:
    raise UserError(f'{path} cannot be read ({error.strerror}); check the path.') from error


def read_header(path: str | Path) -> Header:
  """Reads an image file's header.

  Raises:
    UserError: as `decode_header` does, or if the file cannot be read.
  """
  return decode_header(read_bytes(path), str(path))


def decode_header(data: bytes, name: str) -> Header:
  """Returns the height, width, channels and dtype of an image without decoding it.

  Raises:
    UserError: naming the file, if its header is broken or its end is missing.
  """
  return image_decoding.decode_header(data, name)


def read_image(path: str | Path) -> Num[np.ndarray, 'h w c']:
  """Reads a PNG, JPEG, BMP or TIFF file.

  Raises:
    UserError: as `decode_image` does, or if the file cannot be read.
  """
  return decode_image(read_bytes(path), str(path))


def decode_image(data: bytes, name: str) -> Num[np.ndarray, 'h w c']:
  """Decodes an image file's bytes to any number of channels of uint8, uint16 or float32.

  The image is upright (orientation tags are obeyed) and bright is high. Alpha is dropped, palettes
  and CMYK become RGB or gray, 1-bit images 0 and 255; signed, 32-bit and floating-point samples
  become float32.

  Raises:
    UserError: naming the file, if it is corrupt, cut short, a stack, or of colors that are not
      read here.
  """
  return decode_image_and_header(data, name)[0]


def decode_image_and_header(data: bytes, name: str) -> tuple[Num[np.ndarray, 'h w c'], Header]:
  """Decodes an image as `decode_image` does; its header says what was changed.

  Raises:
    UserError: as `decode_image` does.
  """
  pixels, header = image_decoding.decode_colors(data, name)
  # [H, W, C]
  if pixels.dtype not in (np.uint8, np.uint16):
    pixels = pixels.astype(np.float32)
    # One NaN would spread through the loss into all weights.
    if not np.isfinite(pixels).all():
      raise UserError(f'{name} holds values that are not numbers (NaN or infinite); replace them.')
  return np.ascontiguousarray(pixels), header


def write_mask(path: str | Path, mask: Integer[np.ndarray, 'h w']) -> None:
  """Writes class ids as an 8-bit gray PNG without a palette, so that every tool reads the ids.

  Raises:
    UserError: if an id is outside 0..255.
  """
  mask = np.asarray(mask)
  if mask.min(initial=0) < 0 or mask.max(initial=0) > 255:
    raise UserError(f'{path} cannot hold class ids outside 0..255; this mask has {mask.max()}.')
  with atomic.replacing(path) as temporary:
    Image.fromarray(mask.astype(np.uint8)).save(temporary, format='PNG')


def write_image(path: str | Path, image: UInt8[np.ndarray, 'h w c']) -> None:
  """Writes a gray or RGB image as PNG.

  Raises:
    UserError: if it has another number of channels, which a PNG cannot hold as data.
  """
  if image.shape[-1] not in (1, 3):
    raise UserError(
      f'{path} cannot be written: a PNG holds 1 or 3 channels, and this image has '
      f'{image.shape[-1]}; stages that write images need gray or RGB.'
    )
  pixels = image[..., 0] if image.shape[-1] == 1 else image
  with atomic.replacing(path) as temporary:
    Image.fromarray(pixels).save(temporary, format='PNG')


def to_channels(
  image: Num[np.ndarray, '*space old'], channels: int, name: str = 'an image'
) -> Num[np.ndarray, '*space new']:
  """Makes a gray image RGB by repeating it, or an RGB image of equal channels gray.

  Raises:
    UserError: if color would be lost, or the channels are others than a network saw; `name` says
      whose.
  """
  count = image.shape[-1]
  if count == channels:
    return image
  # Gray is equal red, green and blue; it says nothing of two stains.
  if count == 1 and channels == 3:
    return np.repeat(image, channels, axis=-1)
  if count != 3 or channels != 1:
    raise UserError(
      f'{name} has {count} channel{"s" * (count > 1)} but the network was trained on {channels}; '
      f'give it images with the same {channels} channel{"s" * (channels > 1)}, in the same order.'
    )
  # How to weigh the channels is for the user to choose.
  if (image != image[..., :1]).any():
    raise UserError(f'{name} is in color but the network was trained on gray; convert it to gray.')
  return image[..., :1]


Intensity = tuple[float | int, float | int] | tuple[tuple[float | int, float | int], ...]
"""The raw values that become 0 and 1: of all channels, or of each."""


def rescale(
  image: Num[np.ndarray, 'h w c'], intensity: Intensity | None, name: str = 'an image'
) -> Float[np.ndarray, 'h w c']:
  """Maps raw values to float32 in [0, 1]: of 8 bits by 255, others by an intensity range.

  Args:
    image: raw values.
    intensity: the values that become 0 and 1, of all channels or a pair for each; None where the
      training images had 8 bits.
    name: of the image, for the message.

  Raises:
    UserError: if an image of more than 8 bits has no intensity range, or not a pair a channel.
  """
  if image.dtype == np.uint8:
    return image.astype(np.float32) / 255
  if intensity is None:
    raise UserError(
      f'{name} is not 8-bit but the training images were, so its brightness range is unknown; '
      'convert it to 8-bit as they were.'
    )
  # [1, 2] or [C, 2]
  ranges = np.asarray(intensity, np.float32).reshape(-1, 2)
  if len(ranges) not in (1, image.shape[-1]):
    # Says what is wrong with the number of channels.
    to_channels(image, len(ranges), name)
  low, high = ranges.T
  # The range is that of the training images; a new image may exceed it, hence the clip.
  return np.clip((image.astype(np.float32) - low) / (high - low), 0, 1)


def resize(
  image: Num[np.ndarray, '*old'], size: int | Sequence[int], smooth: bool
) -> Num[np.ndarray, '*new']:
  """Resizes an image or a mask [H, W, ...].

  Args:
    image: uint8 or float32 image of any number of channels, or uint8 mask without a channel axis.
    size: height and width, or one number for a square.
    smooth: True for bilinear interpolation, which averages areas when it shrinks (images); False
      for nearest (masks).
  """
  # Pillow widens its bilinear filter when it shrinks an image, which avoids aliasing. Masks take
  # the nearest pixel, because an average of class ids is a meaningless class.
  method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
  height, width = (size, size) if isinstance(size, int) else size

  def resize_one(pixels: np.ndarray) -> np.ndarray:
    # Pillow gives sizes as (width, height), NumPy as (height, width).
    return np.asarray(Image.fromarray(pixels).resize((width, height), method))

  # Pillow knows 8-bit RGB as one image; all else goes through it channel by channel. It would take
  # the last of two or four channels for alpha, and weigh the others by it.
  if image.ndim == 3 and (image.dtype != np.uint8 or image.shape[-1] != 3):
    planes = [np.ascontiguousarray(image[..., c]) for c in range(image.shape[-1])]
    return np.stack([resize_one(plane) for plane in planes], -1)
  return resize_one(image)


def to_uint8(
  image: Num[np.ndarray, 'h w c'], low: float | int | None = None, high: float | int | None = None
) -> UInt8[np.ndarray, 'h w c']:
  """Stretches low..high to 0..255 to look at; by default the 0.1 and 99.9 percentiles.

  An 8-bit image of 1 or 3 channels stays as it is, if no range is given. Of any other number of
  channels each is stretched by itself, because stains differ in brightness.
  """
  by_itself = image.shape[-1] not in (1, 3)
  if image.dtype == np.uint8 and not by_itself and low is None and high is None:
    return image
  # Percentiles by default: a few very bright pixels would make the rest of the picture dark.
  axes = (0, 1) if by_itself else None
  darkest = np.percentile(image, 0.1, axes) if low is None else low
  brightest = np.percentile(image, 99.9, axes) if high is None else high
  # The floor avoids 0 / 0 in an image of one value.
  span = np.maximum(np.subtract(brightest, darkest), 1e-12)
  scaled = (image.astype(np.float32) - darkest) / span
  return (np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8)


def to_rgb(image: Num[np.ndarray, 'h w c']) -> UInt8[np.ndarray, 'h w 3']:
  """Returns an image to look at: gray and RGB as they are, of others a composite.

  Two channels are magenta and green, which people with any color vision tell apart; of more the
  first three are red, green and blue.
  """
  shown = to_uint8(image)
  channels = shown.shape[-1]
  if channels in (1, 3):
    return to_channels(shown, 3)
  if channels == 2:
    return np.stack([shown[..., 0], shown[..., 1], shown[..., 0]], -1)
  return np.ascontiguousarray(shown[..., :3])


STRIP_PIXELS = 1 << 24
"""Pixels of an overlay that are drawn at a time, so that a slide's fits into memory."""


def overlay(
  image: Num[np.ndarray, 'h w c'], mask: Integer[np.ndarray, 'h w'], opacity: float = 0.4
) -> UInt8[np.ndarray, 'h w 3']:
  """Tints each class with its color and outlines it; IGNORE is gray, background untouched."""
  mask = np.asarray(mask)
  rgb = to_rgb(image)
  outlined = outline(mask)
  rows = max(STRIP_PIXELS // mask.shape[1], 1)
  strips = [slice(start, start + rows) for start in range(0, len(mask), rows)]
  return np.concatenate([_tint(rgb[s], mask[s], outlined[s], opacity) for s in strips])


def _tint(rgb: np.ndarray, mask: np.ndarray, outlined: np.ndarray, opacity: float) -> np.ndarray:
  """RGB with the colors of the classes over it."""
  # Beyond the last color they begin again, with the first after the background's.
  indices = np.where(mask == 0, 0, (mask - 1) % (len(PALETTE) - 1) + 1)
  # [H, W, 3]; IGNORE gets a color from the line above as well, which is replaced here.
  colors = np.where((mask == IGNORE)[..., None], GRAY, PALETTE[indices])
  # Outlines are opaque and interiors tinted. The background has weight 0; IGNORE has no outline.
  weight = np.where(outlined, 1.0, opacity) * (mask != 0)
  weight = np.where(mask == IGNORE, opacity, weight)[..., None]
  return (rgb.astype(np.float32) * (1 - weight) + colors * weight + 0.5).astype(np.uint8)


def colorize(mask: Integer[np.ndarray, 'h w']) -> UInt8[np.ndarray, 'h w 3']:
  """Returns a mask in the colors of its classes; IGNORE is gray, background black."""
  return overlay(np.zeros((*mask.shape, 3), np.uint8), mask, opacity=1.0)


def outline(mask: Integer[np.ndarray, 'h w']) -> Bool[np.ndarray, 'h w']:
  """Returns which pixels have another class above, below, left or right of them."""
  # Repeated edge pixels: the border of the image is no outline.
  padded = np.pad(mask, 1, mode='edge')
  center = padded[1:-1, 1:-1]
  neighbors = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
  return np.any([center != neighbor for neighbor in neighbors], axis=0)
