"""Masks that a run keeps: PNG files of images, NIfTI files of volumes."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
from jaxtyping import Integer, UInt8

from ssl_jax.io import images, masks, memmap_arrays, nifti

FOLDER = 'masks'
ARRAYS_FOLDER = 'arrays'
"""Where training masks of volumes lie a second time, as arrays from which crops can be read."""


def write_mask(folder: Path, name: str, mask: Integer[np.ndarray, '*space']) -> None:
  """Writes class ids: of an image as masks/NAME.png, of a volume as masks/NAME.nii.gz.

  A volume [z, y, x] is written on the grid that the network sees, with voxels of 1 mm.

  Raises:
    UserError: if an image's mask holds ids outside 0..255.
  """
  (folder / FOLDER).mkdir(parents=True, exist_ok=True)
  # [H, W] is a mask of an image, [z, y, x] one of a volume.
  if mask.ndim == 2:
    images.write_mask(folder / FOLDER / f'{name}.png', mask)
    return
  # `write_labels` takes from this image the affine (the identity: 1 mm, RAS+) and the header; its
  # voxels are not used.
  grid = nibabel.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4))
  # NIfTI arrays are [x, y, z], ours [z, y, x].
  nifti.write_labels(folder / FOLDER / f'{name}.nii.gz', mask.transpose(), grid)


def read_mask(folder: Path, name: str) -> UInt8[np.ndarray, '*space']:
  """Reads a mask that `write_mask` wrote.

  Raises:
    UserError: if the file is missing or broken.
  """
  volume_path = folder / FOLDER / f'{name}.nii.gz'
  if volume_path.exists():
    return nifti.read_labels(volume_path)[0].transpose()
  return masks.read_mask(folder / FOLDER / f'{name}.png').astype(np.uint8)


def write_training_mask(folder: Path, name: str, mask: UInt8[np.ndarray, '*space']) -> None:
  """Writes a mask that a network is to learn from; a volume's also as arrays to crop from."""
  write_mask(folder, name, mask)
  if mask.ndim == 3:
    # A gzipped NIfTI file can only be read as a whole, too slow for a crop at every step.
    arrays_folder = folder / ARRAYS_FOLDER / name
    # `write_arrays` keeps a folder that is already there, and here that would be an older mask.
    shutil.rmtree(arrays_folder, ignore_errors=True)
    memmap_arrays.write_arrays(arrays_folder, memmap_arrays.with_foreground(mask))


def read_training_mask(folder: Path, name: str) -> dict[str, np.ndarray]:
  """Returns the part of a record that `write_training_mask` wrote.

  It is the label, and of a volume also the indices of its foreground.

  Raises:
    UserError: if the file is missing or broken.
  """
  arrays_folder = folder / ARRAYS_FOLDER / name
  if arrays_folder.is_dir():
    # Volumes: only the crop of the label that is asked for is read from the disk.
    return memmap_arrays.read_arrays(arrays_folder)
  return {'label': read_mask(folder, name)}
