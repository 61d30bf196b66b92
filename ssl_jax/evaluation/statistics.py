"""Differences between two systems, with the interval that makes them believable."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

FEWEST = 6
"""Test images below which redrawing them shows nothing: even if all agree, chance is above 5 %."""


class Difference(NamedTuple):
  """A paired difference, its 95 % interval, and what varied to give the interval."""

  mean: float
  low: float
  high: float
  source: str
  enough: bool = True  # whether so many varied that an interval without 0 means something

  def __str__(self) -> str:
    return f'{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]'


def of_mean(values: np.ndarray) -> tuple[float, float, float]:
  """The mean of n values and its 95 % interval by Student's t; no interval (NaN) where n is 1."""
  values, n = np.asarray(values, float), len(values)
  mean = float(values.mean())
  spread = values.std(ddof=1) if n > 1 else np.nan
  half = float(stats.t.ppf(0.975, max(n - 1, 1)) * spread / np.sqrt(n))
  return mean, mean - half, mean + half


def over_seeds(ours: np.ndarray, control: np.ndarray) -> Difference:
  """Student's t interval of the paired differences of n >= 2 seeds."""
  difference = np.asarray(ours) - np.asarray(control)
  return Difference(*of_mean(difference), f'{len(difference)} seeds, paired')


def over_images(
  ours: np.ndarray,
  control: np.ndarray,
  score: Callable[[np.ndarray], np.ndarray],
  draws: int = 2000,
) -> Difference:
  """Bootstrap interval for one seed: test images [n, k, k] are redrawn, the same for both.

  `score` reads summed confusion matrices [..., k, k]. The interval tells how much the choice of
  test images matters; it cannot tell how much another seed would change.
  """
  n = len(ours)
  counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=draws)
  redrawn = [score(np.tensordot(counts, m, axes=1)) for m in (ours, control)]
  low, high = np.nanpercentile(redrawn[0] - redrawn[1], [2.5, 97.5])
  mean = float(score(ours.sum(0)) - score(control.sum(0)))
  return Difference(mean, float(low), float(high), f'1 seed, {n} test images redrawn', n >= FEWEST)


def verdict(
  name: str,
  difference: Difference,
  metric: str = 'mIoU',
  against: str = 'the supervised control',
) -> str:
  """One sentence that says whether `name` helped, and how sure that is."""
  what = f'{difference} points of test {metric} against {against}'
  ending = f'({difference.source}; 95 % interval)'
  if not difference.enough:
    return (
      f'Too few test images to say whether {name} helps: {what} {ending}; give {FEWEST} or more, '
      f'or several seeds (replicas=3).'
    )
  if difference.low > 0:
    return f'{name} helps: {what} {ending}.'
  if difference.high < 0:
    return f'{name} HURTS: {what} {ending}.'
  return f'No difference shown for {name}: {what} {ending}; the interval holds 0.'
