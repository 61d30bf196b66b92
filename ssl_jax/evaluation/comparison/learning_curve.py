"""How a score grows with the number of labels, and what more of them are likely to give.

A learning curve is close to an inverse power law, score = limit - loss * n ** -rate (Figueroa et
al. 2012, Predicting sample size required for classification performance, BMC Medical Informatics
and Decision Making 12:8; Viering and Loog 2023, The shape of learning curves, TPAMI).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

RATES = np.geomspace(0.1, 2.0, 40)
"""Rates that are tried: from an almost straight line in log n to a curve that soon is flat."""

MIN_NUMBERS = 3
"""Different numbers of labels for a fit, which has three unknowns."""

MIN_DRAWS = 3
"""Draws of the labels at each number, by which their spread is known."""

SAMPLES = 1000
"""Bootstrap samples."""


class Curve(NamedTuple):
  """Scores in percent at several numbers of labels."""

  numbers: Sequence[float]
  scores: Sequence[Float[np.ndarray, ' draws']]  # of each number


class Gain(NamedTuple):
  """The difference in points that more labels are likely to make."""

  mean: float
  low: float  # 95 % interval
  high: float


class PowerLaw(NamedTuple):
  """score(n) = limit - loss * n ** -rate, in percent."""

  limit: float
  loss: float
  rate: float

  def at(self, number: float | int) -> float:
    """Returns the score at a number of labels."""
    return self.limit - self.loss * float(number) ** -self.rate


def fit(numbers: Sequence[float | int], scores: Sequence[float | int]) -> PowerLaw:
  """Returns the power law of least squares that never falls and never exceeds 100 percent.

  Args:
    numbers: of labels.
    scores: mean score at each of them.
  """
  values = np.asarray(scores, float)
  # For each rate (a row) it is a straight line in n ** -rate.
  x = np.asarray(numbers, float)[None] ** -RATES[:, None]
  centered = x - x.mean(1, keepdims=True)
  loss = -(centered * values).sum(1) / (centered**2).sum(1)
  # More labels do no harm: where the scores fall, the best such curve is flat.
  loss = np.maximum(loss, 0)
  limit = values.mean() + loss * x.mean(1)
  # Where the line would end above 100, the best one through 100 stands in for it.
  above = limit > 100
  steeper = ((100 - values) * x).sum(1) / (x**2).sum(1)
  loss = np.where(above, steeper, loss)
  limit = np.where(above, 100.0, limit)
  errors = ((limit[:, None] - loss[:, None] * x - values) ** 2).sum(1)
  best = int(errors.argmin())
  return PowerLaw(float(limit[best]), float(loss[best]), float(RATES[best]))


def gain(curve: Curve, now: float | int, more: int) -> Gain:
  """Returns by how many points the score is likely to rise with so many more labels.

  The interval is a bootstrap over the draws of labels, redrawn for each number by itself; their
  deviations are enlarged by sqrt(r / (r - 1)), because a sample of r is too narrow by so much.

  Args:
    curve: at least MIN_NUMBERS numbers with MIN_DRAWS draws.
    now: labels that there are.
    more: labels to come.
  """
  rng = np.random.default_rng(0)
  means = [float(np.mean(scores)) for scores in curve.scores]
  fitted = fit(curve.numbers, means)
  gains = []
  for _ in range(SAMPLES):
    redrawn = []
    for mean, scores in zip(means, curve.scores, strict=True):
      r = len(scores)
      sample = float(rng.choice(scores, r).mean())
      redrawn.append(mean + (sample - mean) * (r / (r - 1)) ** 0.5)
    law = fit(curve.numbers, redrawn)
    gains.append(law.at(now + more) - law.at(now))
  low, high = np.percentile(gains, (2.5, 97.5))
  return Gain(fitted.at(now + more) - fitted.at(now), float(low), float(high))
