"""Images that show the same: copies, and pictures so alike that they are no two samples.

A test image that is nearly a training image makes a score too good, and frames of a movie or
sections of a stack count as one. Images are compared as small gray copies.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

SIDE = 32
"""Pixels of a side of the small copies."""

ALIKE = 0.98
"""Correlation of two small copies above which images are nearly the same."""

FLAT = 1e-3
"""Deviation of a small copy, in [0, 1], below which it shows nothing to compare."""

BLOCK = 1024
"""Images that are compared with all others at a time."""


class Alike(NamedTuple):
  """Two images, by their positions, that are nearly or exactly the same."""

  first: int
  second: int
  correlation: float  # of the small copies; 1 of copies


def thumbnail(image: Float[np.ndarray, 'h w c']) -> Float[np.ndarray, ' pixels']:
  """Returns an image [0, 1] as a small gray copy of mean 0 and length 1; 0 of a flat image."""
  gray = Image.fromarray(image.mean(-1).astype(np.float32))
  small = np.asarray(gray.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32).ravel()
  centered = small - small.mean()
  if centered.std() < FLAT:
    return np.zeros_like(centered)
  return centered / np.linalg.norm(centered)


def find(thumbnails: Sequence[Float[np.ndarray, ' pixels']]) -> list[Alike]:
  """Returns pairs of images that are nearly the same, the most alike first.

  Images that look alike anyway (cells in a culture, say) do not count: a pair must be more alike
  than either is to nearly all others.
  """
  if len(thumbnails) < 2:
    return []
  stacked = np.stack(thumbnails)
  pairs = []
  for start in range(0, len(stacked), BLOCK):
    # [block, images]
    correlations = stacked[start : start + BLOCK] @ stacked.T
    for row, column in np.argwhere(correlations > ALIKE):
      first = start + int(row)
      if first < column:
        pairs.append(Alike(first, int(column), float(correlations[row, column])))
  usual = _usual_correlation(stacked)
  kept = [pair for pair in pairs if 1 - pair.correlation < (1 - usual) / 4]
  return sorted(kept, key=lambda pair: -pair.correlation)


def _usual_correlation(stacked: Float[np.ndarray, 'n pixels']) -> float:
  """The median correlation of neighbors in a shuffled list: of images taken at random."""
  order = np.random.default_rng(0).permutation(len(stacked))
  values = (stacked[order] * stacked[np.roll(order, 1)]).sum(1)
  return float(np.median(values))
