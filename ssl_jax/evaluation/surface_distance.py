"""Distances between the surfaces of two masks in millimetres: NSD and HD95.

The surface of a mask is that of marching cubes between its voxels' centres; each cube that it
crosses counts with the area of its piece, at the place of the cube (Nikolov et al. 2018,
arXiv:1809.04430, as in DeepMind's surface-distance).
"""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

CORNERS = tuple(itertools.product((0, 1), repeat=3))
"""Of a cube of 2 x 2 x 2 voxels; corner i is bit 7 - i of its code."""

Edge = tuple[tuple[int, ...], tuple[int, ...]]
Triangle = tuple[int, int, int]


class Surfaces(NamedTuple):
  """From each element of a surface the distance to the other surface, and the element's area."""

  to_found: Float[np.ndarray, ' n']  # mm, from the truth
  areas: Float[np.ndarray, ' n']  # mm2, of the truth
  to_truth: Float[np.ndarray, ' m']
  found_areas: Float[np.ndarray, ' m']


def _faces() -> list[list[tuple[int, ...]]]:
  """The corners of each face of the cube, in turn around it."""
  found = []
  for axis, side in itertools.product(range(3), (0, 1)):
    turn = ((0, 0), (0, 1), (1, 1), (1, 0))
    found.append([tuple(np.insert(pair, axis, side).tolist()) for pair in turn])
  return found


def _loops(inside: dict) -> list[list[Edge]]:
  """The closed lines in which the surface meets the faces of a cube, as the edges they cross.

  Where a face is crossed four times, the corners of the rarer kind are cut off one by one.
  """
  rare = sum(inside.values()) <= 4
  links: dict[Edge, list[Edge]] = {}
  for face in _faces():
    edges = [tuple(sorted((face[i], face[(i + 1) % 4]))) for i in range(4)]
    crossed = [i for i in range(4) if inside[face[i]] != inside[face[(i + 1) % 4]]]
    pairs = [(edges[crossed[0]], edges[crossed[1]])] if len(crossed) == 2 else []
    if len(crossed) == 4:
      pairs = [(edges[i - 1], edges[i]) for i in range(4) if inside[face[i]] == rare]
    for one, other in pairs:
      links.setdefault(one, []).append(other)
      links.setdefault(other, []).append(one)
  found, left = [], set(links)
  while left:
    loop = [min(left)]
    while ahead := [edge for edge in links[loop[-1]] if edge in left - {*loop}]:
      loop.append(ahead[0])
    found.append(loop)
    left -= {*loop}
  return found


def _middles(loop: Sequence[Edge]) -> Float[np.ndarray, 'k 3']:
  return np.array(loop, float).mean(1)


def _area(points: np.ndarray, triangles: Sequence[Triangle]) -> float:
  sides = [(points[j] - points[i], points[k] - points[i]) for i, j, k in triangles]
  return sum(float(np.linalg.norm(np.cross(*pair))) for pair in sides) / 2


def _triangulations(corners: Sequence[int]) -> list[list[Triangle]]:
  if len(corners) < 3:
    return [[]]
  first, last = corners[0], corners[-1]
  return [
    [(first, corners[k], last), *left, *right]
    for k in range(1, len(corners) - 1)
    for left in _triangulations(corners[: k + 1])
    for right in _triangulations(corners[k:])
  ]


@functools.cache
def _pieces() -> list[list[Float[np.ndarray, '3 3']]]:
  """For each of the 256 codes the triangles of its piece, in voxels.

  A bent loop has many triangulations; the one of largest area is taken, as is usual.
  """
  found = []
  for code in range(256):
    inside = {corner: bool(code >> (7 - i) & 1) for i, corner in enumerate(CORNERS)}
    triangles = []
    for loop in _loops(inside):
      points = _middles(loop)
      best = max(_triangulations(range(len(loop))), key=lambda t, p=points: round(_area(p, t), 9))
      triangles += [points[list(corners)] for corners in best]
    found.append(triangles)
  return found


@functools.cache
def element_areas(spacing: tuple[float, float, float]) -> Float[np.ndarray, '256']:
  """The area in mm2 of the piece of surface in a cube, by the cube's code."""
  mm = np.array(spacing, float)
  return np.array([sum(_area(t * mm, [(0, 1, 2)]) for t in each) for each in _pieces()])


def codes(mask: Bool[np.ndarray, 'x y z']) -> UInt8[np.ndarray, 'i j k']:
  """The code of each cube of 2 x 2 x 2 voxels, one more along each axis than there are voxels."""
  wide = np.pad(mask, 1).astype(np.uint8)
  found = np.zeros([n + 1 for n in mask.shape], np.uint8)
  for i, corner in enumerate(CORNERS):
    shifted = wide[tuple(slice(c, c + n) for c, n in zip(corner, found.shape, strict=True))]
    found |= shifted << (7 - i)
  return found


def surfaces(
  truth: Bool[np.ndarray, 'x y z'],
  found: Bool[np.ndarray, 'x y z'],
  spacing: Sequence[float | int],
) -> Surfaces:
  """Distances between the surfaces of two masks of `spacing` mm; infinite where one has none."""
  spacing = tuple(float(mm) for mm in spacing)
  box = ndimage.find_objects((truth | found).astype(np.uint8))
  if not box:
    return Surfaces(*(np.zeros(0) for _ in range(4)))
  each = [codes(mask[box[0]]) for mask in (truth, found)]
  borders = [(code != 0) & (code != 255) for code in each]
  areas = [element_areas(spacing)[code[at]] for code, at in zip(each, borders, strict=True)]
  far = [
    ndimage.distance_transform_edt(~at, sampling=spacing) if at.any() else np.full(at.shape, np.inf)
    for at in borders
  ]
  return Surfaces(far[1][borders[0]], areas[0], far[0][borders[1]], areas[1])


def surface_dice(between: Surfaces, tolerance: float | int) -> float:
  """NSD: the part of both surfaces that is within `tolerance` mm of the other; 1 where none is."""
  total = between.areas.sum() + between.found_areas.sum()
  if not total:
    return 1.0
  near = between.areas[between.to_found <= tolerance].sum()
  return float((near + between.found_areas[between.to_truth <= tolerance].sum()) / total)


def hausdorff(between: Surfaces, percent: float | int = 95) -> float:
  """HD95 in mm: the distance within which `percent` of each surface is of the other.

  0 where both have no surface, infinite where one has none.
  """
  if not len(between.areas) and not len(between.found_areas):
    return 0.0
  if not len(between.areas) or not len(between.found_areas):
    return float('inf')
  sides = ((between.to_found, between.areas), (between.to_truth, between.found_areas))
  return max(_percentile(*side, percent / 100) for side in sides)


def _percentile(distances: np.ndarray, areas: np.ndarray, part: float) -> float:
  order = np.argsort(distances)
  reached = np.cumsum(areas[order]) / areas.sum()
  return float(distances[order][min(np.searchsorted(reached, part), len(order) - 1)])
