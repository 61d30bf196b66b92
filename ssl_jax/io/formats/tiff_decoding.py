"""Bytes of a TIFF file -> its header and its samples.

Axes are read from the metadata of OME, ImageJ and tifffile: planes along C are channels, whatever
is along Z, T or an axis without a name is a stack. Samples of a pixel are channels as well, but
those that the tag ExtraSamples calls alpha.
"""

import io
import struct
from collections.abc import Mapping
from typing import NamedTuple, cast

import numpy as np
import tifffile

from ssl_jax.errors import UserError
from ssl_jax.io.formats import stored_image
from ssl_jax.io.formats.stored_image import CHANNELS, GRAY, RGB, Header, StoredImage

PHOTOMETRIC = tifffile.PHOTOMETRIC

# TIFF may be little-endian (II) or big-endian (MM), and BigTIFF (+), whose files may exceed 4 GB.
MAGIC = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')

MANY_CHANNELS = 16
"""An axis that is shorter may hold channels."""

ALPHA = (1, 2)
"""Values of the tag ExtraSamples that mean alpha; 0 is a channel of data."""

COLORS = {
  PHOTOMETRIC.MINISWHITE: 1,
  PHOTOMETRIC.MINISBLACK: 1,
  PHOTOMETRIC.PALETTE: 1,
  PHOTOMETRIC.RGB: 3,
  PHOTOMETRIC.SEPARATED: 4,
  PHOTOMETRIC.YCBCR: 3,
}
"""Color spaces that are read, and their samples a pixel."""

JPEG_COMPRESSIONS = (6, 7, 33007, 34892)
"""Compressions whose decoder makes RGB of YCbCr."""

LOSSY_COMPRESSIONS = (*JPEG_COMPRESSIONS, 33003, 33005)
"""Compressions that alter values: JPEG, and JPEG 2000 as slide scanners use it."""


class StackOfImages(UserError):
  """A file holds several images where one is needed."""

  def __init__(self, sentence: str, count: int):
    super().__init__(sentence)
    self.count = count


class Contents(NamedTuple):
  """The one image of a file, and where its channels are."""

  series: tifffile.TiffPageSeries
  page: tifffile.TiffPage  # the first one
  channel_axis: str  # 'C', 'S', or '' where there is one channel
  kept: list[int]  # indices of the samples that are no alpha
  alpha: int | None  # index of the first alpha sample
  orientation: int


def read_header(data: bytes, name: str) -> Header:
  """Returns the header of a complete file.

  Raises:
    UserError: if it is too large, a stack, or of a color space that is not read.
    Exception: of any kind, if the file is broken.
  """
  with tifffile.TiffFile(io.BytesIO(data)) as tif:
    contents = find_contents(tif, name)
    check_complete(contents, len(data))
    return header_of(contents)


def read_samples(data: bytes, name: str) -> StoredImage:
  """Returns the samples of a file; those of fewer than 8 bits are not stretched.

  Raises:
    UserError: if it is too large, a stack, or of a color space that is not read.
    Exception: of any kind, if the file is broken.
  """
  with tifffile.TiffFile(io.BytesIO(data)) as tif:
    contents = find_contents(tif, name)
    header = header_of(contents)
    series = contents.series
    samples = series.asarray().reshape(series.shape)
    axes = series.axes
    order = [axes.index(axis) for axis in ('Y', 'X', contents.channel_axis) if axis]
    # Axes of length 1 go last, and are dropped.
    order += [i for i in range(len(axes)) if i not in order]
    samples = samples.transpose(order)
    samples = samples.reshape(*samples.shape[:2], -1)
    if samples.dtype == bool:
      samples = samples.astype(np.uint8)
    return stored_image_of(samples, contents, header)


def stored_image_of(samples: np.ndarray, contents: Contents, header: Header) -> StoredImage:
  """Returns samples [H, W, C] of a plane, or of a part of one, with what they mean."""
  alpha = None if contents.alpha is None else samples[..., contents.alpha]
  # Without a copy where there is no alpha.
  if len(contents.kept) < samples.shape[-1]:
    samples = samples[..., contents.kept]
  photometric = contents.page.photometric
  palette = _palette(contents.page) if photometric == PHOTOMETRIC.PALETTE else None
  return StoredImage(
    samples,
    alpha,
    palette,
    header,
    bits=_bits(contents.page) if samples.dtype == np.uint8 else 8,
    white_is_zero=stored_image.INVERTED in header.changes,
    inks=photometric == PHOTOMETRIC.SEPARATED,
    lossy=contents.page.compression in LOSSY_COMPRESSIONS,
  )


def find_contents(tif: tifffile.TiffFile, name: str) -> Contents:
  """Finds the one image of a file; smaller copies of it (a pyramid) do not count.

  Raises:
    UserError: if there are several, or it is too large, or of a color space that is not read.
  """
  series = find_series(tif, name)
  length = dict(zip(series.axes, series.shape, strict=True))
  planes = int(np.prod([n for axis, n in length.items() if axis not in 'YXCS']))
  if planes > 1 or not {'Y', 'X'} <= set(series.axes):
    raise StackOfImages(_stack_message(name, planes, length), planes)
  stored_image.check_size(
    length['Y'], length['X'], max(length.get('C', 1), length.get('S', 1)), name
  )
  return contents_of_plane(series, length, name)


def find_series(tif: tifffile.TiffFile, name: str) -> tifffile.TiffPageSeries:
  """Returns the one image or stack of a file, without its smaller copies.

  Raises:
    UserError: if there are several, or the pages of a damaged file form a circle.
  """
  _check_chain(tif, name)
  images = [series for series in tif.series if not series.keyframe.is_reduced]
  if len(images) > 1:
    raise UserError(
      f'{name} holds {len(images)} images of different shapes; save each as a file of its own.'
    )
  return images[0]


def _check_chain(tif: tifffile.TiffFile, name: str) -> None:
  """Raises UserError where a page names an earlier one as the next: tifffile may never end."""
  form, handle = tif.tiff, tif.filehandle
  position = handle.tell()
  seen: set[int] = set()
  offset = tif.pages.first.offset
  try:
    # The last page names 0 as the next.
    while offset:
      if offset in seen:
        raise UserError(f'{name} is damaged: its pages form a circle; get the file again.')
      seen.add(offset)
      handle.seek(offset)
      [num_tags] = struct.unpack(form.tagnoformat, handle.read(form.tagnosize))
      handle.seek(offset + form.tagnosize + num_tags * form.tagsize)
      [offset] = struct.unpack(form.offsetformat, handle.read(form.offsetsize))
  # An offset outside of the file is for tifffile to name.
  except (struct.error, ValueError, OSError):
    pass
  finally:
    handle.seek(position)


def contents_of_plane(
  series: tifffile.TiffPageSeries, length: Mapping[str, int], name: str
) -> Contents:
  """Returns what a plane of a series holds, whose axes have the given lengths.

  Raises:
    UserError: if its samples are of a kind, or its colors of a space, that is not read.
  """
  page = cast(tifffile.TiffPage, series.keyframe)
  if length.get('C', 1) > 1 and length.get('S', 1) > 1:
    raise UserError(
      f'{name} has {length["C"]} channels of {length["S"]} samples each (axes {series.axes}); '
      'save one of them as RGB, or the channels with one sample each.'
    )
  # An OME-TIFF may be one of several files; the pages of the others would be read as zeros.
  if any(one is None for one in series.pages):
    raise UserError(
      f'{name} is one of several files of one OME-TIFF, whose planes are in the others; save it '
      'as one file.'
    )
  channel_axis = 'C' if length.get('C', 1) > 1 else 'S' if length.get('S', 1) > 1 else ''
  count = length.get(channel_axis, 1)
  if page.dtype is None or page.dtype.kind not in 'biuf':
    raise UserError(f'{name} holds samples of a kind ({page.dtype}) that is no brightness.')
  kept, alpha = [*range(count)], None
  if channel_axis == 'S':
    # The last samples are the additional ones, and each says what it is.
    first = count - len(page.extrasamples)
    alphas = [first + i for i, kind in enumerate(page.extrasamples) if kind in ALPHA]
    kept = [i for i in kept if i not in alphas]
    alpha = alphas[0] if alphas else None
  _check_colors(page, len(kept), name)
  tag = page.tags.get(stored_image.ORIENTATION_TAG)
  orientation = int(tag.value) if tag is not None else 1
  return Contents(series, page, channel_axis, kept, alpha, orientation)


def _stack_message(name: str, planes: int, length: dict[str, int]) -> str:
  """A stack may be slices, or channels whose file does not say so."""
  axes = ''.join(length)
  named = [axis for axis in axes if axis in 'ZT']
  size = f' of {length["Y"]} x {length["X"]} pixels' if {'Y', 'X'} <= set(axes) else ''
  what = f'along {" and ".join(named)}' if named else 'whose meaning the file does not say'
  # Rows, columns and channels in this order are taken for slices, rows and columns.
  channels_last = not named and length.get('X', MANY_CHANNELS) < MANY_CHANNELS < planes
  return (
    f'{name} is a stack of {planes} images{size} {what} (axes {axes}), and this needs single 2-D '
    'images; save each slice as a file of its own, or, if they are channels, as a TIFF whose axes '
    'say so (in Fiji: Image > Hyperstacks > Stack to Hyperstack; in Python: tifffile.imwrite(..., '
    "photometric='minisblack', metadata={'axes': 'CYX'})"
    + '; first np.moveaxis(array, -1, 0), if the last axis holds the channels' * channels_last
    + ').'
  )


def _check_colors(page: tifffile.TiffPage, count: int, name: str) -> None:
  """Raises UserError for colors that are neither data nor convertible."""
  photometric = page.photometric
  if photometric not in COLORS:
    colors = getattr(photometric, 'name', str(photometric))
    raise UserError(f'{name} holds colors of the kind {colors}, not read here; save it as RGB.')
  if photometric == PHOTOMETRIC.YCBCR and page.compression not in JPEG_COMPRESSIONS:
    raise UserError(f'{name} holds YCbCr colors without JPEG, not read here; save it as RGB.')
  inks = page.tags.valueof('InkSet', default=1)
  if photometric == PHOTOMETRIC.SEPARATED and (
    inks != 1 or count != 4 or page.dtype is None or page.dtype.kind != 'u'
  ):
    raise UserError(f'{name} holds inks other than CMYK; save it as RGB, or its inks as channels.')


def _bits(page: tifffile.TiffPage) -> int:
  # A tuple where the samples of a pixel differ, which tifffile stretches to 8 bits.
  return page.bitspersample if isinstance(page.bitspersample, int) else 8


def _palette(page: tifffile.TiffPage) -> np.ndarray:
  # The palette of a TIFF has 16 bits per color; the upper 8 are kept.
  return (np.asarray(page.colormap).T >> 8).astype(np.uint8)  # [entries, 3]


def check_complete(contents: Contents, size: int) -> None:
  """Raises ValueError where the end of the file is missing, without decoding it."""
  series = contents.series
  end = 0
  # ImageJ writes one page and keeps the other planes behind it.
  if series.dataoffset is not None:
    end = series.dataoffset + series.nbytes
  else:
    # The header lists where each strip or tile lies.
    for page in series.pages:
      segments = zip(page.dataoffsets, page.databytecounts, strict=True)
      end = max(end, *(start + count for start, count in segments))
  if end > size:
    raise ValueError('its end is missing')


def header_of(contents: Contents) -> Header:
  """Returns the header of the one image, or of a plane of a stack."""
  page = contents.page
  page_height, page_width = contents.page.imagelength, contents.page.imagewidth
  height, width = stored_image.upright_size(page_height, page_width, contents.orientation)
  changes = [stored_image.TURNED] if contents.orientation in range(2, 9) else []
  channels = len(contents.kept)
  dtype = {'uint16': 'uint16', 'uint8': 'uint8', 'bool': 'uint8'}.get(str(page.dtype), 'float32')
  layout = CHANNELS if channels > 1 else GRAY
  if contents.channel_axis == 'S' and channels == 3:
    # Three samples are colors where the file calls them so.
    layout = RGB if page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR) else CHANNELS
  bits = _bits(page)
  if page.photometric == PHOTOMETRIC.PALETTE:
    palette = _palette(page)
    layout = GRAY if (palette == palette[:, :1]).all() else RGB
    channels, dtype = 1 if layout == GRAY else 3, 'uint8'
    changes.append(f'palette became {layout}')
  elif page.photometric == PHOTOMETRIC.SEPARATED:
    channels, layout = 3, RGB
    changes.append('CMYK became RGB, by the plain formula without a color profile')
  elif bits == 1:
    changes.append('1 bit a pixel became 0 and 255')
  elif bits < 8:
    changes.append(f'{bits}-bit samples stretched to 8 bits')
  if page.photometric == PHOTOMETRIC.MINISWHITE and dtype != 'float32':
    changes.append(stored_image.INVERTED)
  return Header(
    height,
    width,
    channels,
    np.dtype(dtype),
    layout,
    contents.orientation,
    contents.alpha is not None,
    tuple(changes),
  )
