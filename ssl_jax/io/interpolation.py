"""Linear interpolation along an axis, as a matrix."""

import functools

import numpy as np


@functools.lru_cache(maxsize=256)
def interpolation(size: int, new: int, align_corners: bool) -> np.ndarray:
  """The [new, size] matrix of linear interpolation along one axis."""
  index = np.arange(new)
  if align_corners:
    place = index * ((size - 1) / max(new - 1, 1))
  else:
    place = np.clip((index + 0.5) * (size / new) - 0.5, 0, size - 1)
  low = np.minimum(place.astype(int), size - 1)
  high = np.minimum(low + 1, size - 1)
  matrix = np.zeros((new, size), np.float32)
  np.add.at(matrix, (index, low), 1 - (place - low))
  np.add.at(matrix, (index, high), place - low)
  return matrix
