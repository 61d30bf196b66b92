"""Predictions for new images: `python -m ssl_jax.predict --run=RUN --images=DIR --out=DIR`.

Writes masks of images or volumes, or the detected cells, whichever the run was trained for.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from absl import logging

from ssl_jax import build, parallel, parse_settings, registry, run_folder
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.errors import INTERRUPTED, UserError
from ssl_jax.inference import instances, sliding_window, write_predictions
from ssl_jax.inference.images import BUDGET
from ssl_jax.inference.prediction_folder import Origin, open_folder
from ssl_jax.inference.trained_networks import Ensemble, TrainedNetwork
from ssl_jax.inference.volumes import WindowSettings
from ssl_jax.io import listing, planes, terminal
from ssl_jax.settings import Settings
from ssl_jax.training.checkpoint import Checkpoints
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
  'axes',
)
"""Options on which predictions depend: a resumed call must have the same."""


def load(run: Path) -> tuple[PredictFn, DatasetStats, Settings]:
  """The trained network of a run, of one of its stages, or of one seed's folder.

  Of a stage that scored several networks it is their mean, of the first seed.

  Raises:
    UserError: if the folder holds no trained network.
  """
  # The run may have been made elsewhere, so its folder of plug-ins need not exist here.
  plugins = run_folder.plugins_of(run)
  if plugins and Path(plugins).is_dir():  # most predictions need none: a network alone is built
    registry.add_plugins(plugins)
  # A `score` stage has no checkpoints of its own: the networks are those of the stages it scored.
  if (entry := run_folder.stage_entry(run)).get('run') == 'score':
    ensemble = Ensemble(run.parent, entry['of'])
    seed = ensemble.seeds()[0]
    return ensemble.predict_fn(seed)[0], ensemble.stats(seed), ensemble.settings[0]
  # Otherwise one network: of the folder itself, of a stage, or of the run's last training.
  folder = run_folder.network_folder(run)
  settings = run_folder.read_settings(folder)
  # Written when training begins, with the mean and deviation by which images are normalized.
  if not (folder / run_folder.STATS).exists():
    raise UserError(f'{run} holds no trained network yet; has its training begun?')
  stats = run_folder.read_stats(folder)
  predict_fn, step = TrainedNetwork(settings, stats).predict_fn(folder, settings.checkpoint)
  # A run that is still training can predict with its latest checkpoint, but should say so.
  if settings.checkpoint == 'last' and step < settings.steps:
    print(f'Note: this network was trained for {step} of {settings.steps} steps.')
  return predict_fn, stats, settings


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'python -m ssl_jax.predict', description='Writes masks, or points, for a folder of images.'
  )
  add = parser.add_argument
  add('--run', type=listing.expand, required=True, help='run, stage or seed folder')
  add('--images', type=listing.expand, required=True, help='folder of images')
  add('--out', type=listing.expand, required=True, help='folder to write to, new or empty')
  add('--resume', action='store_true', help='leave out what an interrupted call has done')
  add(
    '--overwrite',
    action='store_true',
    help='replace files in --out that predict did not write, or wrote with another run',
  )
  add(
    '--budget',
    type=float,
    default=BUDGET / 1e6,
    help='megapixels; larger images are cut into overlapping tiles (default %(default).2f). For '
    'volumes megavoxels, above which one is processed at half resolution (default: where memory '
    'runs out)',
  )
  add(
    '--axes',
    help='stacks whose files do not say what their axes are: one letter each, in their order (T '
    'time, Z depth, C channels, Y rows, X columns, S samples), as ZYX',
  )
  add('--stride', type=int, default=8, help='cells: pixels between windows (default 8)')
  add('--score', type=float, default=0.5, help='cells: minimum probability (default 0.5)')
  add('--radius', type=float, default=12.0, help='cells: minimum distance in pixels (default 12)')
  add(
    '--overlap',
    type=float,
    default=sliding_window.OVERLAP,
    help='volumes: fraction of a window that neighbours share (default %(default)s)',
  )
  add('--batch', type=int, default=1, help='volumes: windows predicted together (default 1)')
  add(
    '--blend',
    choices=sliding_window.BLENDS,
    default='constant',
    help='volumes: how overlapping windows are weighted (default constant)',
  )
  add('--min_size', type=float, help='instances: pixels of the smallest (default: as in the run)')
  add('--largest', action='store_true', help='volumes: keep the largest component of each organ')
  return parser


def _check(options: argparse.Namespace) -> None:
  """Raises UserError for values that cannot be."""
  # `not >` rather than `<=`, so that NaN is refused as well.
  if not options.budget > 0:
    raise UserError(f'--budget={options.budget} is not above 0; give megapixels.')
  planes.check_axes(options.axes)
  if not (0 <= options.overlap < 1 and options.batch > 0):
    raise UserError('--overlap must be at least 0 and below 1, and --batch at least 1.')
  if not (options.stride > 0 and options.radius > 0 and 0 <= options.score <= 1):
    raise UserError('--stride and --radius must be above 0, and --score in the range 0 to 1.')


def _write(options: argparse.Namespace, budget_given: bool) -> tuple[DatasetStats, list[str], bool]:
  """Writes all predictions.

  Returns the statistics of the run's data, a sentence for each file that could not be done, and
  whether that was all of them.
  """
  predict_fn, stats, settings = load(options.run)
  stats = instances.with_min_size(stats, options.min_size)
  kind = listing.IMAGES if stats.task == CELLS else listing.PREDICTED
  if stats.preprocessing is not None:
    kind = listing.VOLUMES
  # A wrong folder of images is found before another one is made.
  found = listing.read_folder(options.images, kind)
  if not found.missing:
    listing.files_of(found)
  given = {name: getattr(options, name) for name in MATTERS}
  origin = Origin(str(options.run.resolve()), network_hash(options.run), given)
  with open_folder(options.out, options.images, origin, options.resume, options.overwrite) as out:
    where = options.images, out
    # Megapixels for the user, pixels for the program.
    budget = int(options.budget * 1e6)
    # The task of the data set decides what is written: volumes, cells or masks.
    if stats.preprocessing is not None:
      windows = WindowSettings(
        settings.crop_size,
        options.overlap,
        options.blend,
        options.batch,
        # The default is for images. A volume is made coarser only on request or if memory runs out.
        budget if budget_given else 0,
        options.largest,
      )
      skipped = write_predictions.write_volumes(predict_fn, stats, windows, *where)
    elif stats.task == CELLS:
      # Patches are square, so one side is enough.
      window = settings.crop_size[0]
      detection = dict(stride=options.stride, score=options.score, radius=options.radius)
      skipped = write_predictions.write_cells(predict_fn, stats, window, *where, **detection)
    else:
      skipped = write_predictions.write_masks(predict_fn, stats, *where, budget, options.axes)
    return stats, skipped, out.is_untouched()


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


def network_hash(run: Path) -> str:
  """Returns what two runs have in common only if their networks predict the same.

  It follows from settings, data and steps, not from where the run lies.
  """
  if (entry := run_folder.stage_entry(run)).get('run') == 'score':
    ensemble = Ensemble(run.parent, entry['of'])
    folders = ensemble.members(ensemble.seeds()[0])
  else:
    folders = [run_folder.network_folder(run)]
  known: list[Any] = []
  for folder in folders:
    tree = parse_settings.to_dict(run_folder.read_settings(folder))
    # Where the data lie does not matter; what they are is among the statistics.
    del tree['data']
    steps = Checkpoints(folder / 'checkpoints', read_only=True).steps()
    known.append([folder.name, tree, run_folder.read_stats(folder)._asdict(), sorted(steps)])
  return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def main(arguments: list[str] | None = None) -> int:
  """The program; returns its exit code, 1 if any image could not be done."""
  # Also run by `ssl-jax predict`, which passes the words on.
  parser = _parser()
  options = parser.parse_args(arguments)
  logging.set_verbosity(logging.FATAL)  # checkpointing warns that it may not write
  terminal.print_any_name()
  try:
    _check(options)
    build.keep_compiled()
    parallel.check_devices()
    stats, skipped, nothing = _write(options, options.budget != parser.get_default('budget'))
  except UserError as error:
    print(f'ssl_jax: {error}', file=sys.stderr)
    return 1
  except OSError as error:
    more = ' With --resume it leaves out what is done.' if options.out.is_dir() else ''
    print(f'ssl_jax: {terminal.sentence_of(error)}{more}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print('ssl_jax: interrupted; the same command with --resume continues.', file=sys.stderr)
    return INTERRUPTED
  _say(stats, options.out, nothing)
  # At the end, where they are not lost among the lines of a long run.
  for sentence in skipped:
    print(f'Skipped: {sentence}', file=sys.stderr)
  return 1 if skipped else 0


if __name__ == '__main__':
  sys.exit(main())
