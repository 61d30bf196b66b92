"""Exact outlines of the objects in a mask: polygons along the sides of pixels.

Corners are whole numbers: x from the left and y from the top edge of the image, so that the first
pixel lies between 0 and 1. QuPath and ImageJ count so for areas. A polygon that is filled again
gives the same pixels.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer
from skimage import measure

Ring = Int[np.ndarray, '_ 2']
"""Corners (x, y) of a closed line, the first one not repeated."""


class Polygon(NamedTuple):
  """A part of an object whose pixels are connected by their sides."""

  outer: Ring  # clockwise on the screen
  holes: tuple[Ring, ...]  # counterclockwise; they touch no other ring but at single corners


class Outline(NamedTuple):
  """An object: several polygons where its parts touch at corners only, or not at all."""

  id: int  # of a class or an instance
  pixels: int
  polygons: tuple[Polygon, ...]


def of_components(mask: Integer[np.ndarray, 'h w']) -> Iterator[Outline]:
  """Yields the outline of each connected component of each class but the background."""
  for class_id, pixels, polygon in _parts(mask):
    yield Outline(class_id, pixels, (polygon,))


def of_instances(ids: Integer[np.ndarray, 'h w']) -> Iterator[Outline]:
  """Yields one outline for each instance, in the order of their ids."""
  parts = sorted(_parts(ids), key=lambda part: part[0])
  for number, group in itertools.groupby(parts, key=lambda part: part[0]):
    _, pixels, polygons = zip(*group, strict=True)
    yield Outline(number, sum(pixels), polygons)


def _parts(ids: Integer[np.ndarray, 'h w']) -> Iterator[tuple[int, int, Polygon]]:
  """Yields id, number of pixels and polygon of each connected part, the upper ones first."""
  components = measure.label(ids, connectivity=1)
  counts = np.bincount(components.ravel()).tolist()
  outer: dict[int, Ring] = {}
  holes: dict[int, list[Ring]] = {}
  id_of: dict[int, int] = {}
  for component, pixel, ring in _rings(components):
    id_of[component] = int(ids[pixel])
    # Twice the signed area: above 0 where the part lies inside of the ring.
    x, y = ring.T
    if np.dot(x, np.roll(y, -1)) > np.dot(y, np.roll(x, -1)):
      outer[component] = ring
    else:
      holes.setdefault(component, []).append(ring)
  for component in sorted(outer):
    polygon = Polygon(outer[component], tuple(holes.get(component, ())))
    yield id_of[component], counts[component], polygon


def _rings(
  components: Integer[np.ndarray, 'h w'],
) -> Iterator[tuple[int, tuple[int, int], Ring]]:
  """Yields the closed lines around each component, which lies on their right.

  With each come the number of its component, and row and column of one of its pixels.
  """
  height, width = (length + 1 for length in components.shape)
  begins, ends = _sides(components)
  # Of two sides of one component that begin at a corner, one is in each dict.
  first, index = np.unique(begins, return_index=True)
  others = np.setdiff1d(np.arange(len(begins)), index, assume_unique=True)
  next_of = dict(zip(first.tolist(), ends[index].tolist(), strict=True))
  second = dict(zip(begins[others].tolist(), ends[others].tolist(), strict=True))
  for start in first.tolist():
    if start not in next_of:
      continue
    # Walks until a corner is met again, and cuts off the loop between: a line that touches itself
    # at a corner becomes two, as polygons demand.
    path = [start]
    place_of = {start: 0}
    while path:
      corner = next_of.pop(path[-1])
      if path[-1] in second:
        next_of[path[-1]] = second.pop(path[-1])
      if corner not in place_of:
        place_of[corner] = len(path)
        path.append(corner)
        continue
      loop = path[place_of[corner] :]
      component, corners = np.divmod(np.array(loop), height * width)
      rows, columns = np.divmod(corners, width)
      ring = np.stack([columns, rows], -1)
      yield int(component[0]), _pixel_beside(ring), _without_straight_corners(ring)
      for passed in loop[1:]:
        del place_of[passed]
      del path[place_of[corner] + 1 :]
      # Goes on where another line leaves this corner or, if none does, the corners before it.
      if corner not in next_of:
        assert len(path) == 1  # each corner is entered as often as it is left
        break


def _sides(components: Integer[np.ndarray, 'h w']) -> tuple[np.ndarray, np.ndarray]:
  """Where the sides of pixels on the rim of a component begin and end.

  A corner is one number: the component times the number of corners, plus that of the corner.
  """
  height, width = (length + 1 for length in components.shape)
  padded = np.pad(components, 1)
  center = padded[1:-1, 1:-1]
  # The neighbor, and the side's begin and end as rows and columns from the pixel.
  sides = (
    (padded[:-2, 1:-1], (0, 0), (0, 1)),  # above: to the right
    (padded[1:-1, 2:], (0, 1), (1, 1)),  # right: down
    (padded[2:, 1:-1], (1, 1), (1, 0)),  # below: to the left
    (padded[1:-1, :-2], (1, 0), (0, 0)),  # left: up
  )
  begins, ends = [], []
  for neighbor, begin, end in sides:
    rows, columns = np.nonzero((center != neighbor) & (center > 0))
    offset = center[rows, columns].astype(np.int64) * (height * width)
    begins.append(offset + (rows + begin[0]) * width + columns + begin[1])
    ends.append(offset + (rows + end[0]) * width + columns + end[1])
  return np.concatenate(begins), np.concatenate(ends)


def _pixel_beside(ring: Ring) -> tuple[int, int]:
  """Row and column of the pixel to the right of the first side of a ring."""
  (x, y), (next_x, next_y) = ring[:2].tolist()
  if next_y == y:  # to the right: the pixel is below; to the left: above
    return (y, x) if next_x > x else (y - 1, next_x)
  return (y, x - 1) if next_y > y else (next_y, x)


def _without_straight_corners(ring: Ring) -> Ring:
  """The ring without corners at which it goes straight on."""
  before = ring - np.roll(ring, 1, 0)
  after = np.roll(ring, -1, 0) - ring
  return ring[(before != after).any(1)]
