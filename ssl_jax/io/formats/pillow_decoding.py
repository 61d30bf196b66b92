"""Bytes of a PNG, JPEG or BMP file -> its header and its samples."""

import io
import struct
import zlib
from typing import NamedTuple

import imagecodecs
import numpy as np
from PIL import Image

from ssl_jax.errors import UserError
from ssl_jax.io.formats import stored_image
from ssl_jax.io.formats.stored_image import GRAY, RGB, Header, StoredImage

PNG_MAGIC = b'\x89PNG'
PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
PIXEL_CHUNKS = (b'IHDR', b'PLTE', b'tRNS', b'IDAT')
"""Chunks of a PNG that its pixels are made of."""

GRAY_MODES = ('1', 'L', 'LA', 'La', 'I', 'F')
"""Pillow's modes of one channel, with or without alpha."""

ALPHA_MODES = ('LA', 'La', 'PA', 'RGBA', 'RGBa')

# Pillow refuses images of 179 megapixels as attacks; check_size has a limit that can be raised.
Image.MAX_IMAGE_PIXELS = None


GRAY_AND_ALPHA = 4
"""Color type of a PNG."""


class PngFormat(NamedTuple):
  """Bits a sample and color type, as the header of a PNG has them."""

  depth: int
  color_type: int  # 0: gray, 2: RGB, 3: palette, 4: gray and alpha, 6: RGB and alpha


PNG_ORIENTATION = (b'eXIf', b'Raw profile type exif', b'XML:com.adobe.xmp')
"""What a PNG has in it that may say how it is turned, all of which Pillow reads."""


def png_format(data: bytes) -> PngFormat | None:
  """Returns the format of a PNG's samples; None for other files."""
  # A PNG begins with a signature (8 bytes) and the IHDR chunk: length and type (8), width and
  # height (8), then one byte each for bit depth and color type.
  return PngFormat(data[24], data[25]) if data[:4] == PNG_MAGIC else None


def open_image(data: bytes, name: str) -> Image.Image:
  """Opens a PNG, JPEG or BMP, of which no pixels are decoded yet.

  Raises:
    UserError: if it is too large, or an animation.
  """
  image = Image.open(io.BytesIO(data), formats=('PNG', 'JPEG', 'BMP'))
  # Pillow has read no more than the header so far.
  width, height = image.size
  stored_image.check_size(height, width, len(image.getbands()), name)
  # A JPEG may hold further pictures as well (a thumbnail, a depth map): the first is the image.
  frames = getattr(image, 'n_frames', 1)
  if image.format == 'PNG' and frames > 1:
    raise UserError(f'{name} is an animation of {frames} images; save one as a file of its own.')
  return image


def _check_complete(data: bytes, image_format: str | None) -> None:
  """Raises ValueError for a file that was cut short or damaged, which decoders may not notice."""
  if image_format == 'PNG':
    _check_chunks(data)
  # The end marker is searched for anywhere, because a complete file may have other bytes after it.
  if image_format == 'JPEG' and b'\xff\xd9' not in data:
    raise ValueError('its end is missing')
  # Bytes 10 to 13 of a BMP are the offset of its pixels.
  if image_format == 'BMP' and len(data) < struct.unpack('<I', data[10:14])[0]:
    raise ValueError('its pixels are missing')


def _check_chunks(data: bytes) -> None:
  """Raises ValueError for a PNG without its end, or with a wrong checksum of its pixels or palette.

  A flipped bit may decode to another mask of the same values.
  """
  start = len(PNG_SIGNATURE)
  while start + 8 <= len(data):
    length = int.from_bytes(data[start : start + 4], 'big')
    kind = data[start + 4 : start + 8]
    if kind == b'IEND':
      return
    end = start + 8 + length
    if end + 4 > len(data):
      break
    stored = int.from_bytes(data[end : end + 4], 'big')
    # Other chunks (times, texts) do not change the pixels.
    if kind in PIXEL_CHUNKS and zlib.crc32(data[start + 4 : end]) != stored:
      raise ValueError(f'its checksum of {kind.decode()} is wrong')
    start = end + 4
  raise ValueError('its end is missing')


def read_header(data: bytes, name: str) -> Header:
  """Returns the header of a complete file.

  Raises:
    UserError: if it is too large, or an animation.
    Exception: of any kind, if the file is broken.
  """
  with open_image(data, name) as image:
    _check_complete(data, image.format)
    return _header(image, data)


def _orientation(image: Image.Image, data: bytes) -> int:
  """The number in which cameras say how an image is turned; 1 is upright."""
  # What a PNG says of it may follow the pixels, so that Pillow decodes them all to find it.
  if png_format(data) is not None and not any(mark in data for mark in PNG_ORIENTATION):
    return 1
  return image.getexif().get(stored_image.ORIENTATION_TAG, 1)


def _header(image: Image.Image, data: bytes) -> Header:
  png = png_format(data)
  orientation = _orientation(image, data)
  height, width = stored_image.upright_size(image.size[1], image.size[0], orientation)
  changes = [stored_image.TURNED] if orientation in range(2, 9) else []
  layout = GRAY if image.mode in GRAY_MODES or image.mode.startswith('I;16') else RGB
  # Pillow's mode of gray with alpha in 16 bits is RGBA.
  if png is not None and png.color_type == GRAY_AND_ALPHA:
    layout = GRAY
  if image.mode in ('P', 'PA'):
    palette = _palette(image)
    # Equal red, green and blue in every entry.
    layout = GRAY if (palette == palette[:, :1]).all() else RGB
    changes.append(f'palette became {layout}')
  elif image.mode == '1':
    changes.append('1 bit a pixel became 0 and 255')
  elif png is not None and png.depth < 8:
    changes.append(f'{png.depth}-bit samples stretched to 8 bits')
  elif image.mode == 'CMYK':
    changes.append('CMYK became RGB, by the plain formula without a color profile')
  # Pillow's mode of 16-bit color says 8 bits, so the depth is read from the file itself.
  deep = image.mode.startswith('I') or (png is not None and png.depth == 16)
  return Header(
    height,
    width,
    1 if layout == GRAY else 3,
    np.dtype('uint16' if deep else 'uint8'),
    layout,
    orientation,
    image.mode in ALPHA_MODES or 'transparency' in image.info,
    tuple(changes),
  )


def _palette(image: Image.Image) -> np.ndarray:
  palette = np.asarray(image.getpalette('RGB'), np.uint8).reshape(-1, 3)
  if not len(palette):
    raise ValueError('its palette has no colors')
  return palette


def read_samples(data: bytes, name: str) -> StoredImage:
  """Returns the samples of a file; 1-, 2- and 4-bit gray is not stretched.

  Raises:
    UserError: if it is too large, or an animation.
    Exception: of any kind, if the file is broken.
  """
  with open_image(data, name) as image:
    _check_complete(data, image.format)
    image.load()
    header = _header(image, data)
    png = png_format(data)
    if png is not None and png.depth == 16 and png.color_type != 0:
      # Pillow would silently halve the depth of 16-bit color.
      samples = imagecodecs.png_decode(data)
      alpha = samples[..., -1] if samples.shape[-1] in (2, 4) else None
      return StoredImage(samples[..., : header.channels], alpha, None, header)
    alpha = np.asarray(image.convert('RGBA'))[..., 3] if header.has_alpha else None
    # Indices and colors are returned separately: masks are made of the first, images of both.
    if image.mode in ('P', 'PA'):
      indices = np.asarray(image).reshape(image.size[1], image.size[0], -1)[..., :1]
      return StoredImage(indices, alpha, _palette(image), header)
    converted = image
    if image.mode in ('CMYK', 'YCbCr', 'LAB', 'HSV'):
      converted = image.convert('RGB')
    samples = np.asarray(converted)
    if samples.dtype == np.int32:
      samples = samples.astype(np.uint16)  # Pillow's mode I is a 16-bit PNG
    samples = samples.reshape(*samples.shape[:2], -1)[..., : header.channels]
    bits = 8
    if image.mode == '1':
      bits = 1
      samples = samples.astype(np.uint8)
    elif png is not None and png.depth < 8 and png.color_type == 0:
      bits = png.depth
      # Pillow has stretched them to 0..255.
      samples = samples // (255 // (2**bits - 1))
    return StoredImage(samples, alpha, None, header, bits)
