"""A trained network for other programs: `python -m ssl_jax.export --run=RUN --out=OUT`.

As StableHLO (JAX, without ssl_jax), as ONNX, or as a package of the BioImage Model Zoo. JAX is
imported only once the options are right, so that --help and a mistake are answered at once.
"""

import argparse
import sys

from ssl_jax.errors import UserError
from ssl_jax.exports import needed_packages
from ssl_jax.io import terminal
from ssl_jax.io.folders import listing
from ssl_jax.io.option_parser import OptionParser

FORMATS = ('stablehlo', 'onnx', 'bioimage')


def _parser() -> OptionParser:
  parser = OptionParser(
    'python -m ssl_jax.export', description='Writes a trained network for other programs.'
  )
  add = parser.add_argument
  add('run_and_out', nargs='*', type=listing.expand, metavar='RUN OUT', help='as --run and --out')
  add('--run', type=listing.expand, help='run, stage or seed folder')
  add('--out', type=listing.expand, help='folder to write to, new or empty')
  add(
    '--format',
    choices=(*FORMATS, 'all'),
    default='stablehlo',
    help='what to write (default: %(default)s)',
  )
  add(
    '--seeds',
    choices=('first', 'all'),
    default='first',
    help='the network of the first seed, or the mean of all (default: %(default)s)',
  )
  add('--example', type=listing.expand, help='bioimage: an image, for the test and the picture')
  add('--license', help='bioimage: license of the network, for example CC-BY-4.0')
  add('--author', action='append', help='bioimage: your name; may be given several times')
  add('--name', help='bioimage: name of the model (default: the name of the run)')
  return parser


def _check(options: argparse.Namespace) -> None:
  """Fills in RUN and OUT; raises UserError for what is missing or cannot be."""
  places = list(options.run_and_out)
  for name in ('run', 'out'):
    if getattr(options, name) is None and places:
      setattr(options, name, places.pop(0))
    if getattr(options, name) is None:
      raise UserError(f'--{name} is missing; give `--run=RUN --out=OUT`.')
  if places:
    raise UserError(f'{places[0]} is one folder too many; give `--run=RUN --out=OUT`.')
  if 'bioimage' in _formats(options):
    for name, value in (('example', 'IMAGE'), ('license', 'CC-BY-4.0'), ('author', '"Ada Byron"')):
      if not getattr(options, name):
        raise UserError(
          f'A package of the BioImage Model Zoo needs --{name}, for example --{name}={value}.'
        )
  for name in _formats(options):
    needed_packages.check(name)
  out = options.out
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise UserError(f'--out={out} exists and is not an empty folder; give a new one.')


def _formats(options: argparse.Namespace) -> tuple[str, ...]:
  return FORMATS if options.format == 'all' else (options.format,)


def main(arguments: list[str] | None = None) -> int:
  """The program; returns its exit code."""
  options = _parser().parse_args(arguments)

  def check() -> int:
    _check(options)
    return 0

  again = 'delete --out and repeat the command'
  wrong = terminal.exit_code(check, again)
  if wrong:
    return wrong
  # Here, and not within `exit_code`: see ssl_jax/predict.py.
  from ssl_jax.exports import export_folder

  return terminal.exit_code(lambda: export_folder.export(options, _formats(options)), again)


if __name__ == '__main__':
  sys.exit(main())
