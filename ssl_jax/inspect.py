"""The data doctor: `python -m ssl_jax.inspect --labeled=DIR --unlabeled=DIR`.

Says what is wrong with images and masks before hours go into training on them; writes the same as
JSON for scripts and as one HTML file with pictures. The exit code is 1 where there is a problem.
"""

import sys

from ssl_jax.io import terminal
from ssl_jax.io.option_parser import OptionParser


def main(arguments: list[str] | None = None) -> int:
  """The program; returns its exit code: 1 if there is a problem, with --strict also a warning."""
  parser = OptionParser(
    'python -m ssl_jax.inspect', description='Looks at images and masks before a training.'
  )
  add = parser.add_argument
  add('--labeled', required=True, help='folder with images/ and masks/ (or points/) in it')
  add('--unlabeled', help='folder of unlabeled images')
  add('--val', help='as --labeled, of validation images')
  add('--test', help='as --labeled, of test images')
  add('--group', default='', help='pattern or CSV that names the patient of an image')
  # Messages name the fields of a run, which may be given here as they are there.
  add('--classes', '--config.data.classes', help='number or names of the classes of masks')
  add('--values', '--config.data.values', help="class of each value of masks: '205:1, 420:2'")
  add(
    '--instances',
    '--config.data.instances',
    nargs='?',
    const='True',
    default='False',
    choices=('True', 'False'),
    help='masks hold an id for each object',
  )
  add(
    '--ignore_affine',
    '--config.data.ignore_affine',
    nargs='?',
    const='True',
    default='False',
    choices=('True', 'False'),
    help='masks lie on their volumes voxel by voxel, whatever the headers say',
  )
  add('--out', default='inspection', help='folder to write to (default %(default)s)')
  add('--strict', action='store_true', help='warnings are problems: exit code 1')
  options = parser.parse_args(arguments)
  # Here, because it imports JAX, which takes seconds, and --help is answered at once.
  from ssl_jax.reports.inspection import inspection_page

  return terminal.exit_code(
    lambda: inspection_page.inspect(options), 'the same command looks again'
  )


if __name__ == '__main__':
  sys.exit(main())
