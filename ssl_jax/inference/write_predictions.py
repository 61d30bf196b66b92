"""Writes predictions for a folder of images into another one: masks, volumes, or cells."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Num
from tqdm import tqdm

from ssl_jax.data import dataset_stats
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.errors import UserError
from ssl_jax.inference import detection, instances, volumes
from ssl_jax.inference.images import BUDGET, predict_many
from ssl_jax.inference.volumes import WindowSettings
from ssl_jax.io import images, nifti, overlays
from ssl_jax.io.run_log import replace_text
from ssl_jax.types import PredictFn


def write_masks(
  predict_fn: PredictFn,
  stats: DatasetStats,
  folder: Path,
  out: Path,
  resume: bool = False,
  budget: int = BUDGET,
) -> list[str]:
  """Writes out/masks/NAME.png (class ids at native size) and out/overlays/NAME.png.

  Returns one sentence for each image that could not be read; the others are done all the same.

  Args:
    predict_fn: gives class probabilities.
    stats: of the training data, as which the images are prepared.
    folder: images to predict.
    out: folder to write to.
    resume: whether images that have an overlay already are skipped.
    budget: pixels; larger images are cut into tiles.

  Raises:
    UserError: if the folder is missing or holds no image.
  """
  _make_folders(out, 'masks', 'overlays')
  # The overlay is written last, so an image that has one is complete.
  readable = _ReadableImages(folder, stats, out / 'overlays' if resume else None)
  # Images are read as the predictions ask for them, not all in advance.
  predictions = predict_many(predict_fn, (image for _, image in readable), budget=budget)
  bar = tqdm(predictions, total=len(readable.paths), unit=' images', desc='predict')
  for position, probs in bar:
    # Not always in order: images of equal shape are predicted together.
    name, original = readable.take(position)
    if probs.shape[:2] != original.shape[:2]:  # training saw its images at another scale
      probs = images.resize(probs, original.shape[:2], smooth=True)
    # Resized as probabilities and only then decided, which gives smoother borders than resized ids.
    mask = probs.argmax(-1).astype(np.uint8)
    # The ids themselves are nearly black to look at; the overlay is for people.
    images.write_mask(out / 'masks' / f'{name}.png', mask)
    if stats.instances is not None:  # the overlay then shows each in a colour of its own
      mask = instances.write_image(out, name, probs, original, instances.native_min_size(stats))
    overlay = images.overlay(images.to_uint8(original), mask)
    images.write_image(out / 'overlays' / f'{name}.png', overlay)
  if stats.instances is not None:
    instances.write_counts(out)
  return readable.refused


def write_volumes(
  predict_fn: PredictFn,
  stats: DatasetStats,
  windows: WindowSettings,
  folder: Path,
  out: Path,
  resume: bool = False,
) -> list[str]:
  """Writes out/masks/NAME.nii.gz: class ids on each volume's own grid, with its header.

  Returns one sentence for each volume that could not be read; the others are done all the same.

  Args:
    predict_fn: gives class probabilities of windows.
    stats: of the training data; it has the `preprocessing` of volumes.
    windows: how a volume goes through the network.
    folder: volumes to predict.
    out: folder to write to.
    resume: whether volumes that have a mask already are skipped.

  Raises:
    UserError: if the folder is missing or holds no volume, or the network was trained on images.
  """
  if stats.preprocessing is None:
    raise UserError('This network was trained on images, not on volumes; give it images.')
  _make_folders(out, 'masks')
  # The spacing and the range of intensities of the training.
  preprocessing = VolumePreprocessing(**stats.preprocessing)
  if stats.instances is not None:
    if windows.largest:
      raise UserError('--largest keeps one object of each class; this network predicts many.')
    windows = windows._replace(instances=stats.instances['min_size'])
  # One file that cannot be read should not cost the predictions of the others.
  refused = []
  for path in tqdm(nifti.list_volumes(folder), unit=' volumes', desc='predict'):
    mask_path = out / 'masks' / f'{nifti.name_of(path)}.nii.gz'
    if resume and mask_path.exists():
      continue
    try:
      volume = nifti.read_volume(path)
    except UserError as error:
      refused.append(str(error))
      continue
    segmentation = volumes.segment_volume(predict_fn, volume, preprocessing, windows)
    if segmentation.coarser:
      print(
        f'{path} does not fit into memory (or --budget): it was predicted with voxels '
        f'{volumes.COARSER:g} times as long.'
      )
    # Before the mask: a volume that has one is complete.
    if segmentation.instances is not None:
      instances.write_volume(out, nifti.name_of(path), segmentation.instances, volume)
    # The header of the volume, so that viewers lay the mask onto it.
    nifti.write_labels(mask_path, segmentation.ids, volume.like)
  if stats.instances is not None:
    instances.write_counts(out)
  return refused


def write_cells(
  predict_fn: PredictFn,
  stats: DatasetStats,
  size: int,
  folder: Path,
  out: Path,
  resume: bool = False,
  stride: int = 8,
  score: float | int = 0.5,
  radius: float | int = 12.0,
) -> list[str]:
  """Writes out/points/NAME.csv (x, y, class, score), and out/overlays/NAME.png with rings.

  Returns one sentence for each image that could not be read; the others are done all the same.

  Args:
    predict_fn: gives the class of patches, and where in them their cell is.
    stats: of the training data, as which the images are prepared.
    size: side of the patches in pixels.
    folder: images to predict.
    out: folder to write to.
    resume: whether images that have an overlay already are skipped.
    stride: see detection.detect_cells.
    score: see detection.detect_cells.
    radius: see detection.detect_cells.

  Raises:
    UserError: if the folder is missing or holds no image.
  """
  _make_folders(out, 'points', 'overlays')
  readable = _ReadableImages(folder, stats, out / 'overlays' if resume else None)
  bar = tqdm(readable, total=len(readable.paths), unit=' images', desc='predict')
  for position, image in bar:
    # Points need no scaling back to the original: `data.scale` is for masks only.
    cells = detection.detect_cells(predict_fn, image, size, stride, score, radius)
    name, original = readable.take(position)
    csv_path = out / 'points' / f'{name}.csv'
    replace_text(csv_path, detection.cells_to_csv(cells, stats.classes))
    overlay = overlays.draw_cells(original, cells.points, cells.classes)
    images.write_image(out / 'overlays' / f'{name}.png', overlay)
  return readable.refused


def _make_folders(out: Path, *names: str) -> None:
  for name in names:
    (out / name).mkdir(parents=True, exist_ok=True)


class _ReadableImages:
  """The readable images of a folder, prepared as in training; the others are refused.

  Skips images of which there is a picture in the folder `done`.
  """

  def __init__(self, folder: Path, stats: DatasetStats, done: Path | None):
    self.refused: list[str] = []  # a sentence for each image that cannot be read
    self.paths: list[Path] = []
    self._names: list[str] = []
    self._stats = stats
    # Position -> name and pixels of images that were yielded and not yet taken.
    self._originals: dict[int, tuple[str, np.ndarray]] = {}
    paths = images.list_images(folder)
    # Names come from all files, also those that are skipped: they must not change with `resume`.
    for name, path in zip(output_names(paths), paths, strict=True):
      if done is None or not (done / f'{name}.png').exists():
        self._names.append(name)
        self.paths.append(path)

  def __iter__(self) -> Iterator[tuple[int, Num[np.ndarray, 'h w c']]]:
    # Positions count readable images only, as `predict_many` does.
    position = 0
    for name, path in zip(self._names, self.paths, strict=True):
      try:
        # Kept beside the prepared image for the overlay.
        original = images.read_image(path)
        prepared = dataset_stats.preprocess_image(original, self._stats, str(path))
      except UserError as error:
        self.refused.append(str(error))
        continue
      self._originals[position] = name, original
      yield position, prepared
      position += 1

  def take(self, position: int) -> tuple[str, Num[np.ndarray, 'h w c']]:
    """Returns the name and the pixels of the image yielded at a position, and forgets them."""
    # Forgotten at once, so that a folder of large images does not fill the memory.
    return self._originals.pop(position)


def output_names(paths: list[Path]) -> list[str]:
  """Returns stems, or whole file names where two images share a stem (a.png and a.jpg)."""
  # Without this, a.png and a.jpg would write the same output.
  stems = [path.stem for path in paths]
  return [path.stem if stems.count(path.stem) == 1 else path.name for path in paths]
