"""Physical sizes of the pixels and planes of a stack or a large image, in micrometers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_jax.io.formats.pixel_size import MICROMETERS, PixelSize, read_pixel_size
from ssl_jax.io.stacks.planes import NIFTI, OME_ZARR, Planes

NIFTI_UNITS = {'micron': 1.0, 'mm': 1e3, 'meter': 1e6, 'unknown': 1e3}
"""Length of units in micrometers, by their names in nibabel; files that name none mean mm."""

ZARR_UNITS = {
  f'{prefix}meter': factor
  for prefix, factor in (('nano', 1e-3), ('micro', 1.0), ('milli', 1e3), ('centi', 1e4), ('', 1e6))
}
"""Length of units in micrometers, by their names in OME-Zarr."""


def read_sizes(image: Planes) -> dict[str, float]:
  """Returns the distances of pixels along 'x' and 'y', and of planes along 'z' where it is known.

  Empty if the file does not say it.
  """
  if image.form == NIFTI:
    header = image.metadata['like'].header
    factor = NIFTI_UNITS[header.get_xyzt_units()[0]]
    zooms = zip('xyz', header.get_zooms(), strict=False)
    sizes = {axis: float(zoom) * factor for axis, zoom in zooms}
  elif image.form == OME_ZARR:
    sizes = _of_zarr(image.metadata['multiscale'], image.metadata['axes'])
  else:
    pixel = read_pixel_size(Path(image.name))
    sizes = {} if pixel is None else {'x': pixel.x, 'y': pixel.y}
  return {axis: size for axis, size in sizes.items() if 0 < size < float('inf')}


def pixel_of(sizes: Mapping[str, float]) -> PixelSize | None:
  """Returns the size of a pixel, or None where it is not known."""
  return PixelSize(sizes['x'], sizes['y']) if {'x', 'y'} <= set(sizes) else None


def _of_zarr(multiscale: Mapping[str, Any], axes: list[str]) -> dict[str, float]:
  """The scale of level 0 along the axes whose unit is known."""
  named = multiscale.get('axes') or ()
  units = {axis['name']: axis.get('unit') for axis in named if isinstance(axis, Mapping)}
  scale = dict.fromkeys(axes, 1.0)
  transforms = multiscale['datasets'][0].get('coordinateTransformations') or []
  # What holds for all levels comes after that of a level.
  for transform in (*transforms, *(multiscale.get('coordinateTransformations') or ())):
    if transform.get('type') == 'scale' and 'scale' in transform:
      for axis, factor in zip(axes, transform['scale'], strict=True):
        scale[axis] *= float(factor)
  sizes = {}
  for axis in 'xyz':
    unit = str(units.get(axis) or '')
    factor = ZARR_UNITS.get(unit, MICROMETERS.get(unit))
    if axis in scale and factor is not None:
      sizes[axis] = scale[axis] * factor
  return sizes
