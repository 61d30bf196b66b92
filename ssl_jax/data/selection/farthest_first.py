"""Which images to label next: unsure ones that are unlike each other and unlike the labeled ones.

A core set covers the others: each image is near one that is labeled (k-center, by farthest-first
traversal: Gonzalez 1985; for active learning Sener and Savarese 2018, arXiv:1708.00489). Distance
alone would choose outliers and uncertainty alone five pictures of the same, so the product counts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Chosen(NamedTuple):
  """An image that was chosen, and why."""

  index: int
  uncertainty: float
  distance: float  # to the nearest labeled or earlier chosen image; NaN where there is none
  nearest: int  # position of that image among the labeled and then the candidates; -1: none
  score: float  # uncertainty times distance


def standardize(
  groups: Sequence[Float[np.ndarray, 'n _']],
) -> Float[np.ndarray, 'n all']:
  """Returns descriptions of n images in which each number has deviation 1 and each group counts 1.

  Args:
    groups: numbers of one kind each (intensities, class shares).
  """
  scaled = []
  for values in groups:
    spread = values.std(0)
    # A number that is the same for all says nothing, and its rounding should not either.
    varies = spread > 1e-6
    kept = (values[:, varies] - values[:, varies].mean(0)) / spread[varies]
    scaled.append(kept / max(kept.shape[1], 1) ** 0.5)
  return np.concatenate(scaled, 1)


def choose(
  candidates: Float[np.ndarray, 'n features'],
  uncertainty: Float[np.ndarray, ' n'],
  labeled: Float[np.ndarray, 'm features'],
  count: int,
) -> list[Chosen]:
  """Chooses images one by one, each time that of the largest uncertainty times distance.

  The distance is that to the nearest labeled or already chosen image, so copies of these are never
  chosen. Where nothing is labeled the first is the most uncertain one.

  Args:
    candidates: description of each image.
    uncertainty: of each image, at least 0.
    labeled: description of the images that have labels.
    count: how many to choose, at most; fewer are chosen where only copies are left.
  """
  nearest = np.full(len(candidates), -1)
  distance = np.full(len(candidates), np.inf)
  for position, features in enumerate(labeled):
    _come_nearer(candidates, features, position, distance, nearest)
  left = np.ones(len(candidates), bool)
  chosen: list[Chosen] = []
  while len(chosen) < min(count, len(candidates)):
    known = np.isfinite(distance).all()
    scores = np.where(left, uncertainty * (distance if known else 1.0), -1.0)
    index = int(scores.argmax())
    # A rounding error apart is a copy.
    if scores[index] < 0 or (known and distance[index] < 1e-6):
      break
    score = float(scores[index])
    far = float(distance[index]) if known else float('nan')
    chosen.append(Chosen(index, float(uncertainty[index]), far, int(nearest[index]), score))
    left[index] = False
    _come_nearer(candidates, candidates[index], len(labeled) + index, distance, nearest)
  return chosen


def _come_nearer(
  candidates: np.ndarray,
  features: np.ndarray,
  position: int,
  distance: np.ndarray,
  nearest: np.ndarray,
) -> None:
  """Updates the distances of candidates, in place, by one more labeled or chosen image."""
  new = np.sqrt(((candidates - features) ** 2).sum(1))
  nearer = new < distance
  distance[nearer] = new[nearer]
  nearest[nearer] = position
