"""Scores of detected cells against annotated points: matching, counts and F1."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer, Num
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from ssl_jax.inference.detection import Cells
from ssl_jax.types import IGNORE


def match_points(
  detected: Num[np.ndarray, 'n 2'], annotated: Num[np.ndarray, 'm 2'], distance: float | int
) -> list[tuple[int, int]]:
  """Returns one-to-one pairs of indices of points that are at most `distance` apart.

  There are as many pairs as possible, and of all such pairings it is the one with the smallest sum
  of distances.
  """
  if not len(detected) or not len(annotated):
    return []
  # [detected, annotated], in pixels
  distances = cdist(detected, annotated)
  near = distances <= distance
  # One more pair is worth more than all distances together.
  too_far = 1 + distance * (min(distances.shape) + 1)
  # A pair beyond the distance may still be chosen, where there is no better one; it is left out.
  chosen = linear_sum_assignment(np.where(near, distances, too_far))
  return [(int(i), int(j)) for i, j in zip(*chosen, strict=True) if near[i, j]]


def tp_fp_fn(
  cells: Cells,
  points: Num[np.ndarray, 'm 2'],
  classes: Integer[np.ndarray, ' m'],
  names: Sequence[str],
  distance: float | int,
) -> Integer[np.ndarray, 'classes 3']:
  """Returns the true positives, false positives and false negatives of an image, class by class.

  Row 0 counts cells of any class. An annotated point of unknown class (IGNORE) counts there; a cell
  detected on it under some class is neither a true nor a false positive of that class.

  Args:
    cells: that were detected.
    points: annotated rows and columns.
    classes: their ids.
    names: of all classes, the background first.
    distance: pixels within which a cell is a hit.
  """
  counts = np.zeros((len(names), 3), np.int64)
  hits = len(match_points(cells.points, points, distance))
  # Right places count here even where the class is wrong or unknown.
  counts[0] = (hits, len(cells.points) - hits, len(points) - hits)
  # Each class is matched by itself: a cell of another class nearby takes no partner away.
  for class_id in range(1, len(names)):
    detected = cells.points[cells.classes == class_id]
    annotated = points[classes == class_id]
    pairs = match_points(detected, annotated, distance)
    # What stays without a partner may lie on a point of unknown class, where it is not wrong.
    unmatched = np.delete(detected, [i for i, _ in pairs], axis=0)
    unknown = len(match_points(unmatched, points[classes == IGNORE], distance))
    hits = len(pairs)
    counts[class_id] = (hits, len(detected) - unknown - hits, len(annotated) - hits)
  return counts


def f1_scores(counts: Integer[np.ndarray, 'classes 3'], names: Sequence[str]) -> dict[str, float]:
  """Returns detection_f1, _precision and _recall of any class, f1/<class>, and their mean f1.

  All are in percent, from the counts of tp_fp_fn summed over images; a class that was not annotated
  has no f1 and is not in the mean.
  """
  true_positives, false_positives, false_negatives = counts.T.astype(float)
  errors = false_positives + false_negatives
  # F1 = 2 TP / (2 TP + FP + FN); the maximum turns 0 / 0 into 0.
  f1 = 100 * 2 * true_positives / np.maximum(2 * true_positives + errors, 1)
  num_annotated = true_positives + false_negatives
  num_detected = true_positives + false_positives
  annotated = num_annotated > 0
  figures = {
    'detection_f1': float(f1[0]),
    'detection_precision': float(100 * true_positives[0] / max(num_detected[0], 1)),
    'detection_recall': float(100 * true_positives[0] / max(num_annotated[0], 1)),
    # Row 0 is not a class.
    'f1': float(f1[1:][annotated[1:]].mean()) if annotated[1:].any() else float('nan'),
  }
  for class_id in range(1, len(names)):
    if annotated[class_id]:
      figures[f'f1/{names[class_id]}'] = float(f1[class_id])
  return figures
