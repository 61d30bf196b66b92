"""How good pseudo-labels are: coverage and confidence, and precision where the truth is known."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jax.evaluation import confusion
from ssl_jax.io.run_log import replace_text
from ssl_jax.types import IGNORE, Source

EDGES = np.array([0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0])
"""Borders of the bins of confidence."""


class Quality:
  """Counts pixels of pseudo-labels, image by image, and holds them against the hidden truth."""

  def __init__(self, classes: Sequence[str], truth: Source | None):
    self.classes, self.truth = classes, truth
    self.pixels, self.kept, self.sure = 0, 0, 0.0
    self.matrix = np.zeros((len(classes), len(classes)), np.int64)
    self.bins = np.zeros((len(EDGES) - 1, len(classes), 2), np.int64)  # told class; right, all

  def count(self, index: int, mask: np.ndarray, confidence: np.ndarray) -> dict[str, Any]:
    """What `add` wants to know of one image, ready for JSON.

    `mask` are its class ids [*space] (IGNORE: not told), `confidence` the teacher's certainty.
    """
    told = mask != IGNORE
    counts = {'pixels': mask.size, 'told': int(told.sum()), 'sure': float(confidence.sum())}
    if self.truth is None:
      return counts
    label = self.truth[index]['label']
    known = told & (label != IGNORE)
    place = np.clip(np.searchsorted(EDGES, confidence[known], 'right') - 1, 0, len(EDGES) - 2)
    at, size = place * len(self.classes) + mask[known], self.bins[..., 0].size
    each = [np.bincount(x, minlength=size) for x in (at[label[known] == mask[known]], at)]
    matrix = confusion.confusion_matrix(label[known], mask[known], len(self.classes))
    bins = np.stack(each, -1).reshape(self.bins.shape)
    return counts | {'matrix': matrix.tolist(), 'bins': bins.tolist()}

  def add(self, counts: Mapping[str, Any]) -> None:
    """Adds the counts of an image."""
    self.pixels += counts['pixels']
    self.kept += counts['told']
    self.sure += counts['sure']
    if 'matrix' in counts:
      self.matrix += np.array(counts['matrix'])
      self.bins += np.array(counts['bins'])

  def write(self, folder: Path) -> dict[str, float]:
    """Writes quality.csv where the truth is known; figures in percent."""
    figures = {
      'labels/coverage': 100 * self.kept / max(self.pixels, 1),
      'labels/confidence': 100 * self.sure / max(self.pixels, 1),
    }
    if not self.matrix.any():  # no truth is known, or nothing was told
      return figures
    scores = confusion.scores(self.matrix, self.classes)
    figures |= {f'labels/{name}': scores[name] for name in ('miou', 'accuracy')}
    for i, name in enumerate(self.classes):
      if told := self.matrix[:, i].sum():
        figures[f'labels/precision/{name}'] = float(100 * self.matrix[i, i] / told)
    replace_text(folder / 'quality.csv', self._table())
    return figures

  def _table(self) -> str:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(['class', 'confidence_from', 'confidence_to', 'pixels', 'precision'])
    for i, name in enumerate(self.classes):
      for low, high, (right, told) in zip(EDGES, EDGES[1:], self.bins[:, i], strict=False):
        table.writerow([name, low, high, told, f'{100 * right / told:.2f}' if told else ''])
    return text.getvalue()
