"""Linear interpolation along an axis, as a matrix."""

import functools

import numpy as np
from jaxtyping import Float


@functools.lru_cache(maxsize=256)
def interpolation_matrix(size: int, new: int, align_corners: bool) -> Float[np.ndarray, 'new size']:
  """Returns the matrix that resamples one axis from `size` to `new` samples.

  With `align_corners` the centers of the first and the last sample stay where they are; without,
  the outer edges do, and positions beyond the outermost centers take the outermost values.
  """
  # `position` is where each new sample lies, in units of old samples (0 = center of the first).
  index = np.arange(new)
  if align_corners:
    position = index * ((size - 1) / max(new - 1, 1))
  else:
    position = np.clip((index + 0.5) * (size / new) - 0.5, 0, size - 1)
  # Each new sample is a weighted mean of its two old neighbors, `low` and `high`.
  low = np.minimum(position.astype(int), size - 1)
  high = np.minimum(low + 1, size - 1)
  # The cache gives this array to all callers, so they must not write to it.
  matrix = np.zeros((new, size), np.float32)
  # `add.at`, not `+=`: at the last sample low equals high, and both weights must count.
  np.add.at(matrix, (index, low), 1 - (position - low))
  np.add.at(matrix, (index, high), position - low)
  return matrix
