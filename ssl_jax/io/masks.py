"""Mask files as the numbers that they store, of images and volumes alike."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer, Num

from ssl_jax.errors import UserError
from ssl_jax.io import image_decoding, images, nifti
from ssl_jax.io.formats import stored_image, tiff_decoding
from ssl_jax.io.formats.stored_image import StoredImage

TOLERANCE = 0.01
"""Numbers that are as near to a whole one are it: programs that scale values lose digits."""

MIN_SPREAD = 1e-5
"""Differences below are rounding errors."""

LARGEST = 2.0**53
"""Above it neighboring whole numbers are the same 64-bit float."""

COLOR_BITS = 16
"""Bits of a channel in a color that is written as one number."""


class StoredMask(NamedTuple):
  """A mask as its file holds it."""

  values: Num[np.ndarray, '*space']  # of a picture in color: one number a color (pack)
  colored: bool = False  # whether the values are colors
  palette: tuple[int, ...] = ()  # the color (packed) of each value, where the file has a palette
  bits: int = 8  # of a value
  notes: tuple[str, ...] = ()  # what was read otherwise than it is shown
  like: Any = None  # of a volume: nibabel image

  def colors(self) -> Integer[np.ndarray, '*space']:
    """Returns the color (packed) of each pixel; of plain numbers, their gray."""
    if self.colored:
      return self.values
    if self.palette:
      # An index beyond the end of its palette takes the last color.
      table = np.array(self.palette)
      return table[np.minimum(self.values, len(table) - 1)]
    return gray(self.values.astype(np.int64))


def pack(colors: Integer[np.ndarray, '*space 3']) -> Integer[np.ndarray, '*space']:
  """Returns one number for each red, green and blue."""
  red, green, blue = (colors[..., i].astype(np.int64) for i in range(3))
  return (red << 2 * COLOR_BITS) | (green << COLOR_BITS) | blue


def gray(value: Any) -> Any:
  """Returns the packed color of a gray value, or of many."""
  return (value << 2 * COLOR_BITS) | (value << COLOR_BITS) | value


def color_text(color: int) -> str:
  """Returns a packed color as web pages and `data.values` have it; of 16 bits as three numbers."""
  channels = unpack(color)
  if max(channels) > 255:
    return ','.join(map(str, channels))
  return '#{:02x}{:02x}{:02x}'.format(*channels)


def unpack(color: int) -> tuple[int, int, int]:
  """Returns red, green and blue of a packed color."""
  low = (1 << COLOR_BITS) - 1
  return color >> 2 * COLOR_BITS, (color >> COLOR_BITS) & low, color & low


def read_stored(path: str | Path) -> StoredMask:
  """Reads the numbers of a mask file: PNG, TIFF, BMP or NIfTI.

  Tags that say how a file is to be shown (white is zero, a palette) do not change them.

  Raises:
    UserError: if the file cannot be read or is a JPEG.
  """
  path = Path(path)
  if path.name.lower().endswith(nifti.ENDINGS):
    return _read_volume(path)
  data = images.read_bytes(path)
  # JPEG is lossy: near every boundary it would invent other class ids.
  if data[:2] == image_decoding.JPEG_MAGIC:
    raise UserError(
      f'{path} is a JPEG, which alters mask values; save masks as PNG or TIFF (not this file, but '
      'the drawing that it was made of).'
    )
  return _read_image(data, str(path))


def read_mask(path: str | Path) -> Integer[np.ndarray, '*space']:
  """Reads a mask as the whole numbers that its file holds; of a palette, the indices.

  Raises:
    UserError: if the file cannot be read, is a JPEG or colored, or holds fractions.
  """
  stored = read_stored(path)
  if stored.colored:
    raise UserError(
      f'{path} is a colored picture, not a mask; save it as one channel of class ids '
      '(0 = background).'
    )
  values, _ = whole_numbers(stored.values, path)
  return values


def whole_numbers(
  values: Num[np.ndarray, '*space'], path: str | Path
) -> tuple[Integer[np.ndarray, '*space'], float]:
  """Returns whole numbers, and how far a value was from one at most.

  Raises:
    UserError: naming a value that is further from a whole number than TOLERANCE, or so large that
      it names no class.
  """
  if values.dtype.kind in 'iu':
    return values, 0.0
  if values.dtype.kind == 'b':
    return values.astype(np.uint8), 0.0
  if values.dtype.kind != 'f':
    raise UserError(f'{path} holds {values.dtype} values and a mask needs whole numbers.')
  unknown = int(np.count_nonzero(~np.isfinite(values)))
  if unknown:
    raise UserError(
      f'{path} holds {count_text(unknown, values)} of no number (NaN or infinite) and a mask needs '
      'whole numbers; save class ids (255 = ignore).'
    )
  beyond = np.abs(values) > LARGEST
  if beyond.any():
    raise UserError(
      f'{path} holds {count_text(int(beyond.sum()), values)} of numbers as large as '
      f'{values[beyond].ravel()[0]:g} and a mask needs class ids (0 = background, 1 = the first '
      'class, ...); save those.'
    )
  rounded = np.rint(values)
  distance = np.abs(values - rounded)
  between = distance > TOLERANCE
  # Values that were divided by a large number are not all 0.
  if values.size and np.ptp(rounded) == 0 and np.ptp(values) > MIN_SPREAD:
    between = values != rounded
  if between.any():
    raise UserError(_fractions(values, between, path))
  return rounded.astype(np.int64), float(distance.max(initial=0.0))


def _fractions(values: np.ndarray, between: np.ndarray, path: str | Path) -> str:
  """What is wrong with a mask of fractions."""
  count = count_text(int(between.sum()), values)
  example = f'{count}, such as {values[between].ravel()[0]:g}'
  low, high = float(values.min()), float(values.max())
  if low == 0 < high < 1 and ((values == low) | (values == high)).all():
    return f'{path} holds the two numbers 0 and {high:g}, and a mask whole ones; save 0 and 1.'
  if low >= 0 and (high <= 1 or high == 255):
    top = 255 if high > 1 else 1
    return (
      f'{path} looks like a mask of 0 and {top} with smooth borders, or like probabilities '
      f'({example}, lie between); threshold it (at {top / 2:g}) and save whole numbers.'
    )
  return (
    f'{path} holds fractions ({example}) and a mask needs whole numbers; save class ids '
    '(0 = background, 1 = the first class, ...).'
  )


def count_text(count: int, mask: np.ndarray) -> str:
  """Returns a number of pixels, or of voxels, of a mask in words."""
  unit = 'voxel' if mask.ndim == 3 else 'pixel'
  return f'{count} {unit}{"s" * (count != 1)}'


def _read_image(data: bytes, name: str) -> StoredMask:
  """A PNG, BMP or TIFF."""
  try:
    stored = image_decoding.decode_stored(data, name)
  except tiff_decoding.StackOfImages as error:
    # What helps an image, to call its planes channels, does not help a mask.
    raise UserError(
      f'{name} is a stack of {error.count} images and a mask is one image of class ids; save the '
      'image that holds them, or merge the images (1 where the first is marked, 2 where the second '
      'is, ..., 0 elsewhere).'
    ) from error
  if stored.lossy:
    raise UserError(
      f'{name} is compressed as JPEG, which alters mask values; save masks without it (not this '
      'file, but the drawing that it was made of).'
    )
  palette: tuple[int, ...] = ()
  notes: tuple[str, ...] = ()
  if stored.palette is not None:
    palette = tuple(pack(stored.palette).tolist())
    notes = ('of masks with a palette the indices are read, not the colors',)
    if _inverts(stored.palette):
      notes = (
        'of masks with an inverting palette the indices are read as they are stored (1 is '
        'foreground), though viewers show them inverted',
      )
  if stored.white_is_zero:
    notes = (
      'masks of which a tag says that white is zero are read as they are stored (1, or True, is '
      'foreground), though viewers show them inverted',
    )
  if stored.alpha is not None:
    notes = (*notes, 'transparency (alpha) of masks is left out')
    _check_alpha(stored, name)
  pixels = stored_image.turn(stored.samples, stored.header.orientation)
  bits = stored.bits if stored.bits < 8 else pixels.dtype.itemsize * 8
  return _one_channel(StoredMask(pixels, False, palette, bits, notes), name)


def _inverts(palette: np.ndarray) -> bool:
  """Whether a palette shows 0 as white and larger indices as darker grays."""
  steps = np.diff(palette[:, 0].astype(int))
  is_gray = (palette == palette[:, :1]).all()
  # Entries behind the last that is used are often black.
  return bool(is_gray and palette[0, 0] == 255 and len(steps) > 0 and steps[0] < 0)


def _check_alpha(stored: StoredImage, name: str) -> None:
  """Raises UserError for a picture whose shapes are all in its transparency."""
  samples, alpha = stored.samples, stored.alpha
  assert alpha is not None
  if (samples == samples[:1, :1]).all() and (alpha != alpha[0, 0]).any():
    raise UserError(
      f'{name} has one color everywhere and its shapes in the alpha channel; save it as one '
      'channel of class ids (0 = background).'
    )


def _read_volume(path: Path) -> StoredMask:
  """A NIfTI file, in RAS+."""
  voxels, image = nifti.read_stored(path)
  # Colors are records of R, G and B (and A).
  if voxels.dtype.names:
    colors = np.stack([voxels[name] for name in voxels.dtype.names[:3]], -1)
    return _one_channel(StoredMask(colors, like=image), str(path))
  scaled = (image.dataobj.slope, image.dataobj.inter) != (1.0, 0.0)
  notes = ('values of masks are scaled as their headers say (scl_slope, scl_inter)',) * scaled
  return StoredMask(voxels, False, (), voxels.dtype.itemsize * 8, notes, image)


def _one_channel(mask: StoredMask, name: str) -> StoredMask:
  """A mask [*space, C] with one number for each pixel."""
  pixels = mask.values
  if pixels.dtype.kind == 'b':
    pixels = pixels.astype(np.uint8)
  channels = pixels.shape[-1]
  if channels == 1:
    return mask._replace(values=np.ascontiguousarray(pixels[..., 0]))
  if channels != 3:
    raise UserError(
      f'{name} has {channels} channels and a mask has one; save one channel of class ids (where '
      'structures overlap, a pixel belongs to the upper one).'
    )
  # Some programs save masks as RGB; with equal channels the ids are still clear.
  if (pixels == pixels[..., :1]).all():
    return mask._replace(values=np.ascontiguousarray(pixels[..., 0]))
  if pixels.dtype.kind not in 'iu':
    raise UserError(f'{name} has three channels of fractions; save one channel of class ids.')
  return mask._replace(values=pack(pixels), colored=True)
