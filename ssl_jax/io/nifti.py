"""NIfTI volumes in and out.

Arrays are [x, y, z] in RAS+ order (to the right, to the front, up), whatever order the file has;
what is written goes back to the file's own grid and header.
"""

from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from jaxtyping import Float, Integer, Num, UInt8
from nibabel import orientations
from nibabel.filebasedimages import ImageFileError

from ssl_jax.errors import UserError
from ssl_jax.io import atomic

ENDINGS = ('.nii.gz', '.nii')
RAS = orientations.axcodes2ornt('RAS')


class Volume(NamedTuple):
  """A volume, and the image of its file, on whose grid a mask of it is written."""

  voxels: Num[np.ndarray, 'x y z']  # in RAS+
  spacing: tuple[float, float, float]  # mm along x, y and z
  like: Any  # nibabel image: affine, header and order of axes of the file


def list_volumes(folder: str | Path) -> list[Path]:
  """Returns a folder's NIfTI files, sorted by name, without hidden ones.

  Raises:
    UserError: if the folder does not exist or holds none.
  """
  folder = Path(folder)
  if not folder.is_dir():
    raise UserError(f'The folder {folder} does not exist; check the path.')
  paths = [path for path in folder.iterdir() if path.name.endswith(ENDINGS)]
  paths = sorted(path for path in paths if not path.name.startswith('.'))
  if not paths:
    raise UserError(f'{folder} holds no volumes; put .nii.gz or .nii files in it.')
  return paths


def name_of(path: Path) -> str:
  """Returns a file's name without .nii.gz or .nii."""
  for ending in ENDINGS:
    if path.name.endswith(ending):
      return path.name.removesuffix(ending)
  return path.name


def read_volume(path: str | Path) -> Volume:
  """Reads a volume as float32.

  Raises:
    UserError: if the file is broken, is not three-dimensional, or holds values that are no numbers.
  """
  try:
    image: Any = nibabel.load(path)
    # `dataobj` applies the file's slope and intercept.
    raw = np.asanyarray(image.dataobj)
  except (OSError, EOFError, ValueError, ImageFileError) as error:
    raise UserError(f'{path} cannot be read as NIfTI ({error}); get the file again.') from error
  while raw.ndim > 3 and raw.shape[-1] == 1:  # many tools write a fourth axis of length 1
    raw = raw[..., 0]
  if raw.ndim != 3 or min(raw.shape) < 1:
    raise UserError(f'{path} has the shape {raw.shape}, and a volume has three axes; split it.')
  # Lengths in mm, in the order of the file's axes.
  spacing = np.abs(image.header.get_zooms()[:3])
  if not (np.isfinite(image.affine).all() and (spacing > 0).all()):
    raise UserError(f'{path} does not say how large its voxels are; correct its header.')
  # Axes are permuted and flipped only, never resampled, so masks can be written back exactly.
  to_ras = orientations.ornt_transform(orientations.io_orientation(image.affine), RAS)
  voxels = orientations.apply_orientation(raw, to_ras).astype(np.float32)
  if not np.isfinite(voxels).all():
    raise UserError(f'{path} holds values that are not numbers (NaN or infinite); replace them.')
  # The first column of `to_ras` says to which axis each axis of the file goes.
  x, y, z = (float(length) for length in spacing[np.argsort(to_ras[:, 0])])
  return Volume(voxels, (x, y, z), image)


def read_labels(path: str | Path) -> tuple[UInt8[np.ndarray, 'x y z'], Volume]:
  """Reads class ids, and the volume that holds them.

  Raises:
    UserError: if the file is broken or holds anything but whole numbers of 0..255.
  """
  volume = read_volume(path)
  # Fractions, negative values and values above 255 do not survive the cast.
  ids = volume.voxels.astype(np.uint8)
  if (ids != volume.voxels).any():
    raise UserError(
      f'{path} holds values that are not class ids (whole numbers of 0..255); '
      'save it with class ids.'
    )
  return ids, volume


def write_labels(
  path: str | Path, labels: Integer[np.ndarray, 'x y z'], like: Any, dtype: type = np.uint8
) -> None:
  """Writes ids, in RAS+, on the grid and with the header of the image `like`."""
  from_ras = orientations.ornt_transform(RAS, orientations.io_orientation(like.affine))
  # Back to the order of axes in the file.
  native = orientations.apply_orientation(labels, from_ras).astype(dtype)
  header = like.header.copy()
  header.set_data_dtype(dtype)
  header.set_slope_inter(1, 0)  # ids are not scaled, even if the image's values were
  # The display range of the image would make viewers show the mask as black; 0 and 0 mean unset.
  header['cal_min'] = 0
  header['cal_max'] = 0
  with atomic.replacing(path) as temporary:
    nibabel.save(nibabel.Nifti1Image(native, like.affine, header), temporary)


def ras_affine(like: Any) -> Float[np.ndarray, '4 4']:
  """Returns what turns indices of an array in RAS+ into positions in mm, of the image `like`."""
  to_ras = orientations.ornt_transform(orientations.io_orientation(like.affine), RAS)
  return like.affine @ orientations.inv_ornt_aff(to_ras, like.shape[:3])
