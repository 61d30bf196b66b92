"""Distances between the surfaces of two masks in millimeters: NSD and HD95.

The surface of a mask is that of marching cubes between the centers of its voxels. Each cube of 2 x
2 x 2 voxels that it crosses is one element of the surface: it lies at the position of the cube and
counts with the area of the surface inside it (Nikolov et al. 2018, arXiv:1809.04430, as in
DeepMind's surface-distance).
"""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

Corner = tuple[int, ...]
Edge = tuple[Corner, Corner]
Triangle = tuple[int, int, int]

CORNERS: tuple[Corner, ...] = tuple(itertools.product((0, 1), repeat=3))
"""The corners of a cube of 2 x 2 x 2 voxels; corner i is bit 7 - i of the cube's code."""


class Surfaces(NamedTuple):
  """The elements of two surfaces: distances to the other surface, and areas."""

  to_predicted: Float[np.ndarray, ' n']  # mm, from the truth
  areas: Float[np.ndarray, ' n']  # mm2, of the truth
  to_truth: Float[np.ndarray, ' m']  # mm, from the prediction
  predicted_areas: Float[np.ndarray, ' m']  # mm2


def _faces() -> list[list[Corner]]:
  """The four corners of each face of the cube, in turn around it."""
  # Neighbors in this list share an edge of the face.
  around = ((0, 0), (0, 1), (1, 1), (1, 0))
  return [
    [tuple(np.insert(pair, axis, side).tolist()) for pair in around]
    for axis in range(3)
    for side in (0, 1)
  ]


def _loops(inside: dict[Corner, bool]) -> list[list[Edge]]:
  """The closed lines in which the surface meets the faces of a cube, as the edges they cross.

  Where a face is crossed four times, its two corners of the rarer kind are cut off one by one.
  """
  links = _links(inside)
  loops, left = [], set(links)
  while left:
    # The smallest one, so that the result does not depend on the order of a set.
    loop = [min(left)]
    # From edge to edge until none is left: the loop is closed.
    while ahead := [edge for edge in links[loop[-1]] if edge in left and edge not in loop]:
      loop.append(ahead[0])
    loops.append(loop)
    left -= set(loop)
  return loops


def _links(inside: dict[Corner, bool]) -> dict[Edge, list[Edge]]:
  """For each edge that the surface crosses the edges it is joined to, across the edge's faces."""
  # Whether the corners inside are the rarer kind; a tie counts as that.
  rare = sum(inside.values()) <= 4
  links: dict[Edge, list[Edge]] = {}
  for face in _faces():
    neighbors = [(face[i], face[(i + 1) % 4]) for i in range(4)]
    edges = [(min(pair), max(pair)) for pair in neighbors]
    # The surface crosses an edge of which one end is inside and the other outside.
    crossed = [i for i, (a, b) in enumerate(neighbors) if inside[a] != inside[b]]
    pairs = []
    # The usual case: one line across the face.
    if len(crossed) == 2:
      pairs = [(edges[crossed[0]], edges[crossed[1]])]
    # Opposite corners are of one kind: which of them belong together is ambiguous.
    elif len(crossed) == 4:
      pairs = [(edges[i - 1], edges[i]) for i in range(4) if inside[face[i]] == rare]
    # Each edge lies on two faces, so in the end it has two links.
    for one, other in pairs:
      links.setdefault(one, []).append(other)
      links.setdefault(other, []).append(one)
  return links


def _area(points: np.ndarray, triangles: Sequence[Triangle]) -> float:
  """The area of triangles, given as indices of points [n, 3]."""
  area = 0.0
  for i, j, k in triangles:
    # Twice the area of the triangle.
    area += float(np.linalg.norm(np.cross(points[j] - points[i], points[k] - points[i])))
  return area / 2


def _triangulations(corners: Sequence[int]) -> list[list[Triangle]]:
  """All ways to cut a polygon into triangles by its diagonals."""
  if len(corners) < 3:
    return [[]]
  first, last = corners[0], corners[-1]
  return [
    # The polygon's last side belongs to one triangle, whose third corner splits the rest in two.
    [(first, corners[k], last), *left, *right]
    for k in range(1, len(corners) - 1)
    for left in _triangulations(corners[: k + 1])
    for right in _triangulations(corners[k:])
  ]


@functools.cache
def _elements() -> list[list[Float[np.ndarray, '3 3']]]:
  """For each of the 256 codes of a cube the triangles of the surface inside it, in voxels.

  A bent loop has many triangulations; the one of largest area is taken, as is usual.
  """
  elements = []
  for code in range(256):
    # Bit 7 is the first corner.
    inside = {corner: bool(code >> (7 - i) & 1) for i, corner in enumerate(CORNERS)}
    # A cube may be crossed by several separate pieces of the surface.
    triangles = []
    for loop in _loops(inside):
      points = np.array(loop, float).mean(1)  # the middles of the crossed edges
      candidates = _triangulations(range(len(loop)))
      # Rounded, so that of equal areas the first is taken on every machine.
      areas = [round(_area(points, candidate), 9) for candidate in candidates]
      largest = candidates[areas.index(max(areas))]
      triangles += [points[list(triangle)] for triangle in largest]
    elements.append(triangles)
  return elements


@functools.cache
def element_areas(spacing: tuple[float, float, float]) -> Float[np.ndarray, '256']:
  """Returns the area in mm2 of the surface inside a cube, by the cube's code.

  `spacing` are the sides of a voxel in mm.
  """
  mm = np.array(spacing, float)
  areas = []
  for triangles in _elements():
    # Areas depend on the spacing in all directions, so that the triangles are scaled first.
    areas.append(sum(_area(triangle * mm, [(0, 1, 2)]) for triangle in triangles))
  return np.array(areas, float)


def cube_codes(mask: Bool[np.ndarray, 'x y z']) -> UInt8[np.ndarray, 'i j k']:
  """Returns the code of each cube of 2 x 2 x 2 voxels: which of its corners are in the mask.

  There is one cube more along each axis than there are voxels.
  """
  # With a border of empty voxels, or surfaces at the edge of the volume would be open.
  padded = np.pad(mask, 1).astype(np.uint8)
  size = [n + 1 for n in mask.shape]
  codes = np.zeros(size, np.uint8)
  for i, corner in enumerate(CORNERS):
    # The voxel at this corner, of all cubes at once.
    shifted = padded[tuple(slice(c, c + n) for c, n in zip(corner, size, strict=True))]
    codes |= shifted << (7 - i)
  return codes


def surfaces(
  truth: Bool[np.ndarray, 'x y z'],
  predicted: Bool[np.ndarray, 'x y z'],
  spacing: Sequence[float | int],
) -> Surfaces:
  """Returns the elements of the surfaces of two masks whose voxels have sides of `spacing` mm.

  Distances are infinite where the other mask is empty.
  """
  x, y, z = (float(mm) for mm in spacing)
  # Only the box around both masks: distances outside of it are never asked for.
  boxes = ndimage.find_objects((truth | predicted).astype(np.uint8))
  if not boxes:
    return Surfaces(*(np.zeros(0) for _ in range(4)))
  true_codes, predicted_codes = (cube_codes(mask[boxes[0]]) for mask in (truth, predicted))
  # A cube with all corners inside (255) or outside (0) has no surface in it.
  true_border = (true_codes != 0) & (true_codes != 255)
  predicted_border = (predicted_codes != 0) & (predicted_codes != 255)
  areas = element_areas((x, y, z))
  return Surfaces(
    to_predicted=_distances_to(predicted_border, (x, y, z))[true_border],
    areas=areas[true_codes[true_border]],
    to_truth=_distances_to(true_border, (x, y, z))[predicted_border],
    predicted_areas=areas[predicted_codes[predicted_border]],
  )


def _distances_to(
  border: Bool[np.ndarray, 'i j k'], spacing: Sequence[float]
) -> Float[np.ndarray, 'i j k']:
  """The distance in mm of each cube to the nearest one of a border."""
  if not border.any():
    return np.full(border.shape, np.inf)
  # The transform gives the distance to the nearest zero, which is why the border is inverted.
  return np.asarray(ndimage.distance_transform_edt(~border, sampling=spacing))


def surface_dice(between: Surfaces, tolerance: float | int) -> float:
  """Returns NSD in 0..1: the fraction of both surfaces within `tolerance` mm of the other.

  It is 1 where both masks are empty.
  """
  total = between.areas.sum() + between.predicted_areas.sum()
  if not total:
    return 1.0
  # Weighted by area, as a count of elements would depend on the grid.
  near = between.areas[between.to_predicted <= tolerance].sum()
  near = near + between.predicted_areas[between.to_truth <= tolerance].sum()
  return float(near / total)


def hausdorff(between: Surfaces, percent: float | int = 95) -> float:
  """Returns HD95 in mm: the distance within which `percent` of each surface is of the other.

  It is 0 where both masks are empty, and infinite where one is.
  """
  if not len(between.areas) and not len(between.predicted_areas):
    return 0.0
  if not len(between.areas) or not len(between.predicted_areas):
    return float('inf')
  # The larger of both: what the prediction adds only shows on its own surface.
  return max(
    _percentile(between.to_predicted, between.areas, percent / 100),
    _percentile(between.to_truth, between.predicted_areas, percent / 100),
  )


def _percentile(distances: np.ndarray, areas: np.ndarray, fraction: float) -> float:
  """The distance within which this fraction of the area lies."""
  order = np.argsort(distances)
  # The fraction of the area that is at most as far away as each element.
  cumulative = np.cumsum(areas[order]) / areas.sum()
  # Rounding may leave the last sum just below the fraction.
  position = min(int(np.searchsorted(cumulative, fraction)), len(order) - 1)
  return float(distances[order][position])
