"""Differences between two systems over repetitions, with intervals that say how far to trust them.

A repetition has a seed, and where labels or test images are drawn a draw of its own. The variance
of the mean difference of R repetitions whose differences have the variance s2 is

  s2 * (1 / R + overlap)  +  the variance from the test images, where all repetitions share them

- `overlap` is for repetitions whose labels come from one pool and are therefore alike. In a
  cross-validation it is n_test / n_train (Nadeau and Bengio 2003, Inference for the generalization
  error, Machine Learning 52); of draws of n from N images it is n / (N - n) (delete-d jackknife).
- The variance from shared test images is that of the mean over repetitions when images, or groups
  of images, are redrawn, the same for all repetitions and both systems. Where each repetition has
  test images of its own, s2 holds it already.

The degrees of freedom are those of Welch and Satterthwaite. Intervals of scores in percent are
taken on the scale of log odds and cannot leave 0 to 100.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num
from scipy import special, stats

LEVEL = 0.95
"""Of an interval that stands alone."""

ERROR = 1 - LEVEL
"""Rate of wrong "helps" and "HURTS" that all looks at a comparison may spend together."""

MIN_REPETITIONS = 3
"""Fewest repetitions for a verdict: of two, the spread is known to a factor of 32 only."""

MIN_UNITS = 6
"""Fewest test images (or groups) for a verdict: if fewer all agree, chance is still above 5 %."""

MOST_REPETITIONS = 1000
"""Up to which the number is sought that would show a difference."""

Score = Callable[[np.ndarray], np.ndarray | np.number]
"""Summed confusion matrices [*n, k, k] -> scores [*n] in percent."""


class Difference(NamedTuple):
  """The mean difference of two systems over repetitions, in points, and how sure it is."""

  mean: float
  low: float  # ends of the 95 % interval; NaN of one repetition on test images of its own
  high: float
  control: float  # mean score of the control, in percent
  error: float  # standard error of the mean
  df: float  # degrees of freedom of `error`
  spread: float  # standard deviation of the differences; NaN of one repetition
  overlap: float  # see above
  image_variance: float  # see above; 0 where repetitions have test images of their own
  repetitions: int
  units: int  # different test images, or groups of them

  def __str__(self) -> str:
    return f'{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]'

  @property
  def p(self) -> float:
    """Two-sided probability of so large a mean if the true difference is 0."""
    return self.p_beyond(0.0, 'two')

  def p_beyond(self, value: float | int, side: str) -> float:
    """Probability of such a mean if the true difference is `value`.

    Args:
      value: in points.
      side: 'above' or 'below', where larger and smaller means count as evidence; or 'two'.
    """
    distance = self.mean - value
    if math.isnan(self.error):
      return 1.0
    if self.error == 0:
      # Without any spread the sign alone decides.
      ratio = math.copysign(math.inf, distance) if distance else 0.0
    else:
      ratio = distance / self.error
    if side == 'two':
      return float(2 * stats.t.sf(abs(ratio), self.df))
    return float(stats.t.sf(ratio if side == 'above' else -ratio, self.df))

  def interval(self, level: float = LEVEL) -> tuple[float, float]:
    """The interval that holds the true difference with the probability `level`."""
    if math.isnan(self.error):
      return math.nan, math.nan
    factor = stats.t.ppf((1 + level) / 2, self.df)
    return _difference_bounds(self.control, self.mean, factor * self.error)


def mean_interval(
  values: Num[np.ndarray, ' n'], level: float = LEVEL, percent: bool = True
) -> tuple[float, float, float]:
  """Returns the mean of n values and the ends of its interval, NaN where n is 1.

  Args:
    values: of independent repetitions.
    level: of the interval.
    percent: whether they are scores of 0 to 100, which the interval then does not leave.
  """
  values, n = np.asarray(values, float), len(values)
  mean = float(values.mean())
  if n < 2:
    return mean, math.nan, math.nan
  # The deviation of a sample: the mean was estimated from the same values.
  half = float(stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n))
  if not percent:
    return mean, mean - half, mean + half
  low, high = _difference_bounds(mean, 0.0, half)
  return mean, mean + low, mean + high


def mean_difference(
  ours: Num[np.ndarray, ' r'],
  control: Num[np.ndarray, ' r'],
  *,
  overlap: float | int = 0.0,
  image_variance: float | int = 0.0,
  units: int = MIN_UNITS,
  percent: bool = True,
) -> Difference:
  """Returns the mean of the paired differences of r repetitions, with its interval.

  Args:
    ours: scores by repetition.
    control: those of the other system in the same repetitions.
    overlap: see the top of this file.
    image_variance: likewise, in points squared; of `variance_over_images`.
    units: different test images or groups.
    percent: whether scores are of 0 to 100, which the interval then does not leave.
  """
  ours, control = np.asarray(ours, float), np.asarray(control, float)
  # Paired: what both systems share in a repetition cancels out.
  differences = ours - control
  r = len(differences)
  mean, control_mean = float(differences.mean()), float(control.mean())
  spread = float(differences.std(ddof=1)) if r > 1 else math.nan
  if r > 1:
    between = spread**2 * (1 / r + overlap)
    parts = [(between, r - 1), (image_variance, max(units - 1, 1))]
    error = math.sqrt(between + image_variance)
    df = _satterthwaite(parts)
  else:
    # Of one repetition only the choice of test images is known to vary.
    error = math.sqrt(image_variance) if image_variance else math.nan
    df = float(max(units - 1, 1))
  low = high = math.nan
  if not math.isnan(error):
    half = float(stats.t.ppf((1 + LEVEL) / 2, df)) * error
    low, high = mean - half, mean + half
    if percent:
      low, high = _difference_bounds(control_mean, mean, half)
  return Difference(
    mean, low, high, control_mean, error, df, spread, overlap, image_variance, r, units
  )


def variance_over_images(
  ours: Sequence[Num[np.ndarray, 'n k k']],
  control: Sequence[Num[np.ndarray, 'n k k']],
  groups: Sequence[str],
  score: Score,
  draws: int = 1000,
) -> float:
  """Returns the variance of the mean difference over repetitions when test images are redrawn.

  Args:
    ours: confusion matrices of the n test images, which all repetitions share, by repetition.
    control: those of the other system.
    groups: of each image; those of one group are drawn together.
    score: what is compared.
    draws: bootstrap samples.
  """
  names = list(dict.fromkeys(groups))
  if len(names) < 2:
    return 0.0
  place = np.array([names.index(group) for group in groups])
  rng = np.random.default_rng(0)
  # How often each group is drawn, [draws, groups]: a sample is a weighted sum of matrices. All
  # repetitions and both systems get the same samples, so that hard images cancel out.
  counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
  differences = np.zeros(draws)
  for one, other in zip(ours, control, strict=True):
    sides = []
    for matrices in (one, other):
      summed = np.zeros((len(names), *matrices.shape[1:]))
      np.add.at(summed, place, matrices)
      sides.append(np.asarray(score(np.tensordot(counts, summed, axes=1)), float))
    differences += (sides[0] - sides[1]) / len(ours)
  # NaN where a sample has no image with any class of the score. A bootstrap of n units shows
  # (n - 1) / n of the variance.
  return float(np.nanvar(differences) * len(names) / (len(names) - 1))


def holm(ps: Sequence[float]) -> list[float]:
  """Returns p-values adjusted for their number (Holm 1979), in the given order."""
  order = np.argsort(ps, kind='stable')
  adjusted = [0.0] * len(ps)
  largest = 0.0
  for rank, index in enumerate(order):
    # The smallest counts for all, the next for all but one, and none less than one before it.
    largest = max(largest, min(1.0, (len(ps) - rank) * ps[index]))
    adjusted[index] = largest
  return adjusted


def holm_levels(ps: Sequence[float]) -> list[float]:
  """Returns the levels at which intervals leave 0 out exactly where `holm` stays below ERROR."""
  order = np.argsort(ps, kind='stable')
  levels = [LEVEL] * len(ps)
  for rank, index in enumerate(order):
    error = ERROR / (len(ps) - rank)
    levels[index] = 1 - error
    if ps[index] > error:
      # After the first that is not shown, the others are judged as strictly as that one.
      for later in order[rank + 1 :]:
        levels[later] = 1 - error
      break
  return levels


def look_error(look: int) -> float:
  """Returns the rate of error that the look of this number (1 is the first) may spend.

  Half of what is left each time, so that all looks together stay below ERROR.
  """
  return ERROR / 2**look


def repetitions_needed(difference: Difference, error: float = ERROR) -> int | None:
  """Returns how many repetitions would show a difference as large as the one seen.

  With four in five chances, if spread and difference are as seen. None if no number would, as the
  test images or the pool of labels alone leave too much open, or MOST_REPETITIONS would not do.
  """
  if math.isnan(difference.spread) or not difference.mean:
    return None
  for r in range(MIN_REPETITIONS, MOST_REPETITIONS + 1):
    between = difference.spread**2 * (1 / r + difference.overlap)
    total = between + difference.image_variance
    df = _satterthwaite([(between, r - 1), (difference.image_variance, difference.units - 1)])
    needed = stats.t.ppf(1 - error / 2, df) + stats.t.ppf(0.8, df)
    if abs(difference.mean) >= needed * math.sqrt(total):
      return r
  return None


def _satterthwaite(parts: Sequence[tuple[float, int]]) -> float:
  """Degrees of freedom of a sum of variances, each with its own (Satterthwaite 1946)."""
  total = sum(variance for variance, _ in parts)
  if total == 0:
    return float(parts[0][1])
  return total**2 / sum(variance**2 / max(df, 1) for variance, df in parts)


def _difference_bounds(control: float, mean: float, half: float) -> tuple[float, float]:
  """The ends of an interval of control + difference that stays within 0 to 100, as differences.

  On the scale of log odds, with the slope of the line between both scores: 0 is inside exactly
  where it is inside mean +- half.
  """
  # A score of 0 or 100 has no log odds; a hundredth of a point from the end it has.
  ends = np.clip(np.array([control, control + mean]) / 100, 1e-4, 1 - 1e-4)
  odds: Float[np.ndarray, 2] = special.logit(ends)
  middle = float(ends.mean())
  slope = middle * (1 - middle)
  if abs(ends[1] - ends[0]) > 1e-6:
    slope = float((ends[1] - ends[0]) / (odds[1] - odds[0]))
  width = half / 100 / slope
  low, high = 100 * special.expit(np.array([odds[1] - width, odds[1] + width]))
  return float(low - control), float(high - control)
