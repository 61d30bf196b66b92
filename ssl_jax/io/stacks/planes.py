"""Image files of many planes, or too large for memory, read plane by plane and in parts."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.io.formats.stored_image import Header

PLANE_AXES = 'TZ'
"""Axes along which there are planes: time and depth."""

LARGE = 32_000_000
"""Pixels of a plane above which it is never held in memory as a whole."""

TIFF, OME_TIFF, IMAGEJ, NIFTI, OME_ZARR = 'tiff', 'ome', 'imagej', 'nifti', 'zarr'
"""Forms of files, in which predictions for them are written as well."""

ENDINGS = {TIFF: '.tif', OME_TIFF: '.tif', IMAGEJ: '.tif', NIFTI: '.nii.gz', OME_ZARR: '.zarr'}


class Planes(NamedTuple):
  """The planes of a file, each an image of one size.

  `read(plane, rows, columns)` gives a part [h, w, C] of a plane as `images.decode_image` gives an
  image; planes are numbered with the last of `axes` running fastest.
  """

  name: str
  header: Header  # of one plane
  axes: str  # of PLANE_AXES, in the order of the file; '' for a single plane
  shape: tuple[int, ...]  # number of planes along each axis
  read: Callable[[int, slice, slice], np.ndarray]
  form: str  # one of ENDINGS
  metadata: Mapping[str, Any]  # what is written again, as the form has it
  notes: tuple[str, ...] = ()  # what was taken for what
  close: Callable[[], object] = tuple  # releases the file; nothing may be read after it

  def count(self) -> int:
    """Returns the number of planes."""
    return int(np.prod(self.shape, dtype=int))

  def is_large(self) -> bool:
    """Returns whether a plane is read and predicted by blocks."""
    return self.header.height * self.header.width > LARGE

  def position(self, plane: int) -> dict[str, int]:
    """Returns the index of a plane along each axis, as in {'t': 0, 'z': 3}."""
    indices = np.unravel_index(plane, self.shape) if self.shape else ()
    return {axis.lower(): int(i) for axis, i in zip(self.axes, indices, strict=True)}

  def read_plane(self, plane: int) -> np.ndarray:
    """Returns a whole plane [H, W, C]."""
    return self.read(plane, slice(0, self.header.height), slice(0, self.header.width))


def check_axes(axes: str | None) -> None:
  """Raises UserError for axes that no file can have."""
  if axes is None:
    return
  known = set(axes) <= set('TZCYXS')
  if not known or len(set(axes)) < len(axes) or not {'Y', 'X'} <= set(axes):
    raise UserError(
      f'--axes={axes} names no axes of an image; give one letter for each axis of the files, in '
      'their order: T time, Z depth, C channels, Y rows, X columns, S samples of a pixel (as ZYX).'
    )


def as_samples(pixels: np.ndarray, name: str) -> np.ndarray:
  """Returns pixels as uint8, uint16 or float32.

  Raises:
    UserError: naming the file, if they are not all numbers.
  """
  if pixels.dtype not in (np.uint8, np.uint16):
    pixels = pixels.astype(np.float32)
    if not np.isfinite(pixels).all():
      raise UserError(f'{name} holds values that are not numbers (NaN or infinite); replace them.')
  return np.ascontiguousarray(pixels)
