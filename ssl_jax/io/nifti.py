"""NIfTI volumes in and out.

Arrays are [x, y, z] in RAS+ order (to the right, to the front, up), whatever order the file has;
what is written goes back to the file's own grid and header.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from jaxtyping import Integer, Num, UInt8
from nibabel import orientations

from ssl_jax.errors import UserError
from ssl_jax.io import atomic
from ssl_jax.io.folders import listing
from ssl_jax.io.formats import gzip_files, nifti_geometry

ENDINGS = listing.VOLUMES.endings
RAS = orientations.axcodes2ornt('RAS')


class Volume(NamedTuple):
  """A volume, and the image of its file, on whose grid a mask of it is written."""

  voxels: Num[np.ndarray, 'x y z *c']  # in RAS+; with a fourth axis where there are channels
  spacing: tuple[float, float, float]  # mm along x, y and z
  like: Any  # nibabel image: affine, header and order of axes of the file

  def channels(self) -> int:
    """Returns the number of channels."""
    return self.voxels.shape[3] if self.voxels.ndim == 4 else 1


def name_of(path: Path) -> str:
  """Returns a file's name, as text, without .nii.gz or .nii (or .NII.GZ).

  Raises:
    UserError: if it is too long for the files that a run writes.
  """
  return listing.name_for_outputs(path, listing.VOLUMES)


def read_volume(path: str | Path) -> Volume:
  """Reads a volume of one channel as float32.

  Raises:
    UserError: if the file is broken, is not three-dimensional, or holds values that are no numbers.
  """
  volume = _read(path)
  if volume.voxels.ndim != 3:
    raise UserError(
      f'{path} has the shape {volume.voxels.shape}, and a volume of one channel has three axes; '
      'split it.'
    )
  return volume


def read_channels(paths: str | Path | Sequence[str | Path]) -> Volume:
  """Reads a volume of any number of channels as float32: of one file, or a file a channel.

  The fourth axis of a file is channels, as it is in a NIfTI file of several MRI sequences.

  Raises:
    UserError: as `read_volume` does, or if files lie on different grids.
  """
  first, *others = [paths] if isinstance(paths, str | Path) else paths
  volume = _read(first)
  parts = [_with_channel_axis(volume.voxels)]
  for path in others:
    other = _read(path)
    same_grid = other.voxels.shape[:3] == volume.voxels.shape[:3]
    if not same_grid or not np.allclose(other.like.affine, volume.like.affine, rtol=0, atol=1e-2):
      raise UserError(
        f'{path} ({other.voxels.shape[:3]} voxels) does not lie on the grid of {Path(first).name} '
        f'({volume.voxels.shape[:3]} voxels), of which it is another channel; resample it to that.'
      )
    parts.append(_with_channel_axis(other.voxels))
  voxels = np.concatenate(parts, -1) if others else parts[0]
  return volume._replace(voxels=voxels[..., 0] if voxels.shape[-1] == 1 else voxels)


def _with_channel_axis(voxels: np.ndarray) -> np.ndarray:
  return voxels if voxels.ndim == 4 else voxels[..., None]


def load(path: str | Path) -> tuple[Any, np.ndarray]:
  """Returns the nibabel image of a file, and its numbers in the order of the file.

  The slope and intercept of its header are applied.

  Raises:
    UserError: if the file is broken.
  """
  try:
    # To the end, so that damaged bytes are noticed by their checksum.
    gzip_files.check(path)
    image: Any = nibabel.load(path)
    nifti_geometry.check_offset(image)
    return image, np.asanyarray(image.dataobj)
  # Readers raise any kind of error for broken bytes (OSError, zlib.error, HeaderDataError, ...).
  except Exception as error:
    raise gzip_files.unreadable(path, error) from error


def _read(path: str | Path) -> Volume:
  """A file of three or four axes."""
  image, raw = load(path)
  if raw.dtype.names:  # colors: records of R, G and B
    raw = np.stack([raw[name] for name in raw.dtype.names[:3]], -1)
  if raw.dtype.kind == 'c':
    raise UserError(f'{path} holds complex numbers; save their magnitude.')
  while raw.ndim > 3 and raw.shape[-1] == 1:  # many tools write a fourth axis of length 1
    raw = raw[..., 0]
  if raw.ndim == 5 and raw.shape[3] == 1:  # ITK writes channels along the fifth axis
    raw = raw[:, :, :, 0]
  if raw.ndim not in (3, 4) or min(raw.shape) < 1:
    advice = 'split it' if raw.ndim > 4 else 'give a whole volume'
    raise UserError(
      f'{path} has the shape {raw.shape}, and a volume has three axes, or four with channels; '
      f'{advice}.'
    )
  geometry = nifti_geometry.read_geometry(image, path)
  # Axes are permuted and flipped only, never resampled, so masks can be written back exactly.
  voxels = orientations.apply_orientation(raw, geometry.to_ras).astype(np.float32)
  if not np.isfinite(voxels).all():
    raise UserError(
      f'{path} holds values that are not numbers (NaN or infinite); replace them, with 0 say.'
    )
  return Volume(voxels, geometry.spacing, image)


def read_stored(path: str | Path) -> tuple[np.ndarray, Any]:
  """Reads the numbers of a volume as its file has them, [x, y, z] in RAS+, and its nibabel image.

  Raises:
    UserError: if the file is broken or is not three-dimensional.
  """
  # Whole numbers stay whole numbers, unless the header has a slope.
  image, raw = load(path)
  while raw.ndim > 3 and raw.shape[-1] == 1:  # many tools write a fourth axis of length 1
    raw = raw[..., 0]
  if raw.ndim != 3 or min(raw.shape) < 1:
    advice = 'split it' if raw.ndim > 3 else 'give a whole volume'
    raise UserError(f'{path} has the shape {raw.shape}, and a volume has three axes; {advice}.')
  # Refuses an affine without a direction along some axis, which has no orientation.
  geometry = nifti_geometry.read_geometry(image, path)
  return orientations.apply_orientation(raw, geometry.to_ras), image


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
  write_stored(path, orientations.apply_orientation(labels, from_ras), like, dtype)


def write_stored(
  path: str | Path, native: Integer[np.ndarray, 'i j k'], like: Any, dtype: type = np.uint8
) -> None:
  """Writes ids, in the order of axes of the image `like`, on its grid and with its header."""
  native = native.astype(dtype)
  header = like.header.copy()
  header.set_data_dtype(dtype)
  header.set_slope_inter(1, 0)  # ids are not scaled, even if the image's values were
  # The display range of the image would make viewers show the mask as black; 0 and 0 mean unset.
  header['cal_min'] = 0
  header['cal_max'] = 0
  with atomic.replacing(path) as temporary:
    nibabel.save(nibabel.Nifti1Image(native, like.affine, header), temporary)
