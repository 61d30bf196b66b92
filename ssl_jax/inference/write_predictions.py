"""Writes predictions for a folder of images into another one: masks, volumes, or cells."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Num

from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.data.volumes import volume_channels
from ssl_jax.errors import UserError
from ssl_jax.inference import detection, instances, volumes
from ssl_jax.inference.blocks import stacks, write_planes, write_stack
from ssl_jax.inference.images import of_sizes, predict_many
from ssl_jax.inference.volumes import WindowSettings
from ssl_jax.inference.window_defaults import BUDGET
from ssl_jax.inference.writing import (
  cell_outputs,
  image_outputs,
  measurements,
  outputs,
  volume_outputs,
)
from ssl_jax.inference.writing.input_files import Files, InputFiles, Job
from ssl_jax.inference.writing.new_image import (
  NewImage,
  read_new_image,
  sizes_of_files,
  slice_sizes_of_files,
)
from ssl_jax.inference.writing.outputs import FOR_IMAGES, FOR_VOLUMES, Wanted
from ssl_jax.inference.writing.prediction_folder import PredictionFolder
from ssl_jax.io.folders import listing
from ssl_jax.io.stacks.planes import Planes
from ssl_jax.types import PredictFn

ONE_OF_MANY = '--largest keeps one object of each class; this network predicts many.'


@runtime_checkable
class Task(Protocol):
  """What is predicted of a folder of files, and how."""

  def files(self, folder: Path, out: PredictionFolder) -> InputFiles:
    """Returns the files of a folder that are still to do.

    Raises:
      UserError: if the folder is missing or holds none, or the task does not fit the network.
    """
    ...

  def sizes(self, files: InputFiles) -> Sequence[tuple[int, int]]:
    """Returns the rows and columns of all images as the network sees them; nothing of others."""
    ...

  def predict(self, predict_fn: PredictFn, files: Files, out: PredictionFolder) -> None:
    """Predicts files and writes what is wanted; those that cannot be done are refused."""
    ...

  def write_tables(self, out: PredictionFolder) -> None:
    """Writes the tables of all files."""
    ...


def write(predict_fn: PredictFn, task: Task, folder: Path, out: PredictionFolder) -> list[str]:
  """Predicts a folder; returns one sentence for each file that could not be done.

  Args:
    predict_fn: gives class probabilities; of cells, the class of patches and where their cell is.
    task: what is predicted.
    folder: files to predict.
    out: folder to write to.

  Raises:
    UserError: if the folder is missing or holds none, or the task does not fit the network.
  """
  files = task.files(folder, out)
  task.predict(of_sizes(predict_fn, task.sizes(files)), files, out)
  return finish(task, files, out)


def finish(task: Task, files: InputFiles, out: PredictionFolder) -> list[str]:
  """Tells and writes what is known once all files are done; returns what could not be done."""
  for sentence in files.notes.sentences():
    files.say(f'Note: {sentence}')
  files.bar.close()
  task.write_tables(out)
  return files.refused


class Masks(NamedTuple):
  """Writes out/masks/NAME.png (class ids at native size), and what else is wanted.

  Stacks and images too large for memory get a mask of their own form (see stacks and write_planes).
  """

  stats: DatasetStats  # of the training data, as which the images are prepared
  budget: int = BUDGET  # pixels; larger images are cut into tiles
  wanted: Wanted = FOR_IMAGES  # see outputs; of large images what is possible by blocks
  axes: str | None = None  # of stacks whose files do not say it, as in 'ZYX'

  def files(self, folder: Path, out: PredictionFolder) -> InputFiles:
    """Returns the images of a folder that are still to do.

    Raises:
      UserError: if the folder is missing or holds none, or the largest of many is wanted.
    """
    if self.stats.instances is not None and self.wanted.cleaning.largest:
      raise UserError(ONE_OF_MANY)
    templates = outputs.templates(self.wanted, self.stats, outputs.OF_IMAGES)
    files = InputFiles(folder, listing.PREDICTED, out, [*templates.values()])
    files.open_planes = lambda path: stacks.open_planes(path, self.axes)

    def outputs_of_planes(image: Planes) -> list[str]:
      return [*write_planes.templates(image, self.wanted, self.stats).values()]

    files.outputs_of_planes = outputs_of_planes
    return files

  def sizes(self, files: InputFiles) -> Sequence[tuple[int, int]]:
    """Returns the rows and columns of all images as the network sees them, as headers tell."""
    return sizes_of_files(files.paths(), self.stats)

  def predict(self, predict_fn: PredictFn, files: Files, out: PredictionFolder) -> None:
    """Predicts images, those of one size together."""
    templates = outputs.templates(self.wanted, self.stats, outputs.OF_IMAGES)

    def write_whole_stack(job: Job) -> None:
      assert job.planes is not None
      with contextlib.closing(job.planes):
        task = self.check_stack(job, files, out)
        write_stack.write(predict_fn, job.planes, task, out, job.files, job.source)

    readable = _ReadableImages(files, self.stats, write_whole_stack)

    def write(image: _Image, probs: np.ndarray) -> None:
      source = image.job.source
      prediction = image_outputs.decide(source.path, image.original, probs, self.stats, self.wanted)
      for kind, file in zip(templates, image.job.files, strict=True):
        with out.writing(file, source) as path:
          image_outputs.write(kind, path, prediction, self.wanted)

    for image, probs in _predictions(predict_fn, readable, self.budget):
      files.attempt(image.job.source.path, lambda i=image, p=probs: write(i, p))
      files.bar.update()

  def check_stack(self, job: Job, files: Files, out: PredictionFolder) -> stacks.BlockTask:
    """Returns how a stack or a large image is predicted; notes what is doubtful about it.

    Raises:
      UserError: if something is wanted that it cannot have, or it is unlike the training's images.
    """
    assert job.planes is not None
    task = stacks.BlockTask(self.stats, self.budget, wanted=self.wanted)
    write_stack.check(job.planes, task, out, job.files)
    stacks.check(job.planes, self.stats, files.notes)
    return task

  def write_tables(self, out: PredictionFolder) -> None:
    """Writes the counts of objects, or the measurements of classes."""
    _write_tables(self.stats, out)


class Volumes(NamedTuple):
  """Writes out/masks/NAME.nii.gz (class ids, with the volume's header), and what else is wanted."""

  stats: DatasetStats  # of the training data; it has the `preprocessing` of volumes
  windows: WindowSettings  # how a volume goes through the network
  wanted: Wanted = FOR_VOLUMES

  def files(self, folder: Path, out: PredictionFolder) -> InputFiles:
    """Returns the volumes of a folder that are still to do.

    Raises:
      UserError: if the folder is missing or holds none, the network was trained on images, or the
        largest of many is wanted.
    """
    if self.stats.preprocessing is None:
      raise UserError('This network was trained on images, not on volumes; give it images.')
    largest = self.windows.largest or self.wanted.cleaning.largest
    if self.stats.instances is not None and largest:
      raise UserError(ONE_OF_MANY)
    templates = volume_outputs.templates(self.wanted, self.stats)
    return InputFiles(folder, listing.VOLUMES, out, [*templates.values()], self.stats.channels)

  def sizes(self, files: InputFiles) -> Sequence[tuple[int, int]]:
    """Returns the rows and columns of slices; nothing of volumes that go through in windows."""
    return slice_sizes_of_files(files.paths(), self.stats)

  def predict(self, predict_fn: PredictFn, files: Files, out: PredictionFolder) -> None:
    """Predicts volumes one by one."""
    assert self.stats.preprocessing is not None
    # The spacing and the range of intensities of the training.
    preprocessing = VolumePreprocessing(**self.stats.preprocessing)
    windows = self.windows
    if self.stats.instances is not None:
      windows = windows._replace(instances=self.stats.instances['min_size'])
    asked = self.wanted.probabilities or self.wanted.uncertainty
    windows = windows._replace(probabilities=asked, spread=self.wanted.spread)
    templates = volume_outputs.templates(self.wanted, self.stats)

    def write(job: Job) -> None:
      volume, doubts = volume_channels.read_new_volume(job.paths, self.stats)
      for doubt in doubts:
        files.say(f'Note: {doubt}')
      segmentation = volumes.segment_volume(predict_fn, volume, preprocessing, windows)
      if segmentation.coarser:
        files.say(
          f'{job.source.path} does not fit into memory (or --budget): it was predicted with voxels '
          f'{volumes.COARSER:g} times as long'
        )
      prediction = volume_outputs.decide(volume, segmentation, self.stats, self.wanted)
      for kind, file in zip(templates, job.files, strict=True):
        with out.writing(file, job.source) as path:
          volume_outputs.write(kind, path, prediction, self.wanted)

    for job in files:
      files.attempt(job.source.path, lambda j=job: write(j))
      files.bar.update()

  def write_tables(self, out: PredictionFolder) -> None:
    """Writes the counts of objects, or the measurements of classes."""
    _write_tables(self.stats, out)


def _write_tables(stats: DatasetStats, out: PredictionFolder) -> None:
  if stats.instances is not None:
    instances.write_counts(out.path)
  else:
    measurements.write_all(out.path)


class Cells(NamedTuple):
  """Writes out/points/NAME.csv (x, y, class, score), and what else is wanted."""

  stats: DatasetStats  # of the training data, as which the images are prepared
  size: int  # side of the patches in pixels
  stride: int = 8  # see detection.detect_cells, as of the next two
  score: float | int = 0.5
  radius: float | int = 12.0
  wanted: Wanted = FOR_IMAGES  # pictures with rings, and points for QuPath and ImageJ

  def files(self, folder: Path, out: PredictionFolder) -> InputFiles:
    """Returns the images of a folder that are still to do.

    Raises:
      UserError: if the folder is missing or holds none.
    """
    templates = cell_outputs.templates(self.wanted)
    return InputFiles(folder, listing.IMAGES, out, [*templates.values()])

  def sizes(self, files: InputFiles) -> Sequence[tuple[int, int]]:
    """Returns nothing: the network sees patches of one size."""
    return ()

  def predict(self, predict_fn: PredictFn, files: Files, out: PredictionFolder) -> None:
    """Detects the cells of images one by one."""
    templates = cell_outputs.templates(self.wanted)
    settings = self.size, self.stride, self.score, self.radius

    def write(image: _Image) -> None:
      # Points need no scaling back to the original: `data.scale` is for masks only.
      cells = detection.detect_cells(predict_fn, image.prepared, *settings)
      for kind, file in zip(templates, image.job.files, strict=True):
        with out.writing(file, image.job.source) as path:
          cell_outputs.write(kind, path, cells, image.original.pixels, self.stats.classes)

    for image in _ReadableImages(files, self.stats):
      files.attempt(image.job.source.path, lambda i=image: write(i))
      files.bar.update()

  def write_tables(self, out: PredictionFolder) -> None:
    """Writes nothing: each image has a table of its own."""


class _Image(NamedTuple):
  """An image to predict."""

  job: Job
  original: NewImage  # for the overlay
  prepared: Num[np.ndarray, 'new_h new_w new_c']  # as training saw its own


class _ReadableImages:
  """The readable images of a folder, prepared as in training; the others are refused."""

  def __init__(
    self,
    files: Files,
    stats: DatasetStats,
    write_whole: Callable[[Job], None] | None = None,
  ):
    self.files = files
    self._stats = stats
    # Stacks and large images are not given out: they are predicted and written at once.
    self._write_whole = write_whole

  def __iter__(self) -> Iterator[_Image]:
    for job in self.files:
      if job.planes is not None and self._write_whole is not None:
        write = self._write_whole
        self.files.attempt(job.source.path, lambda j=job, w=write: w(j))
        self.files.bar.update()
        continue
      read: list[_Image] = []
      if self.files.attempt(job.source.path, lambda j=job, r=read: r.append(self._read(j))):
        yield read[0]
      else:
        self.files.bar.update()

  def _read(self, job: Job) -> _Image:
    image, prepared = read_new_image(job.source.path, self._stats, self.files.notes)
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
