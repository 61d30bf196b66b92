"""Writes predictions for a folder of images into another one: masks, volumes, or cells."""

import errno
from collections.abc import Callable, Iterator, Sequence
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
  volume_outputs,
  volumes,
)
from ssl_jax.inference.image_outputs import FOR_IMAGES, FOR_VOLUMES, Wanted
from ssl_jax.inference.images import BUDGET, predict_many
from ssl_jax.inference.new_image import NewImage, read_new_image
from ssl_jax.inference.output_names import output_names
from ssl_jax.inference.prediction_folder import PredictionFolder, Source, read_source
from ssl_jax.inference.volumes import WindowSettings
from ssl_jax.io import file_names, listing
from ssl_jax.io.listing import Kind
from ssl_jax.types import PredictFn

HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of writing that the next image would meet as well."""

ONE_OF_MANY = '--largest keeps one object of each class; this network predicts many.'


def write_masks(
  predict_fn: PredictFn,
  stats: DatasetStats,
  folder: Path,
  out: PredictionFolder,
  budget: int = BUDGET,
  wanted: Wanted = FOR_IMAGES,
) -> list[str]:
  """Writes out/masks/NAME.png (class ids at native size), and what else is wanted.

  Returns one sentence for each image that could not be done; the others are done all the same.

  Args:
    predict_fn: gives class probabilities.
    stats: of the training data, as which the images are prepared.
    folder: images to predict.
    out: folder to write to.
    budget: pixels; larger images are cut into tiles.
    wanted: see image_outputs.

  Raises:
    UserError: if the folder is missing or holds no image.
  """
  if stats.instances is not None and wanted.cleaning.largest:
    raise UserError(ONE_OF_MANY)
  templates = image_outputs.templates(wanted, stats)
  files = _Files(folder, listing.IMAGES, out, [*templates.values()])
  readable = _ReadableImages(files, stats)

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
    wanted: see image_outputs.

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
  files = _Files(folder, listing.VOLUMES, out, [*templates.values()], stats.channels)

  def write(job: _Job) -> None:
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
  files = _Files(folder, listing.IMAGES, out, [*templates.values()])

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


class _Job(NamedTuple):
  """A file to predict, and the names of what is written for it."""

  source: Source
  files: Sequence[str]  # inside the folder of predictions
  paths: Sequence[Path]  # of the source: several where channels of a volume are files


class _Image(NamedTuple):
  """An image to predict."""

  job: _Job
  original: NewImage  # for the overlay
  prepared: Num[np.ndarray, 'new_h new_w new_c']  # as training saw its own


class _Files:
  """The files of a folder that are still to do; all that cannot be done is refused by a sentence.

  Args:
    folder: to predict.
    kind: images or volumes.
    out: where predictions go.
    outputs: files for each input, with {} for its name.
    channels: that the network takes; of volumes, each may be a file.

  Raises:
    UserError: if the folder is missing or holds nothing of the kind.
  """

  def __init__(
    self,
    folder: Path,
    kind: Kind,
    out: PredictionFolder,
    outputs: Sequence[str],
    channels: int = 1,
  ):
    found = listing.read_folder(folder, kind)
    if found.others:
      print(f'{found._replace(missing=[]).note()}.')
    self.refused = [f'{path} {listing.NOT_FETCHED}.' for path in found.missing]
    # An empty folder is a mistake; one of broken links is told link by link.
    paths = found.paths if found.missing else listing.files_of(found)
    self._files_of = {path: (path,) for path in paths}
    if kind == listing.VOLUMES:
      self._files_of = volume_channels.group_unlabeled(paths, channels)
    self._paths = list(self._files_of)
    self._out = out
    # Names come from all files, also those that are left out: they must not change with --resume.
    names = output_names([self._named(path) for path in self._paths], kind)
    self._outputs = [[output.format(name) for output in outputs] for name in names]
    longer = [path.name for path, name in zip(self._paths, names, strict=True) if name == path.name]
    if longer:
      print(
        f'{len(longer)} files share their name with another one but for the ending: their outputs '
        f'keep it ({", ".join(map(file_names.normal, longer[:3]))}, ...).'
      )
    # Moves when a file is written, not when it is read: batches of several images wait in between.
    self.bar = tqdm(total=len(self._paths), unit=' files', desc='predict')

  def _named(self, path: Path) -> Path:
    """A path with the name after which outputs are called: of channels, that of the case."""
    files = self._files_of[path]
    return path if len(files) == 1 else path.with_name(volume_channels.case_name(files) + '.nii.gz')

  def __iter__(self) -> Iterator[_Job]:
    for path, outputs in zip(self._paths, self._outputs, strict=True):
      try:
        source = read_source(*self._files_of[path])
      except OSError as error:
        self.refused.append(f'{path} cannot be read ({error.strerror}).')
        self.bar.update()
        continue
      if self._out.is_done(outputs, source):
        # Not counted as work, from which the time left is estimated.
        self.bar.initial += 1
        self.bar.update()
        continue
      if problem := self._out.problem(outputs, source):
        self.refused.append(problem)
        self.bar.update()
        continue
      yield _Job(source, outputs, self._files_of[path])

  def attempt(self, path: Path, action: Callable[[], object]) -> bool:
    """Does something for a file, which is refused if that fails; returns whether it did not.

    Raises:
      OSError: if no other file could be written either.
    """
    # One file that cannot be done should not cost the predictions of the others, whatever it is
    # that readers and the network raise.
    try:
      action()
    except UserError as error:
      self.refused.append(str(error))
      return False
    except Exception as error:
      if isinstance(error, OSError) and error.errno in HOPELESS:
        raise
      reason = (str(error).splitlines() or [''])[0][:200] or type(error).__name__
      self.refused.append(f'{path} could not be predicted ({type(error).__name__}: {reason}).')
      return False
    return True


class _ReadableImages:
  """The readable images of a folder, prepared as in training; the others are refused."""

  def __init__(self, files: _Files, stats: DatasetStats):
    self.files = files
    self._stats = stats
    self._notes = FileNotes()

  def __iter__(self) -> Iterator[_Image]:
    for job in self.files:
      read: list[_Image] = []
      if self.files.attempt(job.source.path, lambda j=job, r=read: r.append(self._read(j))):
        yield read[0]
      else:
        self.files.bar.update()
    for sentence in self._notes.sentences():
      tqdm.write(f'Note: {sentence}.')

  def _read(self, job: _Job) -> _Image:
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
