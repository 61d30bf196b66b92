"""Images that are unlike the others, and unlabeled images unlike the labeled ones.

Unlabeled images help where they show what the labeled ones show. Images are described by a few
numbers that a change of microscope, stain or tissue alters: brightness, contrast and sharpness.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

PERCENTILES = (5, 25, 50, 75, 95)
"""Of the intensities of each channel."""

SPREADS = 6.0
"""An image is an outlier where a number of it is so many spreads from the median of all.

The spread is 1.4826 times the median absolute deviation: the standard deviation, were the numbers
distributed normally.
"""

APART = 0.95
"""Share of the unlabeled images on one side of the labeled ones from which they are unlike."""


def features(image: Float[np.ndarray, '*space c']) -> Float[np.ndarray, ' features']:
  """Returns the numbers that describe an image in [0, 1]: by channel percentiles, and sharpness."""
  numbers = []
  for channel in np.moveaxis(image, -1, 0):
    numbers += np.percentile(channel, PERCENTILES).tolist()
    numbers.append(float(ndimage.gaussian_gradient_magnitude(channel, 1.0).mean()))
  return np.array(numbers, np.float64)


def outliers(described: Sequence[Float[np.ndarray, ' features']]) -> Bool[np.ndarray, ' n']:
  """Returns which images are unlike the rest; of fewer than eight, none."""
  values = np.array(described)
  if len(values) < 8:
    return np.zeros(len(values), bool)
  median = np.median(values, 0)
  spread = 1.4826 * np.median(np.abs(values - median), 0)
  # A floor: where all images agree to a hundredth, a small difference is nothing.
  return (np.abs(values - median) > SPREADS * np.maximum(spread, 0.01)).any(1)


def separation(
  labeled: Sequence[Float[np.ndarray, ' features']],
  unlabeled: Sequence[Float[np.ndarray, ' features']],
) -> float:
  """Returns how far unlabeled images are apart from labeled ones: 0.5 not at all, 1 wholly.

  It is the largest area under the ROC curve with which a single number tells the two apart: the
  probability that an unlabeled image has more of it than a labeled one, or less.
  """
  ours, others = np.array(labeled), np.array(unlabeled)
  above = (others[:, None] > ours[None]).mean((0, 1))
  equal = (others[:, None] == ours[None]).mean((0, 1))
  area = above + equal / 2
  return float(np.maximum(area, 1 - area).max())
