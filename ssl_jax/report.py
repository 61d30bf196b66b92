"""A run as one HTML file that can be sent to a colleague: `python -m ssl_jax.report RUN`.

The file holds everything it shows (pictures, charts, tables) and loads nothing. It is written at
the end of every run, and can be written again at any time, also of a run that is not finished.
"""

import sys
from pathlib import Path

from ssl_jax.io import terminal
from ssl_jax.io.option_parser import OptionParser


def main(arguments: list[str] | None = None) -> int:
  """The program; returns its exit code."""
  parser = OptionParser('python -m ssl_jax.report', description='Writes a run as one HTML file.')
  parser.add_argument('run', type=Path, help='run folder')
  parser.add_argument('--out', type=Path, help='HTML file to write (default: RUN/report.html)')
  options = parser.parse_args(arguments)

  # Here, because it imports JAX, which takes seconds, and --help is answered at once.
  from ssl_jax.reports import report_page

  def report() -> int:
    print(f'Report: {report_page.write(options.run, options.out, keep_pictures=True)}')
    return 0

  return terminal.exit_code(report, 'the same command writes it again')


if __name__ == '__main__':
  sys.exit(main())
