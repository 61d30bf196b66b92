"""Bytes of one image file -> its header and its pixels, in the form that the file holds them."""

import re
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.io.formats import pillow_decoding, stored_image, tiff_decoding
from ssl_jax.io.formats.stored_image import Header, StoredImage

JPEG_MAGIC = b'\xff\xd8'
PNG_MAGIC = pillow_decoding.PNG_MAGIC
TIFF_MAGIC = tiff_decoding.MAGIC
ORIENTATION_TAG = stored_image.ORIENTATION_TAG

OTHER_FORMATS = (
  (0, b'GIF8', 'a GIF'),
  (8, b'WEBP', 'a WebP image'),
  (4, b'ftyphei', 'a HEIC image'),
  (4, b'ftypavif', 'an AVIF image'),
  (4, b'jP  ', 'a JPEG 2000 image'),
  (0, b'\xff\x4f\xff\x51', 'a JPEG 2000 image'),
  (0, b'\xff\x0a', 'a JPEG XL image'),
  (4, b'JXL ', 'a JPEG XL image'),
  (0, b'II\xbc', 'a JPEG XR image'),
  (0, b'P5', 'a PGM image'),
  (0, b'P6', 'a PPM image'),
  (0, b'8BPS', 'a Photoshop file'),
  (0, b'%PDF', 'a PDF'),
  (0, b'\x89HDF', 'an HDF5 file'),
  (0, b'\x93NUMPY', 'a NumPy array'),
  (0, b'ZISRAWFILE', 'a CZI file of ZEN'),
  (0, b'\xda\xce\xbe\x0a', 'an ND2 file of NIS-Elements'),
  (128, b'DICM', 'a DICOM file'),
  (0, b'PK\x03\x04', 'a ZIP archive'),
  (0, b'<!DOCTYPE', 'a web page'),
  (0, b'<!doctype', 'a web page'),
  (0, b'<html', 'a web page'),
  (0, b'version https://git-lfs', 'a pointer of Git LFS (git lfs pull gets the image)'),
)
"""First bytes of files that are not read here, whatever they are called: offset, bytes, name."""

Result = TypeVar('Result')


def decode_header(data: bytes, name: str) -> Header:
  """Reads the header of an image and checks that the file is complete, without decoding it.

  Raises:
    UserError: naming the file, if it is not one readable 2-D image.
  """
  # The content decides which decoder is used, not the ending of the name, which may be wrong.
  reader = tiff_decoding if data[:4] in TIFF_MAGIC else pillow_decoding
  return guard(reader.read_header, data, name)


def decode_stored(data: bytes, name: str) -> StoredImage:
  """Decodes the samples of an image as the file holds them, not turned.

  Raises:
    UserError: naming the file, if it is not one readable 2-D image.
  """
  reader = tiff_decoding if data[:4] in TIFF_MAGIC else pillow_decoding
  return guard(reader.read_samples, data, name)


def decode_colors(data: bytes, name: str) -> tuple[np.ndarray, Header]:
  """Decodes the samples [H, W, C] of an image: upright, without alpha, and as they are meant.

  Colors of a palette and of inks become RGB, or gray; high is bright, also where the file stores
  white as 0. The header says what was changed, and names alpha only where it is not opaque.

  Raises:
    UserError: naming the file, if it is not one readable 2-D image.
  """
  stored = decode_stored(data, name)
  header = stored.header
  if _is_transparent(stored):
    header = header._replace(changes=(*header.changes, stored_image.TRANSPARENT))
  return stored_image.turn(colors_of(stored), header.orientation), header


def colors_of(stored: StoredImage) -> np.ndarray:
  """Returns samples [H, W, C] as they are meant: palettes and inks as colors, high is bright."""
  samples = stored.samples
  if stored.palette is not None:
    # An index beyond the end of its palette takes the last color.
    colors = stored.palette[np.minimum(samples[..., 0], len(stored.palette) - 1)]
    return colors[..., : stored.header.channels]
  if stored.bits < 8:
    samples = np.rint(samples * (255 / (2**stored.bits - 1))).astype(np.uint8)
  if stored.white_is_zero:
    samples = np.iinfo(samples.dtype).max - samples
  if stored.inks:
    # Paper reflects what neither its ink nor black absorbs.
    largest = np.iinfo(samples.dtype).max
    light = 1 - samples.astype(np.float32) / largest
    samples = np.rint(light[..., :3] * light[..., 3:] * largest).astype(samples.dtype)
  return samples


def is_transparent(data: bytes, name: str) -> bool:
  """Returns whether an image has alpha that is not opaque everywhere.

  Raises:
    UserError: naming the file, if it is not one readable 2-D image.
  """
  return _is_transparent(decode_stored(data, name))


def _is_transparent(stored: StoredImage) -> bool:
  alpha = stored.alpha
  if alpha is None:
    return False
  opaque = 1 if alpha.dtype.kind == 'f' else np.iinfo(alpha.dtype).max
  return bool((alpha < opaque).any())


def guard(decode: Callable[[bytes, str], Result], data: bytes, name: str) -> Result:
  """Calls a decoder; turns whatever broken bytes make it raise into a UserError.

  Raises:
    UserError: naming the file, and what it is if it is none that is read here.
  """
  if not data:
    raise UserError(f'{name} is an empty file; replace or remove it.')
  for offset, magic, what in OTHER_FORMATS:
    if data[offset : offset + len(magic)] == magic:
      raise UserError(
        f'{name} cannot be read: its content is {what}, whatever its name says; save it as PNG or '
        'TIFF.'
      )
  return guard_reading(lambda: decode(data, name), name)


def guard_reading(read: Callable[[], Result], name: str) -> Result:
  """Calls a function that reads a file; turns whatever broken bytes make it raise into a UserError.

  Raises:
    UserError: naming the file.
  """
  try:
    return read()
  # The message of a UserError is already written for the user.
  except UserError:
    raise
  except MemoryError as error:
    raise UserError(f'{name} does not fit into memory; cut it into tiles.') from error
  # Decoders raise any kind of error for broken bytes (OSError, SyntaxError, struct.error, ...).
  except Exception as error:
    # Pillow names the file object, which means nothing here: it was read from memory.
    message = re.sub(r' <_io\.[^>]*>', '', str(error))
    reason = ' '.join(message.split())[:120] or type(error).__name__
    raise UserError(
      f'{name} cannot be read as a PNG, JPEG, BMP or TIFF image ({reason}); '
      'it is corrupt or cut short: replace or remove it.'
    ) from error
