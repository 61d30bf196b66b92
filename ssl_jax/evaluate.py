"""Scoring a network on a split: masks image by image at native size, cells patch by patch."""

import csv
import functools
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssl_jax import data, masks, metrics
from ssl_jax.inference import predict_labels
from ssl_jax.record import replace_text
from ssl_jax.types import CELLS, MASKS, Source

Answer = Callable[[np.ndarray], Any]
"""Images in [0, 1] -> class probabilities [B, H, W, k]; of patches a dict with 'class' [B, k]."""

PATCHES = 128
"""Patches that go through a network together."""
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
  answer: Answer, source: Source, classes: tuple[str, ...], task: str = MASKS
) -> Evaluation:
  """Scores a labelled split: every image at its native size, or every patch."""
  return (_cells if task == CELLS else _masks)(answer, source, classes)


def _masks(answer: Answer, source: Source, classes: tuple[str, ...]) -> Evaluation:
  records = [source[i] for i in range(len(source))]
  found: dict[int, np.ndarray] = {}
  for index, ids, _ in predict_labels(answer, (data.unit(r['image']) for r in records)):
    found[index] = ids
  count = functools.partial(metrics.confusion_matrix, classes=len(classes))
  matrices = np.stack([count(r['label'], found[i]) for i, r in enumerate(records)])
  named = {record['name']: found[i] for i, record in enumerate(records)}
  scores = metrics.scores(matrices.sum(0), classes) | metrics.per_image(matrices, classes)
  return Evaluation(scores, matrices, [*named], MASKS, named)


def _cells(answer: Answer, source: Source, classes: tuple[str, ...]) -> Evaluation:
  """Adds the mean distance in pixels to where the cell is, and that of the middle of the patch."""
  lines, errors, middles = [], [], []
  side = 0
  for record, probs, (x, y) in _answered(answer, source):
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
  scores = metrics.cell_scores(matrices.sum(0), classes)
  if errors:
    scores |= {'pixels_off': float(np.mean(errors)), 'pixels_off_middle': float(np.mean(middles))}
  return Evaluation(scores, matrices, names, CELLS, patches=lines)


def _answered(answer: Answer, source: Source) -> Iterator[tuple[dict, np.ndarray, tuple]]:
  """Each patch, the probabilities of its class, and x and y in parts of it."""
  for start in range(0, len(source), PATCHES):
    records = [source[i] for i in range(start, min(start + PATCHES, len(source)))]
    shown = np.stack([data.unit(record['image']) for record in records])
    for record, probs, at in zip(records, *patch_answers(answer, shown, PATCHES), strict=True):
      yield record, probs, tuple(at)


def patch_answers(answer: Answer, patches: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray]:
  """Probabilities [n, k], and x and y [n, 2] in parts of the patch, of at most `batch` patches.

  A network that does not say where a cell is means the middle. Batches are filled up to `batch`, so
  that one program serves all.
  """
  filled = np.pad(patches, [(0, batch - len(patches)), (0, 0), (0, 0), (0, 0)], mode='edge')
  said = answer(filled)
  middle = np.full(batch, 0.5)
  at = np.stack([said.get('x', middle), said.get('y', middle)], -1)
  return said['class'][: len(patches)], at[: len(patches)]
