"""Writes predictions for a folder of images into another one: masks, volumes, or cells."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Num
from tqdm import tqdm

from ssl_jax.data import volume_channels
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.data.image_kind import FileNotes
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.errors import UserError
from ssl_jax.inference import (
  cell_outputs,
  detection,
  image_outputs,
  instances,
  measurements,
  outputs,
  stacks,
  volume_outputs,
  volumes,
  write_planes,
  write_stack,
)
from ssl_jax.inference.images import BUDGET, predict_many
from ssl_jax.inference.input_files import InputFiles, Job
from ssl_jax.inference.new_image import NewImage, read_new_image
from ssl_jax.inference.outputs import FOR_IMAGES, FOR_VOLUMES, Wanted
from ssl_jax.inference.prediction_folder import PredictionFolder
from ssl_jax.inference.volumes import WindowSettings
from ssl_jax.io import listing
from ssl_jax.io.planes import Planes
from ssl_jax.types import PredictFn

ONE_OF_MANY = '--largest keeps one object of each class; this network predicts many.'


def write_masks(
  predict_fn: PredictFn,
  stats: DatasetStats,
  folder: Path,
  out: PredictionFolder,
  budget: int = BUDGET,
  wanted: Wanted = FOR_IMAGES,
  axes: str | None = None,
) -> list[str]:
  """Writes out/masks/NAME.png (class ids at native size), and what else is wanted.

  Stacks and images too large for memory get a mask of their own form (see stacks and write_planes).
  Returns one sentence for each image that could not be done; the others are done all the same.

  Args:
    predict_fn: gives class probabilities.
    stats: of the training data, as which the images are prepared.
    folder: images to predict.
    out: folder to write to.
    budget: pixels; larger images are cut into tiles.
    wanted: see outputs; large images are refused where it is not possible by blocks.
    axes: of stacks whose files do not say it, as in 'ZYX'.

  Raises:
    UserError: if the folder is missing or holds no image.
  """
  if stats.instances is not None and wanted.cleaning.largest:
    raise UserError(ONE_OF_MANY)
  templates = outputs.templates(wanted, stats, outputs.OF_IMAGES)
  files = InputFiles(folder, listing.PREDICTED, out, [*templates.values()])
  files.open_planes = lambda path: stacks.open_planes(path, axes)

  def outputs_of_planes(planes: Planes) -> list[str]:
    return [*write_planes.templates(planes, wanted, stats).values()]

  files.outputs_of_planes = outputs_of_planes

  def write_whole_stack(job: Job, notes: FileNotes) -> None:
    assert job.planes is not None
    with contextlib.closing(job.planes):
      task = stacks.BlockTask(stats, budget, wanted=wanted)
      kinds = write_planes.templates(job.planes, wanted, stats)
      named = dict(zip(kinds, job.files, strict=True))
      write_stack.write(predict_fn, job.planes, task, out, named, job.source, notes)

  readable = _ReadableImages(files, stats, write_whole_stack)

  def write(image: _Image, probs: np.ndarray) -> None:
    source = image.job.source
    prediction = image_outputs.decide(source.path, image.original, probs, stats, wanted)
    for kind, file in zip(templates, image.job.files, strict=True):
      with out.writing(file, source) as path:
        image_outputs.write(kind, path, prediction, wanted)

  for image, probs in _predictions(predict_fn, readable, budget):
    files.attempt(image.job.source.path, lambda i=image, p=probs: write(i, p))
    files.bar.update()
  files.bar.close()
  _write_tables(stats, out)
  return files.refused


def _write_tables(stats: DatasetStats, out: PredictionFolder) -> None:
  """The tables of all images or volumes."""
  if stats.instances is not None:
    instances.write_counts(out.path)
  else:
    measurements.write_all(out.path)


def write_volumes(
  predict_fn: PredictFn,
  stats: DatasetStats,
  windows: WindowSettings,
  folder: Path,
  out: PredictionFolder,
  wanted: Wanted = FOR_VOLUMES,
) -> list[str]:
  """Writes out/masks/NAME.nii.gz (class ids, with the volume's header), and what else is wanted.

  Returns one sentence for each volume that could not be done; the others are done all the same.

  Args:
    predict_fn: gives class probabilities of windows.
    stats: of the training data; it has the `preprocessing` of volumes.
    windows: how a volume goes through the network.
    folder: volumes to predict.
    out: folder to write to.
    wanted: see outputs.

  Raises:
    UserError: if the folder is missing or holds no volume, or the network was trained on images.
  """
  if stats.preprocessing is None:
    raise UserError('This network was trained on images, not on volumes; give it images.')
  # The spacing and the range of intensities of the training.
  preprocessing = VolumePreprocessing(**stats.preprocessing)
  if stats.instances is not None:
    if windows.largest or wanted.cleaning.largest:
      raise UserError(ONE_OF_MANY)
    windows = windows._replace(instances=stats.instances['min_size'])
  asked = wanted.probabilities or wanted.uncertainty
  windows = windows._replace(probabilities=asked, spread=wanted.spread)
  templates = volume_outputs.templates(wanted, stats)
  files = InputFiles(folder, listing.VOLUMES, out, [*templates.values()], stats.channels)

  def write(job: Job) -> None:
    volume, doubts = volume_channels.read_new_volume(job.paths, stats)
    for doubt in doubts:
      tqdm.write(f'Note: {doubt}.')
    segmentation = volumes.segment_volume(predict_fn, volume, preprocessing, windows)
    if segmentation.coarser:
      print(
        f'{job.source.path} does not fit into memory (or --budget): it was predicted with voxels '
        f'{volumes.COARSER:g} times as long.'
      )
    prediction = volume_outputs.decide(volume, segmentation, stats, wanted)
    for kind, file in zip(templates, job.files, strict=True):
      with out.writing(file, job.source) as path:
        volume_outputs.write(kind, path, prediction, wanted)

  for job in files:
    files.attempt(job.source.path, lambda j=job: write(j))
    files.bar.update()
  files.bar.close()
  _write_tables(stats, out)
  return files.refused


def write_cells(
  predict_fn: PredictFn,
  stats: DatasetStats,
  size: int,
  folder: Path,
  out: PredictionFolder,
  stride: int = 8,
  score: float | int = 0.5,
  radius: float | int = 12.0,
  wanted: Wanted = FOR_IMAGES,
) -> list[str]:
  """Writes out/points/NAME.csv (x, y, class, score), and what else is wanted.

  Returns one sentence for each image that could not be done; the others are done all the same.

  Args:
    predict_fn: gives the class of patches, and where in them their cell is.
    stats: of the training data, as which the images are prepared.
    size: side of the patches in pixels.
    folder: images to predict.
    out: folder to write to.
    stride: see detection.detect_cells.
    score: see detection.detect_cells.
    radius: see detection.detect_cells.
    wanted: pictures with rings, and points for QuPath and ImageJ.

  Raises:
    UserError: if the folder is missing or holds no image.
  """
  templates = cell_outputs.templates(wanted)
  files = InputFiles(folder, listing.IMAGES, out, [*templates.values()])

  def write(image: _Image) -> None:
    # Points need no scaling back to the original: `data.scale` is for masks only.
    cells = detection.detect_cells(predict_fn, image.prepared, size, stride, score, radius)
    for kind, file in zip(templates, image.job.files, strict=True):
      with out.writing(file, image.job.source) as path:
        cell_outputs.write(kind, path, cells, image.original.pixels, stats.classes)

  for image in _ReadableImages(files, stats):
    files.attempt(image.job.source.path, lambda i=image: write(i))
    files.bar.update()
  files.bar.close()
  return files.refused


class _Image(NamedTuple):
  """An image to predict."""

  job: Job
  original: NewImage  # for the overlay
  prepared: Num[np.ndarray, 'new_h new_w new_c']  # as training saw its own


class _ReadableImages:
  """The readable images of a folder, prepared as in training; the others are refused."""

  def __init__(
    self,
    files: InputFiles,
    stats: DatasetStats,
    write_whole: Callable[[Job, FileNotes], None] | None = None,
  ):
    self.files = files
    self._stats = stats
    # Stacks and large images are not given out: they are predicted and written at once.
    self._write_whole = write_whole
    self._notes = FileNotes()

  def __iter__(self) -> Iterator[_Image]:
    for job in self.files:
      if job.planes is not None and self._write_whole is not None:
        write = self._write_whole
        self.files.attempt(job.source.path, lambda j=job, w=write: w(j, self._notes))
        self.files.bar.update()
        continue
      read: list[_Image] = []
      if self.files.attempt(job.source.path, lambda j=job, r=read: r.append(self._read(j))):
        yield read[0]
      else:
        self.files.bar.update()
    for sentence in self._notes.sentences():
      tqdm.write(f'Note: {sentence}.')

  def _read(self, job: Job) -> _Image:
    image, prepared = read_new_image(job.source.path, self._stats, self._notes)
    return _Image(job, image, prepared)


def _predictions(
  predict_fn: PredictFn, readable: _ReadableImages, budget: int
) -> Iterator[tuple[_Image, np.ndarray]]:
  """Yields images and their class probabilities, not always in order.

  Images of a batch that fails are predicted one by one; those that fail alone are refused.
  """
  remaining = iter(readable)
  finished = False
  while not finished:
    # Read and not yet predicted, by position. Forgotten at once, so that a folder of large images
    # does not fill the memory.
    waiting: dict[int, _Image] = {}

    def feed(waiting: dict[int, _Image] = waiting) -> Iterator[np.ndarray]:
      for position, image in enumerate(remaining):
        waiting[position] = image
        yield image.prepared

    try:
      for position, probs in predict_many(predict_fn, feed(), budget=budget):
        yield waiting.pop(position), probs
      finished = True
    except Exception:
      for image in waiting.values():
        alone: list[np.ndarray] = []

        def predict(image: _Image = image, alone: list[np.ndarray] = alone) -> None:
          [(_, probs)] = predict_many(predict_fn, [image.prepared], batch=1, budget=budget)
          alone.append(probs)

        if readable.files.attempt(image.job.source.path, predict):
          yield image, alone[0]
        else:
          readable.files.bar.update()
