"""Masks that a run keeps: PNG of images, NIfTI of volumes."""

from pathlib import Path

import nibabel
import numpy as np
from jaxtyping import Integer, UInt8

from ssl_jax import images, volumes

FOLDER = 'masks'


def write(folder: Path, name: str, mask: Integer[np.ndarray, '*space']) -> None:
  """Writes class ids as masks/NAME.png, those of a volume [z, y, x] as masks/NAME.nii.gz.

  A volume is written on the grid that the network sees, a voxel of it as 1 mm.
  """
  (folder / FOLDER).mkdir(parents=True, exist_ok=True)
  if mask.ndim == 2:
    images.write_mask(folder / FOLDER / f'{name}.png', mask)
    return
  grid = nibabel.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4))
  volumes.write_labels(folder / FOLDER / f'{name}.nii.gz', mask.transpose(), grid)


def read(folder: Path, name: str) -> UInt8[np.ndarray, '*space']:
  """Reads what `write` wrote."""
  volume = folder / FOLDER / f'{name}.nii.gz'
  if volume.exists():
    return volumes.read_labels(volume)[0].transpose()
  return images.read_mask(folder / FOLDER / f'{name}.png').astype(np.uint8)
