"""Scoring a network on a split: masks image by image at native size, cells patch by patch."""

import csv
import functools
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssl_jax.data import dataset_stats
from ssl_jax.evaluation import confusion
from ssl_jax.inference import patches
from ssl_jax.inference.images import predict_labels
from ssl_jax.io import mask_store as masks
from ssl_jax.io.run_log import replace_text
from ssl_jax.types import CELLS, MASKS, PredictFn, Source

FILE = 'patches.csv'


class Evaluation(NamedTuple):
  """Scores of a split, and what they were read from."""

  scores: dict[str, float]  # in percent
  matrices: np.ndarray  # [images, classes, classes] counts of pixels or patches
  names: Sequence[str]  # of the images
  task: str
  masks: dict[str, np.ndarray] = {}  # noqa: RUF012  class ids [*space] by image name
  patches: Sequence[dict] = ()  # a line for each

  def write(self, folder: Path) -> None:
    """Writes matrices.npz, and masks/NAME.png or patches.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / 'matrices.npz', matrices=self.matrices, names=self.names, task=self.task)
    for name, mask in self.masks.items():
      masks.write(folder, name, mask)
    if self.patches:
      text = io.StringIO()
      table = csv.DictWriter(text, [*self.patches[0]])
      table.writeheader()
      table.writerows(self.patches)
      replace_text(folder / FILE, text.getvalue())


def evaluate(
  answer: PredictFn, source: Source, classes: tuple[str, ...], task: str = MASKS
) -> Evaluation:
  """Scores a labelled split: every image at its native size, or every patch."""
  return (_cells if task == CELLS else _masks)(answer, source, classes)


def _masks(answer: PredictFn, source: Source, classes: tuple[str, ...]) -> Evaluation:
  records = [source[i] for i in range(len(source))]
  found: dict[int, np.ndarray] = {}
  for index, ids, _ in predict_labels(answer, (dataset_stats.unit(r['image']) for r in records)):
    found[index] = ids
  count = functools.partial(confusion.confusion_matrix, classes=len(classes))
  matrices = np.stack([count(r['label'], found[i]) for i, r in enumerate(records)])
  named = {record['name']: found[i] for i, record in enumerate(records)}
  scores = confusion.scores(matrices.sum(0), classes) | confusion.per_image(matrices, classes)
  return Evaluation(scores, matrices, [*named], MASKS, named)


def _cells(answer: PredictFn, source: Source, classes: tuple[str, ...]) -> Evaluation:
  """Adds the mean distance in pixels to where the cell is, and that of the middle of the patch."""
  lines, errors, middles = [], [], []
  side = 0
  for record, probs, (x, y) in patches.answered(answer, source):
    side = len(record['image'])
    line = {'name': record['name'], 'of': record['of'], 'class': classes[record['label']]}
    line |= {'predicted': classes[probs.argmax()], 'probability': round(float(probs.max()), 4)}
    row, column = record['point'] + 0.5  # from here on the edge of the patch is 0
    line |= {'x': round(float(x) * side, 2), 'y': round(float(y) * side, 2)}
    line |= {'true_x': round(float(column), 2), 'true_y': round(float(row), 2)}
    lines.append(line)
    if not np.isnan(row):
      errors.append(np.hypot(x * side - column, y * side - row))
      middles.append(np.hypot(side / 2 - column, side / 2 - row))
  names = list(dict.fromkeys(line['of'] for line in lines))
  matrices = np.zeros((len(names), len(classes), len(classes)), np.int64)
  for line in lines:
    at = names.index(line['of']), classes.index(line['class']), classes.index(line['predicted'])
    matrices[at] += 1
  scores = confusion.cell_scores(matrices.sum(0), classes)
  if errors:
    scores |= {'pixels_off': float(np.mean(errors)), 'pixels_off_middle': float(np.mean(middles))}
  return Evaluation(scores, matrices, names, CELLS, patches=lines)
