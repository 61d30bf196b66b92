"""Tables of what a mask of classes holds: areas, shares, components and intensities.

OUT/measurements/NAME.csv is of one image or volume, OUT/measurements.csv of all of them.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Num
from scipy import ndimage

from ssl_jax.io.run_log import replace_text
from ssl_jax.types import BACKGROUND

FOLDER = 'measurements'
TABLE = 'measurements.csv'


def write_table(
  path: Path,
  mask: Integer[np.ndarray, '*space'],
  image: Num[np.ndarray, '*space c'],
  classes: Sequence[str],
  unit: float | int | None,
) -> None:
  """Writes a CSV with a row for each class but the background, of one image or volume.

  Args:
    path: of the table; its stem names the image.
    mask: class ids.
    image: raw intensities.
    classes: names.
    unit: of an image, square micrometres of a pixel, None where its file names no pixel size; of a
      volume, cubic millimetres of a voxel.
  """
  is_volume = mask.ndim == 3
  counts = np.bincount(mask.ravel(), minlength=len(classes))
  sums = [
    np.bincount(mask.ravel(), image[..., c].ravel(), len(classes)) for c in range(image.shape[-1])
  ]
  rows = []
  for class_id, name in enumerate(classes):
    if class_id == BACKGROUND:
      continue
    count = int(counts[class_id])
    size = '' if unit is None else f'{count * unit:g}'
    row = {'name': path.stem, 'class': name, 'voxels' if is_volume else 'pixels': str(count)}
    row['mm3' if is_volume else 'area_um2'] = size
    row['share'] = f'{count / mask.size:g}'
    row['components'] = str(_components(mask, class_id))
    for channel, total in enumerate(sums, start=1):
      # Of a single channel there is no number in the name.
      column = 'mean_intensity' if len(sums) == 1 else f'mean_intensity_{channel}'
      row[column] = f'{total[class_id] / count:g}' if count else ''
    rows.append(row)
  _write(path, rows)


def _components(mask: np.ndarray, class_id: int) -> int:
  """Parts of a class that no sides of pixels connect."""
  inside = mask == class_id
  if not inside.any():
    return 0
  [box] = ndimage.find_objects(inside.astype(np.uint8))
  return int(ndimage.label(inside[box])[1])


def write_all(out: Path) -> None:
  """Writes out/measurements.csv from the tables in out/measurements."""
  rows = []
  # From the tables, so that images of an earlier call (--resume) are there too.
  for path in sorted((out / FOLDER).glob('*.csv')):
    with path.open(newline='', encoding='utf-8', errors='surrogateescape') as file:
      rows += csv.DictReader(file)
  if rows:
    _write(out / TABLE, rows)


def _write(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
  # All columns, in the order in which they are met: images may differ in their channels.
  columns = list(dict.fromkeys(column for row in rows for column in row))
  text = io.StringIO()
  table = csv.DictWriter(text, columns, restval='', lineterminator='\n')
  table.writeheader()
  table.writerows(rows)
  replace_text(path, text.getvalue())
