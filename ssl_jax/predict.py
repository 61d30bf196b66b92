"""What a run says of new images: `python -m ssl_jax.predict --run=RUN --images=DIR --out=DIR`.

Masks of all pixels or voxels, or the cells that were found, whichever the run has learnt.
"""

import argparse
import sys
from pathlib import Path

from absl import logging

from ssl_jax import build, registry, run_folder
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.errors import UserError
from ssl_jax.inference import sliding_window, write_predictions
from ssl_jax.inference.images import BUDGET
from ssl_jax.inference.trained_networks import Ensemble, TrainedNetwork
from ssl_jax.inference.volumes import WindowSettings
from ssl_jax.settings import Settings
from ssl_jax.types import CELLS, PredictFn


def load(run: Path) -> tuple[PredictFn, DatasetStats, Settings]:
  """The trained network of a run, of one of its stages, or of one seed's folder.

  Of a stage that scored several networks it is their mean, of the first seed.

  Raises:
    UserError: if the folder holds no trained network.
  """
  plugins = run_folder.plugins_of(run)
  if plugins and Path(plugins).is_dir():  # most predictions need none: a network alone is built
    registry.add_plugins(plugins)
  if (entry := run_folder.stage_entry(run)).get('run') == 'score':
    ensemble = Ensemble(run.parent, entry['of'])
    seed = ensemble.seeds()[0]
    return ensemble.predict_fn(seed)[0], ensemble.stats(seed), ensemble.settings[0]
  folder = run_folder.network_folder(run)
  settings = run_folder.read_settings(folder)
  if not (folder / run_folder.STATS).exists():
    raise UserError(f'{run} holds no trained network yet; has its training begun?')
  stats = run_folder.read_stats(folder)
  predict_fn, step = TrainedNetwork(settings, stats).predict_fn(folder, settings.checkpoint)
  if settings.checkpoint == 'last' and step < settings.steps:
    print(f'Note: this network was trained for {step} of {settings.steps} steps.')
  return predict_fn, stats, settings


def main(arguments: list[str] | None = None) -> int:
  """The program; exit code 1 if any image could not be read."""
  parser = argparse.ArgumentParser(
    'python -m ssl_jax.predict', description='Writes masks, or points, for a folder of images.'
  )
  parser.add_argument('--run', type=Path, required=True, help='run, stage or seed folder')
  parser.add_argument('--images', type=Path, required=True, help='folder of images')
  parser.add_argument('--out', type=Path, required=True, help='folder to write to')
  parser.add_argument(
    '--budget',
    type=float,
    default=BUDGET / 1e6,
    help='megapixels; larger images are cut into overlapping tiles (default %(default).2f); '
    'megavoxels, above which a volume is made coarser (default: where memory runs out)',
  )
  for knob, value, what in (
    ('stride', 8, 'cells: pixels between windows'),
    ('score', 0.5, 'cells: how sure it must be that there is one'),
    ('radius', 12.0, 'cells: of those closer than this, in pixels, one is kept'),
  ):
    parser.add_argument(f'--{knob}', type=type(value), default=value, help=what)
  for knob, value, what in (
    ('overlap', sliding_window.OVERLAP, 'volumes: part that neighbouring windows share'),
    ('batch', 1, 'volumes: windows that go through the network together'),
  ):
    parser.add_argument(f'--{knob}', type=type(value), default=value, help=what)
  parser.add_argument(
    '--blend', choices=sliding_window.BLENDS, default='constant', help='volumes: how windows join'
  )
  parser.add_argument(
    '--largest', action='store_true', help='volumes: keep the largest piece of each organ alone'
  )
  parser.add_argument(
    '--resume', action='store_true', help='leave out what an earlier call has written there'
  )
  asked = parser.parse_args(arguments)
  logging.set_verbosity(logging.ERROR)  # checkpointing warns that it may not write
  try:
    if not asked.budget > 0:
      raise UserError(f'--budget={asked.budget} is no number of megapixels above 0.')
    if not (0 <= asked.overlap < 1 and asked.batch > 0):
      raise UserError('--overlap is in 0..1 (and below 1), --batch at least 1.')
    if not (asked.stride > 0 and asked.radius > 0 and 0 <= asked.score <= 1):
      raise UserError('--stride and --radius are above 0, --score is in 0..1.')
    build.keep_compiled()
    predict_fn, stats, settings = load(asked.run)
    where = asked.images, asked.out, asked.resume
    if stats.preprocessing is not None:
      most = int(asked.budget * 1e6) if asked.budget != parser.get_default('budget') else 0
      windows = WindowSettings(
        settings.crop_size, asked.overlap, asked.blend, asked.batch, most, asked.largest
      )
      refused = write_predictions.write_volumes(predict_fn, stats, windows, *where)
    elif stats.task == CELLS:
      knobs = dict(stride=asked.stride, score=asked.score, radius=asked.radius)
      refused = write_predictions.write_cells(
        predict_fn, stats, settings.crop_size[0], *where, **knobs
      )
    else:
      refused = write_predictions.write_masks(predict_fn, stats, *where, int(asked.budget * 1e6))
  except (UserError, OSError) as error:
    print(f'ssl_jax: {error}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print('ssl_jax: interrupted; the same command with --resume goes on.', file=sys.stderr)
    return 1
  if stats.task == CELLS:
    print(f'Cells (x, y, class, score): {asked.out / "points"}')
    print('Classes: ' + ', '.join(stats.classes[1:]))
  else:
    print(f'Masks (pixel = class id): {asked.out / "masks"}')
    print('Classes: ' + ', '.join(f'{i} {name}' for i, name in enumerate(stats.classes)))
  for sentence in refused:
    print(f'Skipped: {sentence}', file=sys.stderr)
  return 1 if refused else 0


if __name__ == '__main__':
  sys.exit(main())
