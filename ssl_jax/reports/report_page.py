"""Writing the report of a run: one HTML file that holds everything it shows."""

from pathlib import Path

from ssl_jax.errors import UserError
from ssl_jax.io.run_log import replace_text
from ssl_jax.reports import html_pages, report_contents

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
