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
from ssl_jax.inference import detection, instances, stacks, volumes, write_planes
from ssl_jax.inference.images import BUDGET, predict_many
from ssl_jax.inference.new_image import NewImage, read_new_image
from ssl_jax.inference.output_names import output_names
from ssl_jax.inference.prediction_folder import PredictionFolder, Source, read_source
from ssl_jax.inference.volumes import WindowSettings
from ssl_jax.io import file_names, images, listing, nifti, overlays
from ssl_jax.io.listing import Kind
from ssl_jax.io.planes import Planes
from ssl_jax.io.run_log import replace_text
from ssl_jax.types import PredictFn

HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of writing that the next image would meet as well."""


def write_masks(
  predict_fn: PredictFn,
  stats: DatasetStats,
  folder: Path,
  out: PredictionFolder,
  budget: int = BUDGET,
  axes: str | None = None,
) -> list[str]:
  """Writes out/masks/NAME.png (class ids at native size) and out/overlays/NAME.png.

  Stacks and images too large for memory get a mask of their own form (see stacks and write_planes).
  Returns one sentence for each image that could not be done; the others are done all the same.

  Args:
    predict_fn: gives class probabilities.
    stats: of the training data, as which the images are prepared.
    folder: images to predict.
    out: folder to write to.
    budget: pixels; larger images are cut into tiles.
    axes: of stacks whose files do not say it, as in 'ZYX'.

  Raises:
    UserError: if the folder is missing or holds no image.
  """
  outputs = ['masks/{}.png', 'overlays/{}.png']
  if stats.instances is not None:
    outputs += [f'{instances.FOLDER}/{{}}.tif', f'{instances.FOLDER}/{{}}.csv']
  files = _Files(folder, listing.PREDICTED, out, outputs)
  files.open_planes = lambda path: stacks.open_planes(path, axes)
  files.with_instances = stats.instances is not None
  task = stacks.BlockTask(stats, budget)

  def write_stack(job: _Job, notes: FileNotes) -> None:
    assert job.planes is not None
    write_planes.predict(predict_fn, job.planes, task, out, job.files, job.source, notes)

  readable = _ReadableImages(files, stats, write_stack)

  def write(image: _Image, probs: np.ndarray) -> None:
    mask_file, overlay_file, *more = image.job.files
    original = image.original.pixels
    if probs.shape[:2] != original.shape[:2]:  # training saw its images at another scale
      probs = images.resize(probs, original.shape[:2], smooth=True)
    # Resized as probabilities and only then decided, which gives smoother borders than resized ids.
    mask = probs.argmax(-1).astype(np.uint8)
    # The ids themselves are nearly black to look at; the overlay is for people.
    with out.writing(mask_file, image.job.source) as path:
      images.write_mask(path, image.original.mask_as_drawn(mask))
    if stats.instances is not None:
      ids = instances.separate(probs, instances.native_min_size(stats))
      with out.writing(more[0], image.job.source) as path:
        instances.write_labels(path, image.original.mask_as_drawn(ids))
      with out.writing(more[1], image.job.source) as path:
        instances.write_table(path, ids, original)
      # The overlay shows each object in a colour of its own.
      mask = instances.as_colours(ids)
    with out.writing(overlay_file, image.job.source) as path:
      images.write_image(path, images.overlay(original, mask))

  for image, probs in _predictions(predict_fn, readable, budget):
    files.attempt(image.job.source.path, lambda i=image, p=probs: write(i, p))
  if stats.instances is not None:
    instances.write_counts(out.path)
  return files.refused


def write_volumes(
  predict_fn: PredictFn,
  stats: DatasetStats,
  windows: WindowSettings,
  folder: Path,
  out: PredictionFolder,
) -> list[str]:
  """Writes out/masks/NAME.nii.gz: class ids on each volume's own grid, with its header.

  Returns one sentence for each volume that could not be done; the others are done all the same.

  Args:
    predict_fn: gives class probabilities of windows.
    stats: of the training data; it has the `preprocessing` of volumes.
    windows: how a volume goes through the network.
    folder: volumes to predict.
    out: folder to write to.

  Raises:
    UserError: if the folder is missing or holds no volume, or the network was trained on images.
  """
  if stats.preprocessing is None:
    raise UserError('This network was trained on images, not on volumes; give it images.')
  # The spacing and the range of intensities of the training.
  preprocessing = VolumePreprocessing(**stats.preprocessing)
  outputs = ['masks/{}.nii.gz']
  if stats.instances is not None:
    if windows.largest:
      raise UserError('--largest keeps one object of each class; this network predicts many.')
    windows = windows._replace(instances=stats.instances['min_size'])
    outputs += [f'{instances.FOLDER}/{{}}.nii.gz', f'{instances.FOLDER}/{{}}.csv']
  files = _Files(folder, listing.VOLUMES, out, outputs, stats.channels)

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
    if segmentation.instances is not None:
      with out.writing(job.files[1], job.source) as path:
        instances.write_volume_labels(path, segmentation.instances, volume)
      with out.writing(job.files[2], job.source) as path:
        instances.write_volume_table(path, segmentation.instances, volume)
    # The header of the volume, so that viewers lay the mask onto it.
    with out.writing(job.files[0], job.source) as path:
      nifti.write_labels(path, segmentation.ids, volume.like)

  for job in files:
    files.attempt(job.source.path, lambda j=job: write(j))
  if stats.instances is not None:
    instances.write_counts(out.path)
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
) -> list[str]:
  """Writes out/points/NAME.csv (x, y, class, score), and out/overlays/NAME.png with rings.

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

  Raises:
    UserError: if the folder is missing or holds no image.
  """
  files = _Files(folder, listing.IMAGES, out, ('points/{}.csv', 'overlays/{}.png'))

  def write(image: _Image) -> None:
    points_file, overlay_file = image.job.files
    # Points need no scaling back to the original: `data.scale` is for masks only.
    cells = detection.detect_cells(predict_fn, image.prepared, size, stride, score, radius)
    with out.writing(points_file, image.job.source) as path:
      replace_text(path, detection.cells_to_csv(cells, stats.classes))
    with out.writing(overlay_file, image.job.source) as path:
      original = image.original.pixels
      images.write_image(path, overlays.draw_cells(original, cells.points, cells.classes))

  for image in _ReadableImages(files, stats):
    files.attempt(image.job.source.path, lambda i=image: write(i))
  return files.refused


class _Job(NamedTuple):
  """A file to predict, and the names of what is written for it."""

  source: Source
  files: Sequence[str]  # inside the folder of predictions
  paths: Sequence[Path]  # of the source: several where channels of a volume are files
  planes: Planes | None = None  # of a stack or a large image


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
    self._names = names
    self._templates = outputs
    # Set where files may be stacks: opens one, or returns None for what is read as a whole.
    self.open_planes: Callable[[Path], Planes | None] = lambda path: None
    self.with_instances = False
    longer = [path.name for path, name in zip(self._paths, names, strict=True) if name == path.name]
    if longer:
      print(
        f'{len(longer)} files share their name with another one but for the ending: their outputs '
        f'keep it ({", ".join(map(file_names.normal, longer[:3]))}, ...).'
      )

  def _named(self, path: Path) -> Path:
    """A path with the name after which outputs are called: of channels, that of the case."""
    files = self._files_of[path]
    return path if len(files) == 1 else path.with_name(volume_channels.case_name(files) + '.nii.gz')

  def __iter__(self) -> Iterator[_Job]:
    pairs = zip(self._paths, self._names, strict=True)
    for path, name in tqdm(pairs, total=len(self._paths), unit=' files', desc='predict'):
      try:
        source = read_source(*self._files_of[path])
        image = self.open_planes(path)
      except OSError as error:
        self.refused.append(f'{path} cannot be read ({error.strerror}).')
        continue
      except UserError as error:
        self.refused.append(str(error))
        continue
      templates = self._templates
      if image is not None:
        templates = write_planes.output_templates(image, self.with_instances)
      outputs = [template.format(name) for template in templates]
      done = self._out.is_done(outputs, source)
      problem = '' if done else self._out.problem(outputs, source)
      if problem:
        self.refused.append(problem)
      if done or problem:
        if image is not None:
          image.close()
        continue
      yield _Job(source, outputs, self._files_of[path], image)

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

  def __init__(
    self,
    files: _Files,
    stats: DatasetStats,
    write_planes: Callable[[_Job, FileNotes], None] | None = None,
  ):
    self.files = files
    self._stats = stats
    # Stacks and large images are not given out: they are predicted and written at once.
    self._write_planes = write_planes
    self._notes = FileNotes()

  def __iter__(self) -> Iterator[_Image]:
    for job in self.files:
      if job.planes is not None and self._write_planes is not None:
        write = self._write_planes
        self.files.attempt(job.source.path, lambda j=job, w=write: w(j, self._notes))
        continue
      read: list[_Image] = []
      if self.files.attempt(job.source.path, lambda j=job, r=read: r.append(self._read(j))):
        yield read[0]
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
