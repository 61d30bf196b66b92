"""How good pseudo-labels are: coverage and confidence, and precision where the truth is known."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from ssl_jax.evaluation import confusion
from ssl_jax.io.run_log import replace_text
from ssl_jax.types import IGNORE, Source

EDGES = np.array([0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0])
"""Borders of the bins of confidence."""


class Quality:
  """Counts the pixels of pseudo-labels image by image, and compares them with the hidden truth."""

  def __init__(self, classes: Sequence[str], truth: Source | None):
    self._classes = classes
    self._truth = truth
    self._pixels = 0
    self._labeled = 0
    self._confidence = 0.0
    # Rows: truth, columns: prediction.
    self._matrix = np.zeros((len(classes), len(classes)), np.int64)
    # Bin of confidence, predicted class; how many are right, and all.
    self._bins = np.zeros((len(EDGES) - 1, len(classes), 2), np.int64)

  def count(
    self,
    index: int,
    mask: Integer[np.ndarray, '*space'],
    confidence: Float[np.ndarray, '*space'],
  ) -> dict[str, Any]:
    """Returns what `add` needs to know of one image, ready for JSON.

    Args:
      index: of the image in the truth.
      mask: class ids of its pseudo-labels; IGNORE where it has none.
      confidence: probability of the class that each pixel was given.
    """
    # Sums rather than means, so that images of different sizes can be added up.
    labeled = mask != IGNORE
    counts: dict[str, Any] = {
      'pixels': mask.size,
      'labeled': int(labeled.sum()),
      'confidence': float(confidence.sum()),
    }
    if self._truth is None:
      return counts
    # Pixels without a pseudo-label are no mistakes, and pixels without truth cannot be judged.
    label = np.asarray(self._truth[index]['label'])
    known = labeled & (label != IGNORE)
    true, predicted = label[known], mask[known]
    matrix = confusion.confusion_matrix(true, predicted, len(self._classes))
    bins = self._count_bins(true, predicted, confidence[known])
    return counts | {'matrix': matrix.tolist(), 'bins': bins.tolist()}

  def _count_bins(
    self, true: np.ndarray, predicted: np.ndarray, confidence: np.ndarray
  ) -> Integer[np.ndarray, 'bins classes 2']:
    """Numbers of pixels by bin of confidence and predicted class: the right ones, and all."""
    # The bin that holds each confidence; the last bin also holds exactly 1.
    place = np.clip(np.searchsorted(EDGES, confidence, 'right') - 1, 0, len(EDGES) - 2)
    # One number for each pair of bin and class, so that a single bincount counts all pairs.
    cell = place * len(self._classes) + predicted
    size = self._bins[..., 0].size
    right = np.bincount(cell[true == predicted], minlength=size)
    total = np.bincount(cell, minlength=size)
    return np.stack([right, total], -1).reshape(self._bins.shape)

  def add(self, counts: Mapping[str, Any]) -> None:
    """Adds the counts of an image."""
    self._pixels += counts['pixels']
    self._labeled += counts['labeled']
    self._confidence += counts['confidence']
    # Only data sets with a hidden truth count these.
    if 'matrix' in counts:
      self._matrix += np.array(counts['matrix'])
      self._bins += np.array(counts['bins'])

  def write(self, folder: Path) -> dict[str, float]:
    """Returns figures labels/... in percent, and writes quality.csv where the truth is known."""
    figures = {
      'labels/coverage': 100 * self._labeled / max(self._pixels, 1),
      'labels/confidence': 100 * self._confidence / max(self._pixels, 1),
    }
    if not self._matrix.any():  # no truth is known, or no pixel has a label
      return figures
    scores = confusion.scores(self._matrix, self._classes)
    figures |= {f'labels/{name}': scores[name] for name in ('miou', 'accuracy')}
    for class_id, name in enumerate(self._classes):
      # A class that was never predicted has no precision.
      if predicted := self._matrix[:, class_id].sum():
        precision = 100 * self._matrix[class_id, class_id] / predicted
        figures[f'labels/precision/{name}'] = float(precision)
    replace_text(folder / 'quality.csv', self._table())
    return figures

  def _table(self) -> str:
    """A calibration table: how often labels of a class and a bin of confidence are right."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(['class', 'confidence_from', 'confidence_to', 'pixels', 'precision'])
    for class_id, name in enumerate(self._classes):
      for place, (right, total) in enumerate(self._bins[:, class_id]):
        # Empty, not 0, for a bin without pixels.
        precision = f'{100 * right / total:.2f}' if total else ''
        table.writerow([name, EDGES[place], EDGES[place + 1], total, precision])
    return text.getvalue()
