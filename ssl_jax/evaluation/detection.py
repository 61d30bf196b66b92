"""Scores of detected cells against annotated points: matching, counts, F1."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from ssl_jax.inference.detection import Cells
from ssl_jax.types import IGNORE


def match_points(found: np.ndarray, truth: np.ndarray, distance: float) -> list[tuple[int, int]]:
  """One-to-one pairs of points at most `distance` apart: as many as can be, then the closest."""
  if not len(found) or not len(truth):
    return []
  apart = cdist(found, truth)
  near = apart <= distance
  far = 1 + distance * (min(apart.shape) + 1)  # one more pair outweighs all distances
  chosen = linear_sum_assignment(np.where(near, apart, far))
  return [(i, j) for i, j in zip(*chosen, strict=True) if near[i, j]]


def tp_fp_fn(
  cells: Cells, at: np.ndarray, classes: np.ndarray, names: Sequence[str], distance: float
) -> np.ndarray:
  """Hits, false and missed [classes, 3] against the points of an image.

  Row 0 is that of cells of whatever class. A point of unknown class counts there; found under some
  class, it is neither a hit nor false.
  """
  counts = np.zeros((len(names), 3), np.int64)
  counts[0] = _tally(len(match_points(cells.at, at, distance)), len(cells.at), len(at))
  for number in range(1, len(names)):
    mine, true = cells.at[cells.classes == number], at[classes == number]
    hits = match_points(mine, true, distance)
    others = np.delete(mine, [i for i, _ in hits], axis=0)
    unknown = len(match_points(others, at[classes == IGNORE], distance))
    counts[number] = _tally(len(hits), len(mine) - unknown, len(true))
  return counts


def _tally(hits: int, found: int, true: int) -> tuple[int, int, int]:
  return hits, found - hits, true - hits


def f1_scores(counts: np.ndarray, names: Sequence[str]) -> dict[str, float]:
  """In percent: detection_f1, _precision and _recall (any class), f1/<class>, and their mean f1."""
  hits, false, missed = counts.T.astype(float)
  each = 100 * 2 * hits / np.maximum(2 * hits + false + missed, 1)
  true = hits + missed > 0
  return {
    'detection_f1': float(each[0]),
    'detection_precision': float(100 * hits[0] / max(hits[0] + false[0], 1)),
    'detection_recall': float(100 * hits[0] / max(hits[0] + missed[0], 1)),
    'f1': float(each[1:][true[1:]].mean()) if true[1:].any() else float('nan'),
    **{f'f1/{names[i]}': float(each[i]) for i in range(1, len(names)) if true[i]},
  }
