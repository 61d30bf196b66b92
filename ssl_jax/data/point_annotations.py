"""Folders of images and of points (one CSV for each image: x, y, class) -> checked scenes."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssl_jax.data.image_mask_pairs import Item, files_in, inside
from ssl_jax.errors import UserError
from ssl_jax.io import images
from ssl_jax.types import IGNORE

COLUMNS = ('x', 'y', 'class')
UNNAMED = ('', 'unlabelled', 'unlabeled', 'unknown')
"""Classes of cells that somebody saw and nobody named."""
BACKGROUND = 'background'


class Point(NamedTuple):
  """A line of a CSV: x from the left and y from the top edge of the image, in pixels."""

  line: int
  x: float
  y: float
  name: str  # its class; '' where it is unknown


class Scene(NamedTuple):
  """An image whose cells have been marked."""

  item: Item  # whose mask is the CSV
  at: np.ndarray  # [n, 2] row and column of each cell, as an index of a pixel (its centre)
  classes: np.ndarray  # [n] ids, IGNORE where unknown


def read_folder(folder: str | Path, role: str) -> list[tuple[Item, list[Point]]]:
  """The images of a folder that has images/ and points/ in it, with their points.

  Raises UserError where an image or a CSV stands alone, and for whatever a CSV cannot mean.
  """
  how = 'put the images in images/ and their points, NAME.csv for NAME.png, in points/'
  parts = {kind: inside(Path(folder), kind, role, how) for kind in ('images', 'points')}
  items = files_in(parts['images'])
  files = {path.stem: path for path in sorted(parts['points'].glob('*.csv'))}
  for name in files:
    if name not in {item.name for item in items}:
      raise UserError(f'{files[name]} has no image of that name in images/; add it or remove this.')
  for item in items:
    if item.name not in files:
      raise UserError(
        f'{item.image} has no {parts["points"] / item.name}.csv; add one (its header alone where '
        f'there is no cell), or move the image to the unlabeled folder.'
      )
  items = [item._replace(mask=files[item.name]) for item in items]
  return [(item, read_points(item.mask, item.header)) for item in items]


def read_points(path: Path, header: images.Header) -> list[Point]:
  """The points of one image; raises UserError naming the file and the line that is wrong."""
  try:
    text = images.read_bytes(path).decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise UserError(f'{path} is not text (UTF-8); save it as CSV.') from error
  table = csv.DictReader(io.StringIO(text))
  found = tuple(name.strip() for name in table.fieldnames or ())
  if not set(COLUMNS) <= set(found):
    raise UserError(
      f'{path} has the columns {", ".join(found) or "(none)"} and needs x, y, class, with commas '
      f'between them (x = column, y = row, in pixels).'
    )
  table.fieldnames = found
  return [_point(row, table.line_num, path, header) for row in table]


def _point(row: dict, line: int, path: Path, header: images.Header) -> Point:
  at = []
  for axis, side in (('x', header.width), ('y', header.height)):
    try:
      value = float(row[axis])
    except (TypeError, ValueError):
      value = math.nan
    if not math.isfinite(value):
      raise UserError(f'{path}, line {line}: {axis}={row[axis]!r} is no number; correct it.')
    if not 0 <= value <= side:
      raise UserError(
        f'{path}, line {line}: {axis}={value:g} is outside its image, which is {header.width} '
        f'pixels wide and {header.height} high; give pixels, x from the left and y from the top.'
      )
    at.append(value)
  name = (row['class'] or '').strip()
  if name.lower() == BACKGROUND:
    raise UserError(
      f'{path}, line {line}: background needs no points (it is drawn where there are none); '
      f'remove the line.'
    )
  return Point(line, *at, '' if name.lower() in UNNAMED else name)


def classes_of(folder: Sequence[tuple[Item, list[Point]]]) -> tuple[str, ...]:
  """The classes that points name, in alphabetical order; raises UserError where there is none."""
  names = sorted({point.name for _, points in folder for point in points if point.name})
  if not names:
    raise UserError(f'No point in {folder[0][0].mask.parent} has a class; name some.')
  return tuple(names)


def named(folder: Sequence[tuple[Item, list[Point]]], names: Sequence[str]) -> list[Scene]:
  """Points by class id (background is 0); raises UserError for a class that is not in `names`."""
  ids = {'': IGNORE, **{name: i for i, name in enumerate(names, start=1)}}
  made = []
  for item, points in folder:
    for point in points:
      if point.name not in ids:
        raise UserError(
          f'{item.mask}, line {point.line}: the class {point.name!r} is not one of '
          f'{", ".join(names)}; correct it, or list it in data.classes.'
        )
    at = np.array([(point.y, point.x) for point in points], float).reshape(-1, 2) - 0.5
    made.append(Scene(item, at, np.array([ids[point.name] for point in points], int)))
  return made
