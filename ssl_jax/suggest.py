"""Which images to label next: `ssl-jax suggest --run=RUN --unlabeled=DIR --n=5 --out=DIR`.

JAX is imported only once the options are right, so that --help and a mistake are answered at once.
"""

import sys

from ssl_jax.errors import UserError
from ssl_jax.io import terminal
from ssl_jax.io.folders import listing
from ssl_jax.io.option_parser import OptionParser


def _parser() -> OptionParser:
  parser = OptionParser('python -m ssl_jax.suggest', description='Chooses images to label next.')
  add = parser.add_argument
  add('--run', type=listing.expand, required=True, help='run, stage or seed folder')
  add('--unlabeled', type=listing.expand, required=True, help='folder of unlabeled images')
  add('--n', type=int, default=5, help='images to suggest (default %(default)s)')
  add('--out', type=listing.expand, required=True, help='folder to write to, new or empty')
  return parser


def main(arguments: list[str] | None = None) -> int:
  """The program; returns its exit code, 1 if any image could not be read."""
  options = _parser().parse_args(arguments)

  def check() -> int:
    if options.n < 1:
      raise UserError(f'--n={options.n} is not at least 1.')
    return 0

  again = 'the same command goes on'
  wrong = terminal.exit_code(check, again)
  if wrong:
    return wrong
  # Here, and not within `exit_code`: see ssl_jax/predict.py.
  from ssl_jax import suggestion_folder

  return terminal.exit_code(lambda: suggestion_folder.suggest(options), again)


if __name__ == '__main__':
  sys.exit(main())
