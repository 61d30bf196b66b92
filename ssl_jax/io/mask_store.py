"""Masks that a run keeps: PNG of images, NIfTI of volumes."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
from jaxtyping import Integer, UInt8

from ssl_jax.io import images, memmap_arrays, nifti

FOLDER = 'masks'
PIECES = 'pieces'


def write(folder: Path, name: str, mask: Integer[np.ndarray, '*space']) -> None:
  """Writes class ids as masks/NAME.png, those of a volume [z, y, x] as masks/NAME.nii.gz.

  A volume is written on the grid that the network sees, a voxel of it as 1 mm.
  """
  (folder / FOLDER).mkdir(parents=True, exist_ok=True)
  if mask.ndim == 2:
    images.write_mask(folder / FOLDER / f'{name}.png', mask)
    return
  grid = nibabel.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4))
  nifti.write_labels(folder / FOLDER / f'{name}.nii.gz', mask.transpose(), grid)


def read(folder: Path, name: str) -> UInt8[np.ndarray, '*space']:
  """Reads what `write` wrote."""
  volume = folder / FOLDER / f'{name}.nii.gz'
  if volume.exists():
    return nifti.read_labels(volume)[0].transpose()
  return images.read_mask(folder / FOLDER / f'{name}.png').astype(np.uint8)


def write_training_mask(folder: Path, name: str, mask: UInt8[np.ndarray, '*space']) -> None:
  """Writes a mask that a network is to learn from; of a volume also what pieces are read from."""
  write(folder, name, mask)
  if mask.ndim == 3:
    shutil.rmtree(folder / PIECES / name, ignore_errors=True)
    memmap_arrays.write(folder / PIECES / name, memmap_arrays.labelled(mask))


def read_training_mask(folder: Path, name: str) -> dict[str, np.ndarray]:
  """The part of a record that `write_training_mask` wrote: its label, and of a volume where its foreground is."""
  stored = folder / PIECES / name
  return memmap_arrays.read(stored) if stored.is_dir() else {'label': read(folder, name)}
