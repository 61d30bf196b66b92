"""Predictions for new images: `python -m ssl_jax.predict --run=RUN --images=DIR --out=DIR`.

Writes masks of images or volumes, or the detected cells, whichever the run was trained for. JAX is
imported only once the options are right, so that --help and a mistake are answered at once.
"""

import argparse
import math
import sys

from ssl_jax.errors import UserError
from ssl_jax.inference.window_defaults import BLENDS, BUDGET, OVERLAP
from ssl_jax.io import terminal
from ssl_jax.io.folders import listing
from ssl_jax.io.option_parser import OptionParser
from ssl_jax.io.stacks import planes


def _parser() -> OptionParser:
  parser = OptionParser(
    'python -m ssl_jax.predict', description='Writes masks, or points, for a folder of images.'
  )
  add = parser.add_argument
  add('--run', type=listing.expand, required=True, help='run, stage or seed folder')
  add('--images', type=listing.expand, required=True, help='folder of images')
  add('--out', type=listing.expand, required=True, help='folder to write to, new or empty')
  add('--seed', type=int, help='take the network of this seed alone (default: the mean of all)')
  add('--resume', action='store_true', help='leave out what an interrupted call has done')
  add(
    '--overwrite',
    action='store_true',
    help='replace files in --out that predict did not write, or wrote with another run',
  )
  add(
    '--dask',
    help='address of a Dask scheduler, or its scheduler file (.json), whose workers predict '
    '(docs/many_machines.md)',
  )
  add(
    '--budget',
    type=float,
    default=BUDGET / 1e6,
    help='megapixels; larger images are cut into overlapping tiles (default %(default).2f). For '
    'volumes: megavoxels above which a volume is processed at half resolution (default: if memory '
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
    default=OVERLAP,
    help='volumes: fraction of a window that neighbors share (default %(default)s)',
  )
  add('--batch', type=int, default=1, help='volumes: windows predicted together (default 1)')
  add(
    '--blend',
    choices=BLENDS,
    default='constant',
    help='volumes: how overlapping windows are weighted (default constant)',
  )
  _add_outputs(parser)
  return parser


def _add_outputs(parser: argparse.ArgumentParser) -> None:
  """Options of what is written."""
  add = parser.add_argument
  add(
    '--tta',
    nargs='?',
    const='auto',
    choices=('auto', 'mirror', 'turn'),
    help='test-time augmentation: the mean over mirrored copies (takes 4 times as long; volumes: 8 '
    'times) or, with "turn", over mirrored and turned ones (images: 8 times). Without a value, '
    'images are turned if the training turned them',
  )
  add('--probabilities', action='store_true', help='write maps of class probabilities')
  add(
    '--uncertainty',
    action='store_true',
    help='write maps of the entropy and, of several networks or with --tta, of their disagreement',
  )
  add('--bits', type=int, choices=(8, 16), default=8, help='of these maps (default 8)')
  add('--largest', action='store_true', help='keep the largest connected component of each class')
  add(
    '--min_size',
    type=float,
    help='pixels or voxels; smaller components of a class become background, and smaller instances '
    'are dropped (default: none; instances: as in the run)',
  )
  add(
    '--fill_holes',
    type=float,
    nargs='?',
    const=math.inf,
    help='fill holes in classes or instances, or only those of at most so many pixels or voxels',
  )
  add('--geojson', action='store_true', help='images, stacks: write outlines for QuPath')
  add(
    '--rois', action='store_true', help='images, stacks: write outlines for ImageJ (a ZIP of ROIs)'
  )
  add(
    '--overlays',
    action=argparse.BooleanOptionalAction,
    help='write images with the masks drawn over them (default: for images, not for volumes)',
  )


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
  for name in ('min_size', 'fill_holes'):
    value = getattr(options, name)
    if value is not None and not value >= 1:
      raise UserError(f'--{name}={value:g} is not at least 1.')


def main(arguments: list[str] | None = None) -> int:
  """The program; returns its exit code, 1 if any image could not be done."""
  # Also run by `ssl-jax predict`, which passes the words on.
  parser = _parser()
  options = parser.parse_args(arguments)

  def check() -> int:
    _check(options)
    return 0

  def predict() -> int:
    return predict_folder.predict(options, options.budget != parser.get_default('budget'))

  again = 'the same command with --resume continues'
  wrong = terminal.exit_code(check, again)
  if wrong:
    return wrong
  # Imported here, because it imports JAX, which takes seconds; and not within `exit_code`, whose
  # answer to an interruption is an exception, which libraries that are being imported may swallow.
  from ssl_jax.inference import predict_folder

  return terminal.exit_code(
    predict, again, 'With --resume the same command leaves out what is done.'
  )


if __name__ == '__main__':
  sys.exit(main())
