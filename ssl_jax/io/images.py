"""Image and mask files in and out, and pictures of masks to look at."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer, Num, UInt8
from PIL import Image

from ssl_jax.errors import UserError
from ssl_jax.io import atomic, image_decoding
from ssl_jax.io.image_decoding import Header
from ssl_jax.types import IGNORE

# The colours of Okabe and Ito, which people with any colour vision tell apart, then six of Tol's
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
GREY = np.array((128, 128, 128), np.uint8)


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
  """Decodes an image file's bytes to 1 or 3 channels of uint8, uint16 or float32.

  The image is upright (EXIF is obeyed). Alpha is dropped, palettes become RGB, 1-bit images 0 and
  255; signed, 32-bit and floating-point samples become float32.

  Raises:
    UserError: naming the file, if it is corrupt, cut short, a stack, or has another number of
      channels.
  """
  pixels, palette = image_decoding.decode_pixels(data, name)
  if palette is not None:
    # An index beyond the end of its palette takes the last colour.
    pixels = palette[np.minimum(pixels, len(palette) - 1)]
  if pixels.ndim == 2:
    pixels = pixels[..., None]
  # [H, W, C] from here on.
  if pixels.shape[-1] not in (1, 2, 3, 4):
    raise UserError(
      f'{name} has {pixels.shape[-1]} channels and this needs grey or RGB; save it as one of them.'
    )
  pixels = pixels[..., : _channels_without_alpha(pixels)]
  if pixels.dtype not in (np.uint8, np.uint16):
    pixels = pixels.astype(np.float32)
    # One NaN would spread through the loss into all weights.
    if not np.isfinite(pixels).all():
      raise UserError(f'{name} holds values that are not numbers (NaN or infinite); replace them.')
  return np.ascontiguousarray(pixels)


def _channels_without_alpha(pixels: np.ndarray) -> int:
  """1 of grey and 3 of RGB; where there are two or four channels, the last is alpha."""
  return 1 if pixels.shape[-1] <= 2 else 3


def read_mask(path: str | Path) -> Integer[np.ndarray, 'h w']:
  """Reads a mask as the whole numbers that its file holds; of a palette, the indices.

  Raises:
    UserError: if the file cannot be read, is a JPEG or coloured, or holds fractions.
  """
  data = read_bytes(path)
  # JPEG is lossy: near every boundary it would invent other class ids.
  if data[:2] == image_decoding.JPEG_MAGIC:
    raise UserError(f'{path} is a JPEG, which alters mask values; save masks as PNG or TIFF.')
  pixels, _ = image_decoding.decode_pixels(data, str(path))
  pixels = _one_channel(pixels, str(path))
  if pixels.dtype.kind == 'f':
    # NaN cannot be cast to an integer. It is replaced for the cast and still refused below, because
    # NaN equals no number.
    integers = np.nan_to_num(pixels, nan=0.5).astype(np.int64)
    if not np.array_equal(integers, pixels):
      raise UserError(f'{path} holds fractions and a mask needs whole numbers; save class ids.')
    pixels = integers
  # Pillow stretches 2- and 4-bit grey to 0..255, by these factors; ids must stay as they are.
  stretch = {2: 85, 4: 17}
  if data[:4] == image_decoding.PNG_MAGIC and data[25] == 0 and data[24] in stretch:
    pixels = pixels // stretch[data[24]]
  return pixels


def _one_channel(pixels: np.ndarray, name: str) -> np.ndarray:
  if pixels.ndim == 2:
    return pixels
  # Some programs save masks as RGB; with three equal channels the ids are still clear.
  colours = pixels[..., : _channels_without_alpha(pixels)]
  if (colours != colours[..., :1]).any():
    raise UserError(
      f'{name} is a coloured picture, not a mask; save it as one channel of class ids '
      '(0 = background).'
    )
  return np.ascontiguousarray(colours[..., 0])


def write_mask(path: str | Path, mask: Integer[np.ndarray, 'h w']) -> None:
  """Writes class ids as an 8-bit grey PNG without a palette, so that every tool reads the ids.

  Raises:
    UserError: if an id is outside 0..255.
  """
  mask = np.asarray(mask)
  if mask.min(initial=0) < 0 or mask.max(initial=0) > 255:
    raise UserError(f'{path} cannot hold class ids outside 0..255; this mask has {mask.max()}.')
  with atomic.replacing(path) as temporary:
    Image.fromarray(mask.astype(np.uint8)).save(temporary, format='PNG')


def write_image(path: str | Path, image: UInt8[np.ndarray, 'h w c']) -> None:
  """Writes a grey or RGB image as PNG."""
  pixels = image[..., 0] if image.shape[-1] == 1 else image
  with atomic.replacing(path) as temporary:
    Image.fromarray(pixels).save(temporary, format='PNG')


def to_channels(
  image: Num[np.ndarray, '*space old'], channels: int, name: str = 'an image'
) -> Num[np.ndarray, '*space new']:
  """Makes a grey image RGB by repeating it, or an RGB image of equal channels grey.

  Raises:
    UserError: if colour would be lost; `name` says whose.
  """
  if image.shape[-1] == channels:
    return image
  if image.shape[-1] == 1:
    return np.repeat(image, channels, axis=-1)
  # How to weigh the channels is for the user to choose.
  if (image != image[..., :1]).any():
    raise UserError(f'{name} is in colour but the network was trained on grey; convert it to grey.')
  return image[..., :1]


def rescale(
  image: Num[np.ndarray, 'h w c'],
  intensity: tuple[float | int, float | int] | None,
  name: str = 'an image',
) -> Float[np.ndarray, 'h w c']:
  """Maps raw values to float32 in [0, 1]: of 8 bits by 255, others by an intensity range.

  Args:
    image: raw values.
    intensity: the values that become 0 and 1; None where the training images had 8 bits.
    name: of the image, for the message.

  Raises:
    UserError: if an image of more than 8 bits has no intensity range.
  """
  if image.dtype == np.uint8:
    return image.astype(np.float32) / 255
  if intensity is None:
    raise UserError(
      f'{name} is not 8-bit but the training images were, so its brightness range is unknown; '
      'convert it to 8-bit as they were.'
    )
  # The range is that of the training images; a new image may exceed it, hence the clip.
  low, high = intensity
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

  # Pillow knows 8-bit RGB as one image; all else goes through it channel by channel.
  if image.ndim == 3 and (image.dtype != np.uint8 or image.shape[-1] == 1):
    planes = [np.ascontiguousarray(image[..., c]) for c in range(image.shape[-1])]
    return np.stack([resize_one(plane) for plane in planes], -1)
  return resize_one(image)


def to_uint8(
  image: Num[np.ndarray, 'h w c'], low: float | int | None = None, high: float | int | None = None
) -> UInt8[np.ndarray, 'h w c']:
  """Stretches low..high to 0..255 to look at; by default the 0.1 and 99.9 percentiles.

  An 8-bit image stays as it is, if no range is given.
  """
  if image.dtype == np.uint8 and low is None and high is None:
    return image
  # Percentiles by default: a few very bright pixels would make the rest of the picture dark.
  low = float(np.percentile(image, 0.1)) if low is None else low
  high = float(np.percentile(image, 99.9)) if high is None else high
  # The floor avoids 0 / 0 in an image of one value.
  scaled = (image.astype(np.float32) - low) / max(high - low, 1e-12)
  return (np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8)


def overlay(
  image: Num[np.ndarray, 'h w c'], mask: Integer[np.ndarray, 'h w'], opacity: float = 0.4
) -> UInt8[np.ndarray, 'h w 3']:
  """Tints each class with its colour and outlines it; IGNORE is grey, background untouched."""
  # [H, W, 3] in 0..255.
  rgb = to_channels(to_uint8(image), 3).astype(np.float32)
  mask = np.asarray(mask)
  # Beyond the last colour they begin again, with the first after the background's.
  indices = np.where(mask == 0, 0, (mask - 1) % (len(PALETTE) - 1) + 1)
  # [H, W, 3]; IGNORE gets a colour from the line above as well, which is replaced here.
  colours = np.where((mask == IGNORE)[..., None], GREY, PALETTE[indices])
  # Outlines are opaque and interiors tinted. The background has weight 0; IGNORE has no outline.
  weight = np.where(_outline(mask), 1.0, opacity) * (mask != 0)
  weight = np.where(mask == IGNORE, opacity, weight)[..., None]
  return (rgb * (1 - weight) + colours * weight + 0.5).astype(np.uint8)


def colorize(mask: Integer[np.ndarray, 'h w']) -> UInt8[np.ndarray, 'h w 3']:
  """Returns a mask in the colours of its classes; IGNORE is grey, background black."""
  return overlay(np.zeros((*mask.shape, 3), np.uint8), mask, opacity=1.0)


def _outline(mask: np.ndarray) -> np.ndarray:
  """Pixels with another class above, below, left or right of them."""
  # Repeated edge pixels: the border of the image is no outline.
  padded = np.pad(mask, 1, mode='edge')
  centre = padded[1:-1, 1:-1]
  neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
  return np.any([centre != neighbour for neighbour in neighbours], axis=0)
