"""NIfTI volumes in and out, and the grids between which they are resampled.

Arrays are [x, y, z] in RAS+ order (to the right, to the front, up), whatever order the file has;
what is written goes back to the file's own grid and header.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from jaxtyping import Float, Integer, Num
from nibabel import orientations

from ssl_jax.errors import UserError
from ssl_jax.io import atomic
from ssl_jax.io.interpolation import interpolation

ENDINGS = ('.nii.gz', '.nii')
RAS = orientations.axcodes2ornt('RAS')

Box = tuple[slice, slice, slice]


class Volume(NamedTuple):
  """A volume as it is worked on, and the file's image that it came from."""

  voxels: Num[np.ndarray, 'x y z']
  spacing: tuple[float, float, float]  # mm
  like: Any  # nibabel image: affine, header and order of axes that a mask of it is to have


def list_volumes(folder: str | Path) -> list[Path]:
  """Lists a folder's NIfTI files by name; raises UserError where there is none."""
  folder = Path(folder)
  if not folder.is_dir():
    raise UserError(f'The folder {folder} does not exist; check the path.')
  found = sorted(p for p in folder.iterdir() if p.name.endswith(ENDINGS) and p.name[0] != '.')
  if not found:
    raise UserError(f'{folder} holds no volumes; put .nii.gz or .nii files in it.')
  return found


def name_of(path: Path) -> str:
  """The file's name without .nii.gz or .nii."""
  return next(path.name.removesuffix(e) for e in ENDINGS if path.name.endswith(e))


def read_volume(path: str | Path) -> Volume:
  """Reads a volume as float32; raises UserError where the file is broken or has not three axes."""
  try:
    image = nibabel.load(path)
    raw = np.asanyarray(image.dataobj)
  except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
    raise UserError(f'{path} cannot be read as NIfTI ({error}); get the file again.') from error
  while raw.ndim > 3 and raw.shape[-1] == 1:
    raw = raw[..., 0]
  if raw.ndim != 3 or min(raw.shape) < 1:
    raise UserError(f'{path} has the shape {raw.shape}, and a volume has three axes; split it.')
  spacing = np.abs(image.header.get_zooms()[:3])
  if not (np.isfinite(image.affine).all() and (spacing > 0).all()):
    raise UserError(f'{path} does not say how large its voxels are; correct its header.')
  voxels = orientations.apply_orientation(raw, _to_ras(image)).astype(np.float32)
  if not np.isfinite(voxels).all():
    raise UserError(f'{path} holds values that are no numbers; replace them.')
  turned = np.argsort(_to_ras(image)[:, 0])
  return Volume(voxels, tuple(float(s) for s in spacing[turned]), image)


def _to_ras(image: Any) -> np.ndarray:
  return orientations.ornt_transform(orientations.io_orientation(image.affine), RAS)


def read_labels(path: str | Path) -> tuple[Integer[np.ndarray, 'x y z'], Volume]:
  """Reads class ids as uint8, and the volume they came as; raises UserError where they are none."""
  volume = read_volume(path)
  ids = volume.voxels.astype(np.uint8)
  if (ids != volume.voxels).any():
    raise UserError(f'{path} holds values that are no class ids of 0..255; save whole numbers.')
  return ids, volume


def write_labels(path: str | Path, labels: Integer[np.ndarray, 'x y z'], like: Any) -> None:
  """Writes class ids [x, y, z] in RAS+ on the grid, and with the header, of the image `like`."""
  back = orientations.ornt_transform(RAS, orientations.io_orientation(like.affine))
  native = orientations.apply_orientation(labels, back).astype(np.uint8)
  header = like.header.copy()
  header.set_data_dtype(np.uint8)
  header.set_slope_inter(1, 0)
  header['cal_min'] = header['cal_max'] = 0
  with atomic.whole(path) as part:
    nibabel.save(nibabel.Nifti1Image(native, like.affine, header), part)


def grid(shape: Sequence[int], spacing: Sequence[float], wanted: Sequence[float]) -> list[int]:
  """Voxels along each axis at the `wanted` spacing: round(n spacing / wanted)."""
  each = zip(shape, spacing, wanted, strict=True)
  return [max(int(np.floor(n * mm / new + 0.5)), 1) for n, mm, new in each]


def resample(
  dense: Num[np.ndarray, 'x y z *c'], size: Sequence[int], nearest: bool = False
) -> Num[np.ndarray, 'i j k *c']:
  """Resamples the first three axes to `size` voxels over the same extent: linear, or nearest."""
  for axis, (old, new) in enumerate(zip(dense.shape, size, strict=False)):
    if old == new:
      continue
    if nearest:
      place = np.floor((np.arange(new) + 0.5) * (old / new)).astype(int)
      dense = np.take(dense, np.minimum(place, old - 1), axis)
    else:
      matrix = interpolation(old, new, align_corners=False)
      dense = np.moveaxis(np.tensordot(matrix, dense, (1, axis)), 0, axis)
  return dense


def foreground(voxels: Num[np.ndarray, 'x y z'], above: float | int = 0, margin: int = 0) -> Box:
  """The smallest box around all voxels above a value, `margin` voxels wider; all where none is."""
  mask, box = voxels > above, []
  for axis in range(3):
    along = np.flatnonzero(mask.any(tuple(a for a in range(3) if a != axis)))
    low, high = (along[0], along[-1] + 1) if len(along) else (0, voxels.shape[axis])
    box.append(slice(max(int(low) - margin, 0), min(int(high) + margin, voxels.shape[axis])))
  return tuple(box)


def window(
  voxels: Num[np.ndarray, 'x y z'], low: float | int, high: float | int, clip: bool = False
) -> Float[np.ndarray, 'x y z']:
  """Scales low..high to 0..1; what is outside becomes 0, or (`clip`) the nearer end."""
  scaled = (voxels.astype(np.float32) - low) / (high - low)
  inside = (scaled >= 0) & (scaled <= 1)
  return np.clip(scaled, 0, 1) if clip else np.where(inside, scaled, np.float32(0))
