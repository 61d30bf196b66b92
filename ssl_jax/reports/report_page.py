"""Writing the report of a run: one HTML file that holds everything it shows."""

from pathlib import Path

from ssl_jax.errors import UserError
from ssl_jax.io.run_log import replace_text
from ssl_jax.reports import html_pages, report_contents

FILE = 'report.html'
"""In the run folder."""


PICTURE = 'src="data:image/jpeg'
"""In a report that shows test images."""


def write(run: Path, to: Path | None = None, keep_pictures: bool = False) -> Path:
  """Writes the report of a run, and returns where.

  Args:
    run: folder of the run.
    to: the HTML file; None: report.html in the run folder.
    keep_pictures: whether to leave a report alone that shows test images which are gone now.

  Raises:
    UserError: if the folder holds no run, the file cannot be written, or pictures would be lost.
  """
  contents = report_contents.collect(run)
  path = to or run / FILE
  reasons = [one['unreadable'] for one in contents['comparisons'] if one.get('unreadable')]
  if reasons and keep_pictures and path.exists() and PICTURE in path.read_text(errors='replace'):
    raise UserError(
      f'{path} shows test images and was left as it is, because they cannot be read again: '
      f'{reasons[0].rstrip(".")}. Call report from the folder in which the run was started, or '
      'write a report without them to another file (--out).'
    )
  html = html_pages.render('report.html', contents)
  try:
    replace_text(path, html)
  except OSError as error:
    raise UserError(
      f'{path} cannot be written ({error.strerror}); choose another --out.'
    ) from error
  return path
