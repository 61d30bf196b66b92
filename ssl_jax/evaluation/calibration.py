"""How far the probabilities of predictions are from how often these are right."""

import numpy as np
from jaxtyping import Float, Integer

from ssl_jax.types import IGNORE

BINS = 15
"""Of confidence, of equal width (Guo et al. 2017, On calibration of modern neural networks)."""


class Calibration:
  """Counts predictions by their confidence."""

  def __init__(self) -> None:
    self._count = np.zeros(BINS)
    self._confidence = np.zeros(BINS)
    self._right = np.zeros(BINS)

  def add(
    self,
    truth: Integer[np.ndarray, '*space'],
    predicted: Integer[np.ndarray, '*space'],
    confidence: Float[np.ndarray, '*space'],
  ) -> None:
    """Counts the pixels of an image, those of truth IGNORE left out.

    Args:
      truth: class ids.
      predicted: class ids.
      confidence: probability of the predicted class, 0..1.
    """
    known = truth != IGNORE
    values = np.clip(confidence[known].astype(np.float64), 0, 1)
    # The last bin holds a confidence of 1 as well.
    bins = np.minimum((values * BINS).astype(int), BINS - 1)
    self._count += np.bincount(bins, minlength=BINS)
    self._confidence += np.bincount(bins, values, BINS)
    self._right += np.bincount(bins, truth[known] == predicted[known], BINS)

  def error(self) -> float:
    """The expected calibration error in percent; NaN if nothing was counted."""
    total = self._count.sum()
    if not total:
      return float('nan')
    return float(100 * np.abs(self._confidence - self._right).sum() / total)
