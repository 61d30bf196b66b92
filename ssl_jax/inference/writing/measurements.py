"""Tables of what a mask of classes holds: areas, shares, components and intensities.

OUT/measurements/NAME.csv is of one image or volume, OUT/measurements.csv of all of them.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, Num
from scipy import ndimage

from ssl_jax.io.folders import file_names
from ssl_jax.io.run_log import replace_text
from ssl_jax.types import BACKGROUND

FOLDER = 'measurements'
TABLE = 'measurements.csv'


class Measured(NamedTuple):
  """What is measured of each class, the background included."""

  pixels: Num[np.ndarray, ' k']  # or voxels
  intensities: Num[np.ndarray, 'k c']  # sums of raw intensities
  components: Integer[np.ndarray, ' k']  # parts that no sides of pixels connect


def measure(
  mask: Integer[np.ndarray, '*space'], image: Num[np.ndarray, '*space c'], count: int
) -> Measured:
  """Measures the classes of an image or volume.

  Args:
    mask: class ids.
    image: raw intensities.
    count: of classes.
  """
  flat = mask.ravel()
  sums = [np.bincount(flat, image[..., c].ravel(), count) for c in range(image.shape[-1])]
  components = [0 if k == BACKGROUND else _components(mask, k) for k in range(count)]
  return Measured(np.bincount(flat, minlength=count), np.stack(sums, -1), np.array(components))


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
    unit: of an image, square micrometers of a pixel, None where its file names no pixel size; of a
      volume, cubic millimeters of a voxel.
  """
  measured = measure(mask, image, len(classes))
  write_rows(path, rows_of(path.stem, {}, measured, mask.shape, classes, unit))


def rows_of(
  name: str,
  place: Mapping[str, int],
  measured: Measured,
  shape: Sequence[int],
  classes: Sequence[str],
  unit: float | int | None,
) -> list[dict[str, str]]:
  """Returns the rows of an image, of a volume, or of a plane of a stack.

  Args:
    name: of the image.
    place: of a plane, its index along each axis of the stack.
    measured: of its mask.
    shape: of its mask.
    classes: names.
    unit: see write_table.
  """
  is_volume = len(shape) == 3
  channels = measured.intensities.shape[1]
  rows = []
  for class_id, class_name in enumerate(classes):
    if class_id == BACKGROUND:
      continue
    count = int(measured.pixels[class_id])
    size = '' if unit is None else f'{count * unit:g}'
    row = {'name': file_names.readable(name), **{axis: str(index) for axis, index in place.items()}}
    row |= {'class': class_name, 'voxels' if is_volume else 'pixels': str(count)}
    row['mm3' if is_volume else 'area_um2'] = size
    row['share'] = f'{count / int(np.prod(shape, dtype=int)):g}'
    row['components'] = str(int(measured.components[class_id]))
    for channel, total in enumerate(measured.intensities[class_id], start=1):
      # Of a single channel there is no number in the name.
      column = 'mean_intensity' if channels == 1 else f'mean_intensity_{channel}'
      row[column] = f'{total / count:g}' if count else ''
    rows.append(row)
  return rows


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
    write_rows(out / TABLE, rows)


def write_rows(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
  """Writes a table that has all columns of its rows."""
  # All columns, in the order in which they are met: images may differ in their channels.
  columns = list(dict.fromkeys(column for row in rows for column in row))
  text = io.StringIO()
  table = csv.DictWriter(text, columns, restval='', lineterminator='\n')
  table.writeheader()
  table.writerows(rows)
  replace_text(path, text.getvalue())
