"""New images, checked against the images of the training and prepared as they were."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from ssl_jax.data import dataset_stats
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.data.masks.image_kind import FileNotes
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.errors import UserError
from ssl_jax.io import images
from ssl_jax.io.folders.listing import IMAGES
from ssl_jax.io.formats import nifti_geometry, stored_image
from ssl_jax.io.formats.quick_size import quick_size
from ssl_jax.types import CELLS


class NewImage(NamedTuple):
  """An image to predict, as a user sees it."""

  pixels: Num[np.ndarray, 'h w c']  # upright
  orientation: int  # of its file, by which it was turned
  masks_stored: bool  # whether the training's masks lay on the pixels as stored

  def as_drawn(self, upright: Num[np.ndarray, 'h w *c']) -> Num[np.ndarray, 'i j *c']:
    """Returns a mask, or maps, in the position in which the training's masks were drawn."""
    return stored_image.turn_back(upright, self.orientation) if self.masks_stored else upright


def read_new_image(
  path: Path, stats: DatasetStats, notes: FileNotes
) -> tuple[NewImage, Float[np.ndarray, 'h w c']]:
  """Returns an image, and what of it the network sees; adds conversions and doubts to the notes.

  Raises:
    UserError: naming the image, if it cannot be read, or is of another kind than those of the
      training.
  """
  name = str(path)
  pixels, header = images.decode_image_and_header(images.read_bytes(path), name)
  changes = dataset_stats.check_image(pixels, header, stats, name)
  prepared = dataset_stats.preprocess_image(pixels, stats, name)
  masks_stored = stats.image_kind().masks_stored
  for change in changes:
    if change == stored_image.TURNED and stats.task != CELLS:
      lies = 'the pixels as stored, like the training masks' if masks_stored else 'the turned image'
      change = f'{change}; its mask lies on {lies}'
    notes.add(change, path.name)
  return NewImage(pixels, header.orientation, masks_stored), prepared


def sizes_of_files(paths: Iterable[Path], stats: DatasetStats) -> list[tuple[int, int]]:
  """Returns the rows and columns of images as the network sees them, as far as headers tell.

  Files that cannot be read, and volumes, have none here.
  """
  sizes = []
  for path in paths:
    if path.name.lower().endswith(IMAGES.endings):
      size = quick_size(path)
      if size is not None:
        sizes.append(dataset_stats.preprocessed_size(size, stats))
  return sizes


def slice_sizes_of_files(paths: Iterable[Path], stats: DatasetStats) -> list[tuple[int, int]]:
  """Returns the rows and columns of volumes' slices as the network sees them, one of each volume.

  Files that cannot be read have none, nor have volumes that go through the network in windows.
  """
  if stats.preprocessing is None or not stats.preprocessing.get('slices'):
    return []
  preprocessing = VolumePreprocessing(**stats.preprocessing)
  sizes = []
  for path in paths:
    try:
      geometry = nifti_geometry.geometry_of(path)
    except UserError:
      continue  # told when the file is read
    size = preprocessing.slice_size(geometry.shape, geometry.spacing)
    if size is not None:
      sizes.append(size)
  return sizes
