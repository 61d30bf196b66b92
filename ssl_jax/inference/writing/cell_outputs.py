"""What predict writes for an image in which cells are detected: tables, pictures, points."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Num

from ssl_jax.inference import detection
from ssl_jax.inference.detection import Cells
from ssl_jax.inference.writing import outline_files
from ssl_jax.inference.writing.outputs import GEOJSON, OVERLAY, ROIS, Wanted
from ssl_jax.io import images, overlays
from ssl_jax.io.run_log import replace_text

POINTS = 'points'


def templates(wanted: Wanted) -> dict[str, str]:
  """Returns the files of an image by their kind, with {} for its name, in the order of writing."""
  files = {POINTS: 'points/{}.csv'}
  if wanted.geojson:
    files[GEOJSON] = 'geojson/{}.geojson'
  if wanted.rois:
    files[ROIS] = 'rois/{}.zip'
  if wanted.overlays:
    files[OVERLAY] = 'overlays/{}.png'
  return files


def write(
  kind: str, path: Path, cells: Cells, image: Num[np.ndarray, 'h w c'], classes: Sequence[str]
) -> None:
  """Writes one file."""
  if kind == POINTS:
    replace_text(path, detection.cells_to_csv(cells, classes))
  elif kind == GEOJSON:
    outline_files.write_points_geojson(path, *cells, classes)
  elif kind == ROIS:
    outline_files.write_points_rois(path, cells.points, cells.classes, classes)
  elif kind == OVERLAY:
    # A ring around each cell.
    images.write_image(path, overlays.draw_cells(image, cells.points, cells.classes))
