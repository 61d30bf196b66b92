"""The planes of a TIFF file: Z or T series, OME-TIFF, ImageJ hyperstacks, and huge images.

What the axes are comes from the metadata of OME, ImageJ and tifffile; where these do not say, from
the user (`--axes`).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tifffile

from ssl_jax.errors import UserError
from ssl_jax.io import image_decoding
from ssl_jax.io.formats import tiff_decoding
from ssl_jax.io.stacks import planes, tiff_metadata
from ssl_jax.io.stacks.planes import PLANE_AXES, Planes
from ssl_jax.io.stacks.tiff_regions import RegionReader

KNOWN = 'TZCYXS'


def is_tiff(path: Path) -> bool:
  """Returns whether a file begins as a TIFF does."""
  with path.open('rb') as file:
    return file.read(4) in tiff_decoding.MAGIC


def open_planes(path: Path, axes: str | None = None) -> Planes:
  """Opens a file; it stays open as long as its planes are used.

  Args:
    path: of the file.
    axes: what its axes are, in the order of the file; None: as it says itself.

  Raises:
    UserError: if the file is broken or of a kind that is not read, or does not say what its axes
      are.
  """
  name = str(path)
  return image_decoding.guard_reading(lambda: _open(path, axes, name), name)


def _open(path: Path, axes: str | None, name: str) -> Planes:
  tif = tifffile.TiffFile(path)
  series = tiff_decoding.find_series(tif, name)
  named, notes = _axes_of(series, axes, name)
  length = dict(zip(named, series.shape, strict=True))
  contents = tiff_decoding.contents_of_plane(series, length, name)
  tiff_decoding.check_complete(contents, path.stat().st_size)
  header = tiff_decoding.header_of(contents)
  reader = RegionReader(tif, series, name)
  stacked = [axis for axis in named if axis in PLANE_AXES]
  pages = _page_numbers(series, named)

  def read(plane: int, rows: slice, columns: slice) -> np.ndarray:
    parts = [reader.read(int(page), rows, columns) for page in pages[plane]]
    samples = np.moveaxis(np.concatenate(parts), 0, -1)
    if samples.dtype == bool:
      samples = samples.astype(np.uint8)
    stored = tiff_decoding.stored_image_of(samples, contents, header)
    return planes.as_samples(image_decoding.colors_of(stored), name)

  form, metadata = tiff_metadata.read(tif, series)
  return Planes(
    name,
    header,
    ''.join(stacked),
    tuple(length[axis] for axis in stacked),
    # A damaged strip or tile is noticed only when it is decoded.
    lambda *region: image_decoding.guard_reading(lambda: read(*region), name),
    form,
    metadata,
    tuple(notes),
    tif.close,
  )


def _axes_of(series: tifffile.TiffPageSeries, axes: str | None, name: str) -> tuple[str, list[str]]:
  """The axes of a series, and a note where they are others than it says itself."""
  own = series.axes
  unknown = [a for a, n in zip(own, series.shape, strict=True) if n > 1 and a not in KNOWN]
  # Only where rows, columns and samples stay what they are: an RGB image among stacks is no stack.
  fits = axes is not None and _frame(axes) == _frame(own)
  if axes is not None and fits:
    return axes, [f'axes {own} taken as {axes}, as --axes says'] * (axes != own)
  if unknown or not {'Y', 'X'} <= set(own):
    raise UserError(_question(series, axes, name))
  return own, []


def _frame(axes: str) -> str:
  """Axes with a dot for each that is neither rows, columns nor samples."""
  return ''.join(axis if axis in 'YXS' else '.' for axis in axes)


def _question(series: tifffile.TiffPageSeries, axes: str | None, name: str) -> str:
  """Asks what the axes of a file are."""
  shape = ' x '.join(map(str, series.shape))
  frame = ''.join(axis for axis in series.axes if axis in 'YXS')
  others = len(series.axes) - len(frame)
  if axes is not None:
    return (
      f'--axes={axes} does not fit {name}, whose {len(series.axes)} axes ({series.axes}) have the '
      f'lengths {shape}; give one letter for each of them, those of its pages as {frame}.'
    )
  if others == 1:
    choices = f'--axes=Z{frame} if they are slices, T{frame} if they are times'
    choices += f', C{frame} if they are channels' * ('S' not in frame)
  else:
    choices = f'as --axes={"TZC"[:others]}{frame} (T time, Z depth, C channels)'
  return (
    f'{name} holds pages whose meaning the file does not say (axes {series.axes}, {shape}); '
    f'say it: {choices}.'
  )


def _page_numbers(series: tifffile.TiffPageSeries, axes: str) -> np.ndarray:
  """The pages [planes, channels] of each plane."""
  # Samples that are stored apart count as pages (see RegionReader).
  frame = 3 if series.keyframe.shaped[4] > 1 else 2
  leading = dict(zip(axes[:-frame], series.shape[:-frame], strict=True))
  numbers = np.arange(int(np.prod([*leading.values()], dtype=int))).reshape(tuple(leading.values()))
  # Axes of planes first, in their order; what is left is channels, or of length 1.
  order = [i for i, axis in enumerate(leading) if axis in PLANE_AXES]
  order += [i for i in range(len(leading)) if i not in order]
  count = _count(leading)
  return numbers.transpose(order).reshape(count, -1)


def _count(length: Mapping[str, int]) -> int:
  return int(np.prod([n for axis, n in length.items() if axis in PLANE_AXES], dtype=int))
