"""A run as one HTML file that can be sent to a colleague: `python -m ssl_jax.report RUN`.

The file holds everything it shows (pictures, charts, tables) and loads nothing. It is written at
the end of every run, and can be written again at any time, also of a run that is not finished.
"""

import argparse
import sys
from pathlib import Path

from ssl_jax import html_pages, report_contents
from ssl_jax.errors import UserError
from ssl_jax.io import terminal
from ssl_jax.io.run_log import replace_text

FILE = 'report.html'
"""In the run folder."""


def write(run: Path, to: Path | None = None) -> Path:
  """Writes the report of a run, and returns where.

  Args:
    run: folder of the run.
    to: the HTML file; None: report.html in the run folder.

  Raises:
    UserError: if the folder holds no run, or the file cannot be written.
  """
  contents = report_contents.collect(run)
  html = html_pages.render('report.html', contents)
  path = to or run / FILE
  try:
    replace_text(path, html)
  except OSError as error:
    raise UserError(
      f'{path} cannot be written ({error.strerror}); choose another --out.'
    ) from error
  return path


def main(arguments: list[str] | None = None) -> int:
  """The program; returns its exit code."""
  parser = argparse.ArgumentParser(
    'python -m ssl_jax.report', description='Writes a run as one HTML file.'
  )
  parser.add_argument('run', type=Path, help='run folder')
  parser.add_argument('--out', type=Path, help='HTML file to write (default: RUN/report.html)')
  options = parser.parse_args(arguments)

  def report() -> int:
    print(f'Report: {write(options.run, options.out)}')
    return 0

  return terminal.exit_code(report, 'the same command writes it again')


if __name__ == '__main__':
  sys.exit(main())
