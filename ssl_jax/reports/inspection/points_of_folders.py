"""What the points of cells tell before a training: see inspect_folders.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ssl_jax.data import point_annotations
from ssl_jax.data.image_mask_pairs import subfolder
from ssl_jax.errors import UserError
from ssl_jax.io.folders import listing
from ssl_jax.io.formats.stored_image import Header
from ssl_jax.reports.inspection.pixels_of_folders import PROBLEM, Finding


def check(
  folder: Path,
  role: str,
  paths: Sequence[Path],
  headers: Mapping[Path, Header],
  findings: list[Finding],
) -> None:
  """Finds images without points, points without an image, and the first wrong line of each CSV.

  Args:
    folder: with images/ and points/ in it.
    role: what it is for ('labeled', 'val', 'test').
    paths: its images.
    headers: of the images that can be read.
    findings: what is wrong is added to them.
  """
  try:
    place = subfolder(folder, 'points', role, 'put the points in points/')
    images = {listing.name_for_outputs(path, listing.IMAGES): path for path in paths}
    tables, problems = point_annotations.find_tables(images, place)
  except UserError as error:
    findings.append(Finding(PROBLEM, str(error)))
    return
  findings.extend(Finding(PROBLEM, problem) for problem in problems)
  for name, table in tables.items():
    # A broken image was told by its header.
    if images[name] not in headers:
      continue
    try:
      point_annotations.read_points(table, headers[images[name]])
    except UserError as error:
      findings.append(Finding(PROBLEM, str(error)))
