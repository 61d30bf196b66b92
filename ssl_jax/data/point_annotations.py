"""Folders of images and of points (a CSV for each image: x, y, class) -> checked annotations."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssl_jax.data.image_mask_pairs import ImageFile, list_files, short_name, subfolder
from ssl_jax.errors import UserError
from ssl_jax.io import csv_tables, images
from ssl_jax.io.folders import file_names, listing
from ssl_jax.types import IGNORE

COLUMNS = ('x', 'y', 'class')
"""Columns that a CSV must have; others are ignored."""

UNKNOWN_CLASSES = ('', 'unlabelled', 'unlabeled', 'unknown')
"""What the class column may hold for a marked cell of unknown class."""

BACKGROUND_NAME = 'background'

NUMBER_AS_FLOAT = re.compile(r'(-?\d+)\.0+')
"""A whole number as a column of floats has it."""


class Point(NamedTuple):
  """A line of a CSV: x from the left and y from the top edge of the image, in pixels."""

  line: int  # in the file, for messages
  x: float
  y: float
  class_name: str  # '' where it is unknown


class AnnotatedFile(NamedTuple):
  """An image file and the points of its CSV."""

  file: ImageFile
  csv: Path
  points: list[Point]
  notes: tuple[str, ...] = ()  # how the CSV was read


class PointTable(NamedTuple):
  """The points of a CSV, and how it was read."""

  points: list[Point]
  notes: tuple[str, ...]


class AnnotatedImage(NamedTuple):
  """An image file and its marked cells, as a network is taught them."""

  file: ImageFile
  csv: Path
  cells: np.ndarray  # [n, 2] row and column of each, where an integer is the center of a pixel
  classes: np.ndarray  # [n] class ids; IGNORE where unknown


def read_folder(folder: str | Path, role: str) -> list[AnnotatedFile]:
  """Reads the points of a folder that has images/ and points/ in it.

  Args:
    folder: that has the two folders in it.
    role: what it is for ('labeled', 'val', 'test'), for messages.

  Raises:
    UserError: if an image or a CSV has no partner, or naming the line of a CSV that is wrong.
  """
  how = 'put the images in images/ and their points, NAME.csv for NAME.png, in points/'
  image_folder = subfolder(Path(folder), 'images', role, how)
  point_folder = subfolder(Path(folder), 'points', role, how)
  files = list_files(image_folder)
  tables, problems = find_tables({file.name: file.image for file in files}, point_folder)
  if problems:
    raise UserError(problems[0])
  annotated = []
  for file in files:
    path = tables[file.name]
    annotated.append(AnnotatedFile(file, path, *read_points(path, file.header)))
  _check_pixels(annotated)
  return annotated


def _check_pixels(annotated: Sequence[AnnotatedFile]) -> None:
  """Raises UserError where coordinates look like fractions of the images."""
  points = [point for file in annotated for point in file.points]
  if len(points) > 1 and max(max(point.x, point.y) for point in points) <= 1:
    raise UserError(
      f'{annotated[0].csv.parent} holds {len(points)} points, all with x and y of at most 1, which '
      'look like fractions of the image; give pixels (x times the width, y times the height).'
    )


def find_tables(image_of: Mapping[str, Path], folder: Path) -> tuple[dict[str, Path], list[str]]:
  """Returns the CSV of each image by the image's name, and a sentence on each without a partner.

  Args:
    image_of: images by their names without endings.
    folder: with the CSV files in it.

  Raises:
    UserError: if the folder holds no CSV files.
  """
  names = {file_names.normal(name): name for name in image_of}
  # The points of cell.ome.tif may be in cell.csv.
  short_names = {short_name(name): image for name, image in names.items()}
  tables: dict[str, Path] = {}
  problems = []
  for path in listing.list_tables(folder):
    stem = file_names.normal(file_names.stem(path))
    name = names.get(stem) or short_names.get(stem)
    if name is None:
      problems.append(f'{path} has no image of that name in images/; add it or remove this.')
    elif name in tables:
      problems.append(f'{path} and {tables[name].name} are both points of {name}; remove one.')
    else:
      tables[name] = path
  problems += [
    f'{image} has no {folder / name}.csv; add one (its header alone where there is no cell), or '
    'move the image to the unlabeled folder.'
    for name, image in image_of.items()
    if name not in tables
  ]
  return tables, problems


def read_points(path: Path, header: images.Header) -> PointTable:
  """Reads the points of one image.

  Args:
    path: a CSV with the columns x, y and class, in any order, and perhaps others.
    header: of the image, in which the points must lie.

  Raises:
    UserError: naming the file, and the line that is wrong.
  """
  table = csv_tables.read_table(path, COLUMNS, hint='x = column, y = row, in pixels')
  points, repeated = [], 0
  # By position: a cell that was marked twice would be learned twice.
  at: dict[tuple[float, float], Point] = {}
  for row in table.rows:
    point = _read_point(row, table, path, header)
    before = at.setdefault((point.x, point.y), point)
    if before is point:
      points.append(point)
    elif before.class_name == point.class_name:
      repeated += 1
    else:
      raise UserError(
        f'{path}, lines {before.line} and {point.line} mark the same place as '
        f'{before.class_name or "unknown"} and as {point.class_name or "unknown"}; remove one.'
      )
  notes = list(table.notes)
  if repeated:
    notes.append(f'{repeated} line{"s" * (repeated > 1)} left out that mark a place once more')
  if any(NUMBER_AS_FLOAT.fullmatch(row.cells['class']) for row in table.rows):
    notes.append('classes such as 1.0 are read as 1')
  return PointTable(points, tuple(notes))


def _read_point(
  row: csv_tables.Row, table: csv_tables.Table, path: Path, header: images.Header
) -> Point:
  """Checks one line of a CSV."""
  cells = row.cells
  coordinates = []
  for axis, length in (('x', header.width), ('y', header.height)):
    value = table.number(cells[axis])
    if math.isnan(value):
      raise UserError(f'{path}, line {row.line}: {axis}={cells[axis]!r} is no number; correct it.')
    # The far edge itself is allowed: coordinates are measured from the edges of the image.
    if not 0 <= value <= length:
      raise UserError(
        f'{path}, line {row.line}: {axis}={value:g} is outside its image, which is {header.width} '
        f'pixels wide and {header.height} high; give pixels, x from the left and y from the top.'
      )
    coordinates.append(value)
  class_name = cells['class']
  if class_name.lower() == BACKGROUND_NAME:
    raise UserError(
      f'{path}, line {row.line}: background needs no points (patches of it are drawn where there '
      'are none); remove the line.'
    )
  if class_name.lower() in UNKNOWN_CLASSES:
    class_name = ''
  # Programs write whole numbers so where the column once had a gap.
  if number := NUMBER_AS_FLOAT.fullmatch(class_name):
    class_name = number[1]
  x, y = coordinates
  return Point(row.line, x, y, class_name)


def classes_in(folder: Sequence[AnnotatedFile]) -> tuple[str, ...]:
  """Returns the classes that points name, in alphabetical order, without the background.

  Raises:
    UserError: if no point has a class.
  """
  names: dict[str, AnnotatedFile] = {}
  for annotated in folder:
    for point in annotated.points:
      if point.class_name:
        names.setdefault(point.class_name, annotated)
  alike: dict[str, str] = {}
  for name in names:
    other = alike.setdefault(' '.join(name.casefold().split()), name)
    if other != name:
      raise UserError(
        f'The classes {other!r} ({names[other].csv.name}) and {name!r} ({names[name].csv.name}) '
        'differ only in capitals or spaces; write them alike.'
      )
  if not names:
    raise UserError(f'No point in {folder[0].csv.parent} has a class; name some.')
  return tuple(sorted(names))


def to_class_ids(folder: Sequence[AnnotatedFile], names: Sequence[str]) -> list[AnnotatedImage]:
  """Replaces the class names of points by ids; the first name is 1, because background is 0.

  Raises:
    UserError: naming the file and line of a class that is not in `names`.
  """
  # BACKGROUND is 0, so the first named class is 1.
  ids = {'': IGNORE, **{name: i for i, name in enumerate(names, start=1)}}
  # Cells of unknown class keep their position: background must not be drawn there.
  annotated_images = []
  for annotated in folder:
    cells = []
    classes = []
    for point in annotated.points:
      if point.class_name not in ids:
        raise UserError(
          f'{annotated.csv}, line {point.line}: the class {point.class_name!r} is not one of '
          f'{", ".join(names)}; correct it, or list it in data.classes.'
        )
      # (x, y) in the file, [row, column] in arrays.
      cells.append((point.y, point.x))
      classes.append(ids[point.class_name])
    # Pixels count from their edge in the file, and from their center in an index.
    positions = np.array(cells, float).reshape(-1, 2) - 0.5
    annotated_images.append(
      AnnotatedImage(annotated.file, annotated.csv, positions, np.array(classes, int))
    )
  return annotated_images
