"""Where the voxels of a NIfTI file lie: lengths in mm, axes in RAS+, doubts about headers."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from jaxtyping import Float, Integer, Num
from nibabel import orientations
from nibabel.openers import ImageOpener

from ssl_jax.errors import UserError
from ssl_jax.io.formats import gzip_files

RAS = orientations.axcodes2ornt('RAS')

UNKNOWN, METER, MILLIMETER, MICROMETER = 0, 1, 2, 3
UNITS = {
  METER: ('meters', 1e3),
  MILLIMETER: ('millimeters', 1.0),
  MICROMETER: ('micrometers', 1e-3),
}
"""Codes of xyzt_units: their word, and their length in mm. A header without a unit means mm."""

TOLERANCE = 0.25
"""Fraction of a voxel that the corners of two grids may be apart and still count as one grid.

Headers round lengths; half a voxel is the smallest shift that programs make by mistake.
"""

SHEAR = 0.02
"""Cosine between two axes above which they are said not to be at right angles (about a degree)."""


class Geometry(NamedTuple):
  """Where the voxels of a file lie."""

  affine: Float[np.ndarray, '4 4']  # indices of the file's voxels -> mm
  to_ras: Num[np.ndarray, '3 2']  # how nibabel reorders the file's axes to RAS+
  shape: tuple[int, ...]  # of the file's first three axes, in RAS+
  spacing: tuple[float, float, float]  # mm along x, y and z
  unit: int  # code of the header's unit
  notes: tuple[str, ...] = ()  # what a user should know of the header


def geometry_of(path: str | Path) -> Geometry:
  """Returns the geometry of a file, of which only the header is read.

  Raises:
    UserError: if the file is broken, or does not say how large its voxels are.
  """
  return read_geometry(load_header(path), path)


def load_header(path: str | Path) -> Any:
  """Returns the nibabel image of a file, whose voxels are not read yet.

  Raises:
    UserError: if the file is broken.
  """
  try:
    image: Any = nibabel.load(path)
    check_offset(image)
    return image
  # Readers raise any kind of error for broken bytes (OSError, zlib.error, HeaderDataError, ...).
  except Exception as error:
    raise gzip_files.unreadable(path, error) from error


def check_offset(image: Any) -> None:
  """Raises ValueError for a file whose header says that voxels begin within it.

  Pairs of a header and an image file (.hdr, .img) have them from the first byte on.
  """
  offset, first = image.dataobj.offset, image.header.sizeof_hdr
  if image.header.is_single and offset < first:
    raise ValueError(f'its vox_offset is {offset}, within the header of {first} bytes')


def read_geometry(image: Any, path: str | Path) -> Geometry:
  """Returns the geometry of a nibabel image that was loaded from `path`.

  Raises:
    UserError: if its header does not say how large the voxels are.
  """
  unit = int(image.header['xyzt_units']) & 7
  _, scale = UNITS.get(unit, ('', 1.0))
  affine = np.array(image.affine, float)
  affine[:3] *= scale
  lengths = _stored_lengths(image, path)
  # Without an sform the affine is made of the stored lengths, in which nibabel replaces 0 by 1.
  unsized = not image.header['sform_code'] and not (lengths > 0).all()
  if unsized or not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
    shown = ' x '.join(f'{length:g}' for length in lengths)
    raise UserError(
      f'{path} does not say how large its voxels are (pixdim is {shown}); correct its header.'
    )
  to_ras = orientations.ornt_transform(orientations.io_orientation(affine), RAS)
  # The first column of `to_ras` says to which axis each axis of the file goes.
  order = np.argsort(to_ras[:, 0])
  x, y, z = (float(side) for side in np.linalg.norm(affine[:3, :3], axis=0)[order])
  shape = [int((*image.shape, 1, 1)[axis]) for axis in order]
  return Geometry(
    affine, to_ras, (shape[0], shape[1], shape[2]), (x, y, z), unit, _notes(image, lengths)
  )


def _stored_lengths(image: Any, path: str | Path) -> Float[np.ndarray, '3']:
  """The sides of a voxel as the header stores them, before nibabel corrects them on reading."""
  with ImageOpener(str(path)) as file:
    header = type(image.header).from_fileobj(file, check=False)
  return np.abs(np.array(header['pixdim'][1:4], float))


def _notes(image: Any, lengths: Float[np.ndarray, '3']) -> tuple[str, ...]:
  """What a header leaves open or says twice, and what we took."""
  notes = []
  unit = int(image.header['xyzt_units']) & 7
  word, scale = UNITS.get(unit, ('', 1.0))
  if unit not in (UNKNOWN, *UNITS):
    notes.append(f'the header has an unknown unit of length (code {unit}), taken as millimeters')
  if scale != 1:
    notes.append(f'lengths in the header are in {word} and were converted to millimeters')
  axes = np.array(image.affine, float)[:3, :3]
  sides = np.linalg.norm(axes, axis=0)
  # A hundredth: headers round.
  if not np.allclose(lengths, sides, rtol=0.01, atol=0):
    notes.append(
      f'the header has two sizes of a voxel: pixdim {text_of(lengths)}, sform {text_of(sides)} '
      f'(taken)'
    )
  if image.header['sform_code'] and image.header['qform_code']:
    try:
      second = image.header.get_qform()
    except ValueError:  # a quaternion that is none
      second = np.full((4, 4), np.nan)
    apart = voxels_apart(image.header.get_sform(), second, (*image.shape, 1, 1)[:3])
    # `not <=`, so that NaN is told as well.
    if not apart <= TOLERANCE:
      notes.append(f'sform and qform of the header differ by {apart:.3g} voxels; sform was taken')
  cosines = np.abs((axes / sides).T @ (axes / sides))[np.triu_indices(3, 1)]
  if cosines.max() > SHEAR:
    notes.append('the axes of the voxels are not at right angles; distances are approximate')
  return tuple(notes)


def text_of(lengths: Sequence[float | int] | Num[np.ndarray, '3']) -> str:
  """Returns three lengths, or numbers of voxels, for a message: 0.5 x 0.5 x 2."""
  return ' x '.join(f'{length:.4g}' for length in lengths)


def in_ras(geometry: Geometry) -> Float[np.ndarray, '4 4']:
  """Returns the affine of the array that is reordered to RAS+."""
  # `shape` of the file, which the reordering of `inv_ornt_aff` starts from.
  order = geometry.to_ras[:, 0].astype(int)
  stored = [geometry.shape[axis] for axis in order]
  return geometry.affine @ orientations.inv_ornt_aff(geometry.to_ras, stored)


def voxels_apart(
  first: Float[np.ndarray, '4 4'], second: Float[np.ndarray, '4 4'], shape: Sequence[int]
) -> float:
  """Returns how far the corners of a grid are apart under two affines, in voxels of the first."""
  # Outer corners: of a single slice these tell the thickness, too.
  corners = np.array([*itertools.product(*((-0.5, size - 0.5) for size in shape))])
  difference = corners @ (second - first)[:3, :3].T + (second - first)[:3, 3]
  return float(np.abs(np.linalg.inv(first[:3, :3]) @ difference.T).max())


def on_grid_of(
  ids: Integer[np.ndarray, 'x y z'],
  mask: tuple[Any, Path],
  image: tuple[Any, Path],
  ignore_affine: bool = False,
) -> Integer[np.ndarray, 'i j k']:
  """Returns the class ids of a mask, in RAS+, on the grid of its image.

  Args:
    ids: of the mask, in the RAS+ of its own header.
    mask: its nibabel image and its file.
    image: those of the image.
    ignore_affine: whether the header of the mask is not believed: it has the axes of its image.

  Raises:
    UserError: with the numbers, if the two have other shapes or lie at different places.
  """
  mask_path, image_path = mask[1], image[1]
  of_mask, of_image = read_geometry(*mask), read_geometry(*image)
  if ignore_affine:
    # Back to the order of the file, and from there as the image goes.
    back = orientations.ornt_transform(RAS, orientations.io_orientation(of_mask.affine))
    ids = orientations.apply_orientation(ids, back)
    ids = orientations.apply_orientation(ids, of_image.to_ras)
  if ids.shape != of_image.shape:
    # The same sides in another order are no accident.
    hint = ' (perhaps its axes are in another order)'
    same_sides = sorted(ids.shape) == sorted(of_image.shape)
    raise UserError(
      f'{mask_path} has {ids.shape} voxels but {image_path.name} has {of_image.shape}'
      f'{hint if same_sides else ""}; save the mask on the grid of its image.'
    )
  if ignore_affine:
    return ids
  first, second = in_ras(of_image), in_ras(of_mask)
  # Programs that write masks often copy the affine and forget its unit.
  if of_mask.unit == UNKNOWN and of_image.unit in UNITS:
    second[:3] *= UNITS[of_image.unit][1]
  apart = voxels_apart(first, second, of_image.shape)
  if apart > TOLERANCE:
    raise UserError(
      f'{mask_path} does not lie where {image_path.name} does: the corners are up to {apart:.3g} '
      f'voxels apart (allowed: {TOLERANCE:g}). {_place(second, "The mask")}, '
      f'{_place(first, "the image")} (RAS). Save the mask on the grid of its image, or, if the two '
      f'fit voxel by voxel in their files, set data.ignore_affine=True.'
    )
  return ids


def _place(affine: Float[np.ndarray, '4 4'], whose: str) -> str:
  origin = ', '.join(f'{mm:.4g}' for mm in affine[:3, 3])
  return (
    f'{whose} begins at ({origin}) mm with voxels of '
    f'{text_of(np.linalg.norm(affine[:3, :3], axis=0))} mm'
  )
