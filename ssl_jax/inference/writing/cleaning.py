"""Masks and instances cleaned of specks and holes, in two and three dimensions.

Pixels and voxels are connected by their sides, not by their corners.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer
from scipy import ndimage

from ssl_jax.types import BACKGROUND


class Cleaning(NamedTuple):
  """What is removed from a mask, and filled in it, in this order."""

  largest: bool = False  # whether only the largest component of each class is kept
  min_size: float | int = 1  # pixels or voxels; smaller components of a class become background
  max_hole: float | int = 0  # pixels or voxels; holes of up to this size are filled


def clean(ids: Integer[np.ndarray, '*space'], cleaning: Cleaning) -> Integer[np.ndarray, '*space']:
  """Returns cleaned class ids."""
  if cleaning.largest or cleaning.min_size > 1:
    ids = _without_specks(ids, cleaning.largest, cleaning.min_size)
  return fill_holes(ids, cleaning.max_hole)


def clean_predicted(
  mask: Integer[np.ndarray, '*space'],
  ids: Integer[np.ndarray, '*space'] | None,
  cleaning: Cleaning,
) -> tuple[Integer[np.ndarray, '*space'], Integer[np.ndarray, '*space'] | None]:
  """Returns cleaned class ids or, of a run of instances, their ids with holes filled.

  Args:
    mask: class ids; beside instances they stay as they are.
    ids: of instances, the small ones dropped; None where the network predicts classes.
    cleaning: what is cleaned.
  """
  if ids is None:
    return clean(mask, cleaning), None
  return mask, fill_holes(ids, cleaning.max_hole)


def _without_specks(ids: np.ndarray, largest: bool, min_size: float | int) -> np.ndarray:
  """The ids without components that are small, or, with `largest`, not the largest of a class."""
  kept = np.zeros_like(ids)
  for class_id, box in enumerate(ndimage.find_objects(ids), start=1):
    if box is None:
      continue
    # Within the bounding box of the class alone, which may be much smaller than the image.
    components, _ = ndimage.label(ids[box] == class_id)
    sizes = np.bincount(components.ravel())
    # Component 0 is what does not belong to the class.
    sizes[0] = 0
    stays = sizes >= max(min_size, 1)
    if largest:
      # Of components of equal size the first is kept.
      stays &= np.arange(len(sizes)) == sizes.argmax()
    kept[box][stays[components]] = class_id
  return kept


def fill_holes(
  ids: Integer[np.ndarray, '*space'], max_hole: float | int = math.inf
) -> Integer[np.ndarray, '*space']:
  """Returns ids whose holes are filled with what surrounds them most.

  A hole is background that does not reach the edge of the image. It takes the id with which it
  shares most sides of pixels; of equal ones the smallest.

  Args:
    ids: of classes or of instances.
    max_hole: pixels or voxels; larger holes stay.
  """
  if max_hole < 1:
    return ids
  components, count = ndimage.label(ids == BACKGROUND)
  sizes = np.bincount(components.ravel(), minlength=count + 1)
  is_hole = sizes <= max_hole
  is_hole[0] = False
  for axis in range(ids.ndim):
    for edge in (0, -1):
      is_hole[np.take(components, edge, axis)] = False
  if not is_hole.any():
    return ids
  # One row a side that a hole shares with an id: [sides, 2].
  sides = np.concatenate(
    [_shared_sides(ids, components, is_hole, axis) for axis in range(ids.ndim)]
  )
  pairs, shared = np.unique(sides, axis=0, return_counts=True)
  # By the number of sides, the most first; `lexsort` sorts by its last key.
  order = np.lexsort((pairs[:, 1], -shared, pairs[:, 0]))
  holes, first = np.unique(pairs[order, 0], return_index=True)
  fillings = np.zeros(count + 1, ids.dtype)
  fillings[holes] = pairs[order[first], 1]
  return np.where(is_hole[components], fillings[components], ids)


def _shared_sides(
  ids: np.ndarray, components: np.ndarray, is_hole: np.ndarray, axis: int
) -> Integer[np.ndarray, 'n 2']:
  """Hole and id of each side that they share along an axis."""
  found = []
  length = ids.shape[axis]
  before, after = range(length - 1), range(1, length)
  for own, other in ((before, after), (after, before)):
    hole = np.take(components, own, axis)
    neighbor = np.take(ids, other, axis)
    shares = is_hole[hole] & (neighbor != BACKGROUND)
    found.append(np.stack([hole[shares], neighbor[shares]], -1))
  return np.concatenate(found)
