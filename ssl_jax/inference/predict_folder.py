"""What `ssl-jax predict` does once its options are read: networks, files, and what is said."""

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import logging

from ssl_jax import build, parallel
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.errors import UserError
from ssl_jax.inference import averaging, instances, run_networks, write_predictions
from ssl_jax.inference.blocks import dask_predict
from ssl_jax.inference.blocks.dask_tasks import NetworkChoice
from ssl_jax.inference.run_networks import Networks
from ssl_jax.inference.volumes import WindowSettings
from ssl_jax.inference.writing import measurements
from ssl_jax.inference.writing.cleaning import Cleaning
from ssl_jax.inference.writing.outputs import Wanted
from ssl_jax.inference.writing.prediction_folder import Origin, PredictionFolder, open_folder
from ssl_jax.io.folders import listing
from ssl_jax.settings import Settings
from ssl_jax.types import CELLS, PredictFn

MATTERS = (
  'budget',
  'stride',
  'score',
  'radius',
  'overlap',
  'blend',
  'largest',
  'min_size',
  'fill_holes',
  'tta',
  'bits',
  'axes',
)
"""Options on which predictions depend: a resumed call must have the same."""

OF_MASKS = ('tta', 'probabilities', 'uncertainty', 'largest', 'min_size', 'fill_holes')
"""Options that mean nothing where cells are detected."""


def load(run: Path, seed: int | None = None) -> tuple[PredictFn, DatasetStats, Settings]:
  """The mean of the networks of a run, of one of its stages, or of one seed's folder.

  Raises:
    UserError: if the folder holds no trained network, or not that of the seed.
  """
  networks = run_networks.find(run, seed)
  predict_fn, notes = networks.predict_fn()
  _print_notes([*networks.notes, *notes])
  return predict_fn, networks.stats, networks.settings


def _print_notes(notes: Sequence[str]) -> None:
  for note in notes:
    print(f'Note: {note}.')


def predict(options: argparse.Namespace, budget_given: bool) -> int:
  """Predicts a folder as the options of `ssl-jax predict` say.

  Args:
    options: the options by their names, checked.
    budget_given: whether --budget was among the words.

  Returns:
    The exit code: 1 if any file could not be done.

  Raises:
    UserError: if the run, the images or the folder to write to are wrong.
  """
  logging.set_verbosity(logging.FATAL)  # checkpointing warns that it may not write
  if options.dask is None:
    build.keep_compiled()
    parallel.check_devices()
  else:
    # It hands out work, and leaves an accelerator to the workers.
    parallel.use_cpu()
  stats, skipped, nothing = _write(options, budget_given)
  _say(stats, options.out, nothing)
  # At the end, where they are not lost among the lines of a long run.
  for sentence in skipped:
    print(f'Skipped: {sentence}', file=sys.stderr)
  return 1 if skipped else 0


def _copies(options: argparse.Namespace, networks: Networks) -> list[averaging.Copy]:
  """The copies of an image that are predicted."""
  if options.tta is None:
    return [averaging.AS_IS]
  dimensions = len(networks.settings.crop_size)
  if dimensions == 3 and options.tta == 'turn':
    raise UserError('--tta=turn is for images; volumes are mirrored only (--tta).')
  turned = options.tta == 'turn'
  if options.tta == 'auto' and dimensions == 2:
    turned = run_networks.has_turned(networks.settings)
  copies = averaging.copies_of(dimensions, turned)
  how = 'mirrored and turned' if turned else 'mirrored'
  _print_notes([f'--tta: each image is predicted {len(copies)} times, {how}'])
  return copies


def _wanted(options: argparse.Namespace, stats: DatasetStats, spread: bool) -> Wanted:
  """What is written."""
  is_volume = stats.preprocessing is not None
  overlays = not is_volume if options.overlays is None else options.overlays
  # Of instances, the smallest are dropped where they are separated.
  min_size = options.min_size if options.min_size and stats.instances is None else 1
  return Wanted(
    overlays,
    options.probabilities,
    options.uncertainty,
    spread,
    options.bits,
    options.geojson,
    options.rois,
    Cleaning(options.largest, min_size, options.fill_holes or 0),
  )


def _task(
  options: argparse.Namespace,
  settings: Settings,
  stats: DatasetStats,
  budget_given: bool,
  spread: bool,
) -> write_predictions.Task:
  """What is predicted: the task of the data set decides between volumes, cells and masks."""
  stats = instances.with_min_size(stats, options.min_size)
  wanted = _wanted(options, stats, spread)
  # Megapixels for the user, pixels for the program.
  budget = int(options.budget * 1e6)
  if stats.preprocessing is not None:
    windows = WindowSettings(
      settings.crop_size,
      options.overlap,
      options.blend,
      options.batch,
      # The default is for images. A volume is made coarser only on request or if memory runs out.
      budget if budget_given else 0,
    )
    return write_predictions.Volumes(stats, windows, wanted)
  if stats.task == CELLS:
    # Patches are square, so one side is enough.
    side = settings.crop_size[0]
    return write_predictions.Cells(
      stats, side, options.stride, options.score, options.radius, wanted
    )
  return write_predictions.Masks(stats, budget, wanted, options.axes)


def _check_images(options: argparse.Namespace, stats: DatasetStats) -> None:
  """Raises UserError if the folder of images is wrong, before another one is made."""
  kind = listing.IMAGES if stats.task == CELLS else listing.PREDICTED
  if stats.preprocessing is not None:
    kind = listing.VOLUMES
  found = listing.read_folder(options.images, kind)
  if not found.missing:
    listing.files_of(found)


def _write(options: argparse.Namespace, budget_given: bool) -> tuple[DatasetStats, list[str], bool]:
  """Writes all predictions.

  Returns the statistics of the run's data, a sentence for each file that could not be done, and
  whether that was all of them.
  """
  networks = run_networks.find(options.run, options.seed)
  stats = networks.stats
  if stats.task == CELLS:
    for name in OF_MASKS:
      if getattr(options, name):
        raise UserError(f'--{name} is for masks, and this run detects cells; leave it out.')
  copies = _copies(options, networks)
  # From the second prediction on there may be disagreement.
  spread = options.uncertainty and len(copies) * len(networks.members) > 1
  task = _task(options, networks.settings, stats, budget_given, spread)
  _check_images(options, stats)
  several = len(networks.members)
  if several > 1:
    _print_notes([f'the mean of {several} networks predicts (--seed takes one)'])
  _print_notes(networks.notes)
  if options.dask is not None:
    run = str(options.run.absolute())
    chosen = NetworkChoice(run, options.seed, tuple(copies), spread, networks.digest())
    folders = options.run, options.images
    with dask_predict.workers(options.dask, chosen, task, folders) as workers:
      _print_notes(workers.notes)
      return stats, *_into_folder(options, networks, workers.write)
  predict_fn, notes = networks.predict_fn(copies, spread)
  _print_notes(notes)
  write = functools.partial(write_predictions.write, predict_fn, task)
  return stats, *_into_folder(options, networks, write)


def _into_folder(
  options: argparse.Namespace,
  networks: Networks,
  write: Callable[[Path, PredictionFolder], list[str]],
) -> tuple[list[str], bool]:
  """Writes into --out; returns what could not be done, and whether that was everything."""
  given = {name: getattr(options, name) for name in MATTERS}
  if not (options.probabilities or options.uncertainty):
    del given['bits']
  origin = Origin(str(options.run.resolve()), networks.digest(), given)
  with open_folder(options.out, options.images, origin, options.resume, options.overwrite) as out:
    return write(options.images, out), out.is_untouched()


def _say(stats: DatasetStats, out: Path, nothing: bool) -> None:
  """Prints where the predictions are, and what they mean."""
  if nothing:
    print('ssl_jax: No file could be predicted.', file=sys.stderr)
  elif stats.task == CELLS:
    print(f'Cells (x, y, class, score): {out / "points"}')
    print('Classes: ' + ', '.join(stats.classes[1:]))
  else:
    print(f'Masks (pixel = class id): {out / "masks"}')
    print('Classes: ' + ', '.join(f'{i} {name}' for i, name in enumerate(stats.classes)))
    if stats.instances is not None:
      print(
        f'Instances, a table of each image, and their numbers: {out / instances.FOLDER}, '
        f'{out / instances.COUNTS}'
      )
    elif (out / measurements.TABLE).exists():
      print(f'Areas, shares and intensities: {out / measurements.TABLE}')
