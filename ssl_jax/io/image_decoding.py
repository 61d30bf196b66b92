"""Bytes of one image file -> its header and its pixels, in whatever form the file holds them."""

import io
import re
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tifffile
from PIL import Image

from ssl_jax.errors import UserError

ORIENTATION = 274  # the EXIF and TIFF tag
TIFF_MAGIC = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
JPEG_MAGIC = b'\xff\xd8'
GREY_MODES = ('1', 'L', 'LA', 'La', 'I', 'F')


class Header(NamedTuple):
  """What is known of an image before its pixels are decoded."""

  height: int
  width: int
  channels: int  # 1 or 3, as decode gives them
  dtype: np.dtype  # uint8, uint16 or float32, as decode gives it


class Raw(NamedTuple):
  """Pixels as the file holds them, upright."""

  pixels: np.ndarray  # [H, W] or [H, W, C]
  palette: np.ndarray | None  # [entries, 3] uint8; the pixels are then indices into it


def header(data: bytes, name: str) -> Header:
  """Reads an image's header, and finds a file that was cut short, without decoding it.

  Raises UserError naming the file where it is not a readable single image.
  """
  return _guard(_tiff_header if data[:4] in TIFF_MAGIC else _pillow_header, data, name)


def raw(data: bytes, name: str) -> Raw:
  """Decodes an image as the file holds it, upright; raises UserError naming the file."""
  return _guard(_tiff_raw if data[:4] in TIFF_MAGIC else _pillow_raw, data, name)


def _guard(read: Callable, data: bytes, name: str) -> Any:
  if not data:
    raise UserError(f'{name} is an empty file; replace or remove it.')
  try:
    return read(data, name)
  except UserError:
    raise
  # Decoders answer broken bytes with any error there is (OSError, SyntaxError, struct.error, ...).
  except Exception as error:
    said = re.sub(r' <_io\.[^>]*>', '', str(error))  # names no file: it was read from memory
    reason = ' '.join(said.split())[:120] or type(error).__name__
    raise UserError(
      f'{name} cannot be read as a PNG, JPEG, BMP or TIFF image ({reason}); '
      'it is corrupt or cut short: replace or remove it.'
    ) from error


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
  """Undoes the eight orientations of EXIF; a value outside 1..8 means upright."""
  turned = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
    8: lambda x: x.swapaxes(0, 1)[::-1],
  }.get(orientation)
  return np.ascontiguousarray(turned(pixels) if turned else pixels)


def _pillow_open(data: bytes) -> Image.Image:
  return Image.open(io.BytesIO(data), formats=('PNG', 'JPEG', 'BMP'))


def _png_depth(data: bytes) -> tuple[int, int]:
  """Bits a sample and colour type of a PNG; (8, 2) for other formats."""
  return (data[24], data[25]) if data[:4] == b'\x89PNG' else (8, 2)


def _pillow_header(data: bytes, name: str) -> Header:
  end = b'IEND' if data[:4] == b'\x89PNG' else b'\xff\xd9' if data[:2] == JPEG_MAGIC else b''
  with _pillow_open(data) as image:
    if end not in data:
      raise ValueError('its end is missing')
    if image.format == 'BMP' and len(data) < struct.unpack('<I', data[10:14])[0]:
      raise ValueError('its pixels are missing')
    width, height = image.size
    if image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8):
      width, height = height, width
    grey = image.mode in GREY_MODES or image.mode.startswith('I;16')
    deep = _png_depth(data)[0] == 16 or image.mode.startswith('I')
    return Header(height, width, 1 if grey else 3, np.dtype('uint16' if deep else 'uint8'))


def _pillow_raw(data: bytes, name: str) -> Raw:
  with _pillow_open(data) as image:
    image.load()
    orientation = image.getexif().get(ORIENTATION, 1)
    depth, colour = _png_depth(data)
    if depth == 16 and colour != 0:
      import imagecodecs  # Pillow would silently halve the depth of 16-bit RGB

      return Raw(_upright(imagecodecs.png_decode(data), orientation), None)
    if image.mode == 'P':
      palette = np.asarray(image.getpalette('RGB'), np.uint8).reshape(-1, 3)
      return Raw(_upright(np.asarray(image), orientation), palette)
    if image.mode == '1':
      image = image.convert('L')
    elif image.mode in ('CMYK', 'YCbCr', 'LAB', 'HSV', 'PA'):
      image = image.convert('RGB')
    pixels = np.asarray(image)
    if pixels.dtype == np.int32:
      pixels = pixels.astype(np.uint16)  # Pillow's mode I is a 16-bit PNG
    return Raw(_upright(pixels, orientation), None)


def _tiff_page(tif: tifffile.TiffFile, name: str) -> tifffile.TiffPage:
  pages = [page for page in tif.pages if not getattr(page, 'is_reduced', False)]
  series = tif.series[0]
  planes = len(pages) if len(pages) > 1 else 1
  deep = series.size // max(1, _page_samples(pages[0])) if pages else 0
  if planes > 1 or deep > 1 or not {'Y', 'X'} <= set(pages[0].axes):
    raise UserError(
      f'{name} is a stack of {max(planes, deep)} images (axes {series.axes}), '
      'and this needs single 2-D images; save each slice as a file of its own.'
    )
  return pages[0]


def _page_samples(page: tifffile.TiffPage) -> int:
  return page.imagelength * page.imagewidth * page.samplesperpixel


def _tiff_orientation(page: tifffile.TiffPage) -> int:
  tag = page.tags.get(ORIENTATION)
  return int(tag.value) if tag is not None else 1


def _tiff_header(data: bytes, name: str) -> Header:
  with tifffile.TiffFile(io.BytesIO(data)) as tif:
    page = _tiff_page(tif, name)
    ends = zip(page.dataoffsets, page.databytecounts, strict=True)
    if max(start + count for start, count in ends) > len(data):
      raise ValueError('its end is missing')
    height, width = page.imagelength, page.imagewidth
    if _tiff_orientation(page) in (5, 6, 7, 8):
      height, width = width, height
    coloured = page.samplesperpixel >= 3 or page.photometric == tifffile.PHOTOMETRIC.PALETTE
    kinds = {'uint16': 'uint16', 'uint8': 'uint8', 'bool': 'uint8'}
    kind = 'uint8' if page.photometric == 3 else kinds.get(str(page.dtype), 'float32')
    return Header(height, width, 3 if coloured else 1, np.dtype(kind))


def _tiff_raw(data: bytes, name: str) -> Raw:
  with tifffile.TiffFile(io.BytesIO(data)) as tif:
    page = _tiff_page(tif, name)
    pixels = page.asarray()
    if page.axes.startswith('S'):  # planes of colour one after the other
      pixels = np.moveaxis(pixels, 0, -1)
    if pixels.dtype == bool:
      pixels = pixels.astype(np.uint8) * 255
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and pixels.dtype.kind == 'u':
      pixels = np.iinfo(pixels.dtype).max - pixels
    pixels = _upright(pixels, _tiff_orientation(page))
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
      colours = np.asarray(page.colormap).T  # [entries, 3] uint16
      return Raw(pixels, (colours >> 8).astype(np.uint8))
    return Raw(pixels, None)
