"""Differences between two systems, with the intervals that say how far to trust them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Num
from scipy import stats

MIN_IMAGES = 6
"""Fewest test images for a bootstrap interval: if all of fewer agree, chance is still above 5 %."""


class Difference(NamedTuple):
  """A paired difference, its 95 % interval, and what varied to give the interval."""

  mean: float
  low: float
  high: float
  source: str
  enough: bool = True  # whether so many varied that an interval without 0 means something

  def __str__(self) -> str:
    return f'{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]'


def mean_interval(values: Num[np.ndarray, ' n']) -> tuple[float, float, float]:
  """Returns the mean of n values and its 95 % interval by Student's t.

  The ends of the interval are NaN where n is 1.
  """
  values, n = np.asarray(values, float), len(values)
  mean = float(values.mean())
  # The deviation of a sample: the mean was estimated from the same values.
  spread = values.std(ddof=1) if n > 1 else np.nan
  # 2.5 % lie above, and 2.5 % below.
  half = float(stats.t.ppf(0.975, max(n - 1, 1)) * spread / np.sqrt(n))
  return mean, mean - half, mean + half


def difference_over_seeds(
  ours: Num[np.ndarray, ' n'], control: Num[np.ndarray, ' n']
) -> Difference:
  """Returns the mean of the paired differences of n >= 2 seeds, with Student's t interval."""
  # Paired: what both systems share with a seed cancels out.
  differences = np.asarray(ours) - np.asarray(control)
  return Difference(*mean_interval(differences), f'{len(differences)} seeds, paired')


def difference_over_images(
  ours: Num[np.ndarray, 'n k k'],
  control: Num[np.ndarray, 'n k k'],
  score: Callable[[np.ndarray], np.ndarray | np.number],
  draws: int = 2000,
) -> Difference:
  """Returns the difference of one seed, with a bootstrap interval over test images.

  The interval says how much the choice of test images matters; it cannot say how much another seed
  would change.

  Args:
    ours: confusion matrices of the test images.
    control: those of the same images by the other system.
    score: a score of summed confusion matrices [..., k, k].
    draws: times that n images are drawn with replacement, the same for both.
  """
  # How often each image is drawn, [draws, n]: a resample is a weighted sum of the matrices.
  n = len(ours)
  counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=draws)
  # [draws, k, k] -> [draws]. The same images for both, so that hard ones cancel out.
  drawn_ours = score(np.tensordot(counts, ours, axes=1))
  drawn_control = score(np.tensordot(counts, control, axes=1))
  # NaN where a draw has no image with any class of the score.
  low, high = np.nanpercentile(drawn_ours - drawn_control, [2.5, 97.5])
  # Of all images once each: the figure that is reported elsewhere, too.
  mean = float(score(ours.sum(0)) - score(control.sum(0)))
  source = f'1 seed, {n} test images redrawn'
  return Difference(mean, float(low), float(high), source, n >= MIN_IMAGES)


def verdict(
  name: str,
  difference: Difference,
  metric: str = 'mIoU',
  against: str = 'the supervised control',
) -> str:
  """Returns one sentence that says whether `name` helps, and how sure that is."""
  points = f'{difference} points of test {metric} against {against}'
  ending = f'({difference.source}; 95 % interval)'
  # With so few images, even an interval without 0 proves nothing.
  if not difference.enough:
    return (
      f'Too few test images to say whether {name} helps: {points} {ending}; give {MIN_IMAGES} or '
      f'more, or train several seeds (num_seeds=3).'
    )
  # A verdict needs the whole interval on one side of 0.
  if difference.low > 0:
    return f'{name} helps: {points} {ending}.'
  if difference.high < 0:
    return f'{name} HURTS: {points} {ending}.'
  return f'No difference shown for {name}: {points} {ending}; the interval includes 0.'
