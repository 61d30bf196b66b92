"""Scores of instances: average precision by overlap, F1, panoptic quality, errors of the count.

A predicted and a true instance match if their IoU is above a threshold. At 0.5 or more an instance
has at most one partner (Kirillov et al. 2019, Panoptic segmentation, CVPR), so that no assignment
is searched for. Average precision is that of the Data Science Bowl 2018, TP / (TP + FP + FN).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer, Num

from ssl_jax.evaluation import confusion

PERCENTS = tuple(range(50, 95, 5))
"""Thresholds on the IoU of instances: 50, 55, ..., 90 percent."""

PRIMARY = 'ap50'
"""The figure that a run of instances is judged by: average precision at an IoU of 0.5."""


THRESHOLD_OF = {f'ap{percent}': place for place, percent in enumerate(PERCENTS)} | {'f1': 0}
"""The figures that can be read from `counts` at one threshold -> its place among PERCENTS."""


class Matches(NamedTuple):
  """What the instances of an image are counted as."""

  # [thresholds, 2, 2]: [0, 1] false positives, [1, 0] false negatives, [1, 1] true positives, so
  # that it is a confusion matrix of objects, whose IoU is the average precision; [0, 0] is 0.
  counts: Integer[np.ndarray, 't 2 2']
  iou: float  # sum over the matches at an IoU of 0.5

  def count_error(self) -> int:
    """Returns how many instances more, or fewer, were predicted than there are."""
    return abs(int(self.counts[0, 0, 1] - self.counts[0, 1, 0]))


def match(
  truth: Integer[np.ndarray, '*space'], predicted: Integer[np.ndarray, '*space']
) -> Matches:
  """Matches the instances of an image or a volume.

  Args:
    truth: ids, 0 for the background.
    predicted: ids of their own.
  """
  intersection, union, true, found = _overlaps(truth, predicted)
  counts = np.zeros((len(PERCENTS), 2, 2), np.int64)
  for place, percent in enumerate(PERCENTS):
    # In whole numbers: 0.7 has no exact floating-point number, and an IoU may be just that.
    hits = int((100 * intersection > percent * union).sum())
    counts[place] = (0, found - hits), (true - hits, hits)
  matched = 100 * intersection > PERCENTS[0] * union
  return Matches(counts, float((intersection[matched] / union[matched]).sum()))


def _overlaps(
  truth: np.ndarray, predicted: np.ndarray
) -> tuple[Integer[np.ndarray, ' pairs'], Integer[np.ndarray, ' pairs'], int, int]:
  """Pixels in common and in either, of all pairs that overlap; how many are true, and predicted."""
  # Numbers without gaps: ids may be large.
  true_ids, true_index, true_sizes = _numbered(truth)
  found_ids, found_index, found_sizes = _numbered(predicted)
  pairs, intersection = np.unique(true_index * len(found_ids) + found_index, return_counts=True)
  true, found = np.divmod(pairs, len(found_ids))
  union = true_sizes[true] + found_sizes[found] - intersection
  objects = (true_ids[true] != 0) & (found_ids[found] != 0)
  return (
    intersection[objects],
    union[objects],
    int((true_ids != 0).sum()),
    int((found_ids != 0).sum()),
  )


def _numbered(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The ids that there are, the place among them of each pixel's, and how many pixels each has."""
  values, index, counts = np.unique(ids.ravel(), return_inverse=True, return_counts=True)
  return values, index.ravel().astype(np.int64), counts


def scores(matches: Sequence[Matches]) -> dict[str, float]:
  """Returns the scores of a set of images, in percent but for count_error.

  They are ap50, ap55, ..., ap90 and their mean ap, f1 at an IoU of 0.5, and the panoptic quality
  pq, each from the instances of all images together; ap_per_image, the mean over images of their
  own ap, by which the Data Science Bowl 2018 was ranked; and count_error, the mean over images of
  how far the number of predicted instances is from the true number. An image without any instance,
  true or predicted, has an ap of 100.
  """
  counts = np.stack([one.counts for one in matches])
  together = counts.sum(0)
  figures = {f'ap{percent}': float(ap(together)[i]) for i, percent in enumerate(PERCENTS)}
  figures['ap'] = float(np.mean([figures[f'ap{percent}'] for percent in PERCENTS]))
  per_image = ap(counts)
  figures['ap_per_image'] = float(np.where(np.isnan(per_image), 100, per_image).mean())
  figures['f1'] = float(f1(together[0]))
  quality = 100 * sum(one.iou for one in matches)
  # TP + FP / 2 + FN / 2
  figures['pq'] = quality / objects if (objects := _halves(together[0])) else float('nan')
  figures['count_error'] = float(np.mean([one.count_error() for one in matches]))
  return figures


def ap(counts: Num[np.ndarray, '*n 2 2']) -> Float[np.ndarray, '*n'] | np.floating:
  """Returns TP / (TP + FP + FN) in percent; NaN where there is no instance."""
  return 100 * confusion.iou(counts)[..., 1]


def f1(counts: Num[np.ndarray, '*n 2 2']) -> Float[np.ndarray, '*n'] | np.floating:
  """Returns 2 TP / (2 TP + FP + FN) in percent; NaN where there is no instance."""
  jaccard = confusion.iou(counts)[..., 1]
  return 100 * 2 * jaccard / (1 + jaccard)


def _halves(counts: Integer[np.ndarray, '2 2']) -> float:
  return float(counts[1, 1] + (counts[0, 1] + counts[1, 0]) / 2)
