"""Bytes of one image file -> its header and its pixels, in the form that the file holds them."""

import io
import re
import struct
from collections.abc import Callable
from typing import NamedTuple, TypeVar, cast

import numpy as np
import tifffile
from PIL import Image

from ssl_jax.errors import UserError

ORIENTATION_TAG = 274
"""Number of the tag of EXIF and TIFF that says how an image is turned."""

SIDEWAYS = (5, 6, 7, 8)
"""Orientations that exchange height and width."""

# First bytes of a file. TIFF may be little-endian (II) or big-endian (MM), and BigTIFF (+), whose
# files may exceed 4 GB.
TIFF_MAGIC = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
JPEG_MAGIC = b'\xff\xd8'
PNG_MAGIC = b'\x89PNG'
GREY_MODES = ('1', 'L', 'LA', 'La', 'I', 'F')
"""Pillow's modes of one channel, with or without alpha."""

Result = TypeVar('Result')


class Header(NamedTuple):
  """What is known of an image before its pixels are decoded."""

  height: int
  width: int
  channels: int  # 1 or 3, as images.decode_image returns them
  dtype: np.dtype  # uint8, uint16 or float32, as images.decode_image returns it


class RawPixels(NamedTuple):
  """Pixels as the file holds them, upright."""

  pixels: np.ndarray  # [H, W] or [H, W, C]
  palette: np.ndarray | None  # [entries, 3] uint8; the pixels are then indices into it


def decode_header(data: bytes, name: str) -> Header:
  """Reads the header of an image and checks that the file is complete, without decoding it.

  Raises:
    UserError: naming the file, if it is not one readable 2-D image.
  """
  # The content decides which decoder is used, not the ending of the name, which may be wrong.
  return _guard(_tiff_header if data[:4] in TIFF_MAGIC else _pillow_header, data, name)


def decode_pixels(data: bytes, name: str) -> RawPixels:
  """Decodes the pixels of an image as the file holds them, upright.

  Raises:
    UserError: naming the file, if it is not one readable 2-D image.
  """
  return _guard(_tiff_pixels if data[:4] in TIFF_MAGIC else _pillow_pixels, data, name)


def _guard(decode: Callable[[bytes, str], Result], data: bytes, name: str) -> Result:
  """Calls a decoder; turns whatever broken bytes make it raise into a UserError."""
  if not data:
    raise UserError(f'{name} is an empty file; replace or remove it.')
  try:
    return decode(data, name)
  # The message of a UserError is already written for the user.
  except UserError:
    raise
  # Decoders raise any kind of error for broken bytes (OSError, SyntaxError, struct.error, ...).
  except Exception as error:
    # Pillow names the file object, which means nothing here: it was read from memory.
    message = re.sub(r' <_io\.[^>]*>', '', str(error))
    reason = ' '.join(message.split())[:120] or type(error).__name__
    raise UserError(
      f'{name} cannot be read as a PNG, JPEG, BMP or TIFF image ({reason}); '
      'it is corrupt or cut short: replace or remove it.'
    ) from error


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
  """Undoes the eight orientations of EXIF; a value outside 1..8 means upright."""
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


def _pillow_open(data: bytes) -> Image.Image:
  return Image.open(io.BytesIO(data), formats=('PNG', 'JPEG', 'BMP'))


def _png_depth(data: bytes) -> tuple[int, int]:
  """Bits a sample and colour type of a PNG; (8, 2) for other formats."""
  # A PNG begins with a signature (8 bytes) and the IHDR chunk: length and type (8), width and
  # height (8), then one byte each for bit depth and colour type.
  return (data[24], data[25]) if data[:4] == PNG_MAGIC else (8, 2)


def _check_complete(data: bytes, image_format: str | None) -> None:
  """Raises ValueError for a file that was cut short; Pillow alone would notice when decoding."""
  # End markers are searched for anywhere, because a complete file may have other bytes after them.
  if image_format == 'PNG' and b'IEND' not in data:
    raise ValueError('its end is missing')
  if image_format == 'JPEG' and b'\xff\xd9' not in data:
    raise ValueError('its end is missing')
  # Bytes 10 to 13 of a BMP are the offset of its pixels.
  if image_format == 'BMP' and len(data) < struct.unpack('<I', data[10:14])[0]:
    raise ValueError('its pixels are missing')


def _pillow_header(data: bytes, name: str) -> Header:
  with _pillow_open(data) as image:
    _check_complete(data, image.format)
    width, height = image.size
    # `decode_pixels` returns the image upright, and the header has to agree with it.
    if image.getexif().get(ORIENTATION_TAG, 1) in SIDEWAYS:
      width, height = height, width
    grey = image.mode in GREY_MODES or image.mode.startswith('I;16')
    # Pillow's mode of 16-bit colour says 8 bits, so the depth is read from the file itself.
    deep = _png_depth(data)[0] == 16 or image.mode.startswith('I')
    return Header(height, width, 1 if grey else 3, np.dtype('uint16' if deep else 'uint8'))


def _pillow_pixels(data: bytes, name: str) -> RawPixels:
  with _pillow_open(data) as image:
    image.load()
    orientation = image.getexif().get(ORIENTATION_TAG, 1)
    depth, colour_type = _png_depth(data)
    if depth == 16 and colour_type != 0:
      import imagecodecs  # Pillow would silently halve the depth of 16-bit RGB

      return RawPixels(_upright(imagecodecs.png_decode(data), orientation), None)
    # Indices and colours are returned separately: masks are made of the first, images of both.
    if image.mode == 'P':
      palette = np.asarray(image.getpalette('RGB'), np.uint8).reshape(-1, 3)
      return RawPixels(_upright(np.asarray(image), orientation), palette)
    converted = image
    # All other modes are grey or RGB already, with or without alpha.
    if image.mode == '1':
      converted = image.convert('L')
    elif image.mode in ('CMYK', 'YCbCr', 'LAB', 'HSV', 'PA'):
      converted = image.convert('RGB')
    pixels = np.asarray(converted)
    if pixels.dtype == np.int32:
      pixels = pixels.astype(np.uint16)  # Pillow's mode I is a 16-bit PNG
    return RawPixels(_upright(pixels, orientation), None)


def _tiff_page(tif: tifffile.TiffFile, name: str) -> tifffile.TiffPage:
  """The only image of a TIFF; smaller copies of it (a pyramid) do not count."""
  pages = [page for page in tif.pages if not getattr(page, 'is_reduced', False)]
  page = cast(tifffile.TiffPage, pages[0])
  series = tif.series[0]
  # ImageJ writes one page and keeps the other planes behind it: only the series knows of them.
  planes = series.size // max(1, page.imagelength * page.imagewidth * page.samplesperpixel)
  if len(pages) > 1 or planes > 1 or not {'Y', 'X'} <= set(page.axes):
    raise UserError(
      f'{name} is a stack of {max(len(pages), planes)} images (axes {series.axes}), '
      'and this needs single 2-D images; save each slice as a file of its own.'
    )
  return page


def _tiff_orientation(page: tifffile.TiffPage) -> int:
  tag = page.tags.get(ORIENTATION_TAG)
  return int(tag.value) if tag is not None else 1


def _tiff_header(data: bytes, name: str) -> Header:
  with tifffile.TiffFile(io.BytesIO(data)) as tif:
    page = _tiff_page(tif, name)
    # The header lists where each strip or tile lies, so a missing end is noticed without decoding.
    segments = zip(page.dataoffsets, page.databytecounts, strict=True)
    if max(start + count for start, count in segments) > len(data):
      raise ValueError('its end is missing')
    height, width = page.imagelength, page.imagewidth
    if _tiff_orientation(page) in SIDEWAYS:
      height, width = width, height
    has_palette = page.photometric == tifffile.PHOTOMETRIC.PALETTE
    coloured = page.samplesperpixel >= 3 or has_palette
    dtypes = {'uint16': 'uint16', 'uint8': 'uint8', 'bool': 'uint8'}
    dtype = 'uint8' if has_palette else dtypes.get(str(page.dtype), 'float32')
    return Header(height, width, 3 if coloured else 1, np.dtype(dtype))


def _tiff_pixels(data: bytes, name: str) -> RawPixels:
  with tifffile.TiffFile(io.BytesIO(data)) as tif:
    page = _tiff_page(tif, name)
    pixels = page.asarray()
    if page.axes.startswith('S'):  # planes of colour one after the other
      pixels = np.moveaxis(pixels, 0, -1)
    # 1-bit images become 0 and 255, as those of Pillow's formats do.
    if pixels.dtype == bool:
      pixels = pixels.astype(np.uint8) * 255
    # Here 0 is white. Inverted, larger values are brighter, as in all other images.
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and pixels.dtype.kind == 'u':
      pixels = np.iinfo(pixels.dtype).max - pixels
    pixels = _upright(pixels, _tiff_orientation(page))
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
      # The palette of a TIFF has 16 bits per colour; the upper 8 are kept.
      colours = np.asarray(page.colormap).T  # [entries, 3] uint16
      return RawPixels(pixels, (colours >> 8).astype(np.uint8))
    return RawPixels(pixels, None)
