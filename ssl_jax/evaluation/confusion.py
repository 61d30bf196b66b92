"""Scores, all read from one summed confusion matrix: of pixels, or of patches of cells."""

from collections.abc import Sequence

import numpy as np

from ssl_jax.types import CELLS, IGNORE, MASKS

Numbers = np.ndarray | np.number

TOGETHER = 2**20
"""Pixels that are counted together, so that counting those of a volume takes no memory."""


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
  """Pixel counts [classes, classes] (row: truth, column: prediction); IGNORE does not count."""
  counts, (truth, predicted) = np.zeros(classes**2, np.int64), (truth.ravel(), predicted.ravel())
  for here in (slice(at, at + TOGETHER) for at in range(0, truth.size, TOGETHER)):
    known = truth[here] != IGNORE
    said = predicted[here][known].astype(np.int64)
    counts += np.bincount(classes * truth[here][known].astype(np.int64) + said, None, classes**2)
  return counts.reshape(classes, classes)


def _ratio(part: Numbers, whole: Numbers) -> Numbers:
  return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def iou(matrix: np.ndarray) -> np.ndarray:
  """Intersection over union per class of [..., classes, classes]; NaN for a class seen nowhere."""
  hits = np.diagonal(matrix, axis1=-2, axis2=-1).astype(float)
  return _ratio(hits, matrix.sum(-1) + matrix.sum(-2) - hits)


def mean_iou(matrix: np.ndarray) -> Numbers:
  """Mean of the classes' IoU in percent; a class absent from truth and prediction is left out."""
  values = iou(matrix)
  seen = ~np.isnan(values)
  return 100 * _ratio(np.where(seen, values, 0).sum(-1), seen.sum(-1))


def scores(matrix: np.ndarray, names: Sequence[str]) -> dict[str, float]:
  """All scores in percent: miou, accuracy, dice (mean), and of each class <score>/<class>.

  Those are iou (the Jaccard index), dice, precision and recall. A class absent from both truth and
  prediction has no score of its own and is in no mean.
  """
  hits = np.diagonal(matrix).astype(float)
  dices = 100 * _ratio(2 * hits, matrix.sum(0) + matrix.sum(1))
  ious = 100 * iou(matrix)
  seen = ~np.isnan(ious)
  each = {'iou': ious, 'dice': dices}
  each |= {name: 100 * _overlaps(matrix)[name] for name in ('precision', 'recall')}
  total = matrix.sum()
  return {
    'miou': float(mean_iou(matrix)),
    'dice': float(dices[seen].mean()) if seen.any() else float('nan'),
    'accuracy': float(100 * hits.sum() / total) if total else float('nan'),
    **{
      f'{score}/{name}': float(value)
      for score, values in each.items()
      for name, value, known in zip(names, values, seen, strict=True)
      if known
    },
  }


def per_image(matrices: np.ndarray, names: Sequence[str]) -> dict[str, float]:
  """Means over images of [images, k, k], in percent: <score>_per_image/<class>, background not.

  The scores are dice, jaccard, precision and recall; 0 / 0 counts as 1 where neither truth nor
  prediction of an image holds the class.
  """
  return {
    f'{score}_per_image/{name}': float(100 * value)
    for score, values in _overlaps(matrices).items()
    for name, value in zip(names[1:], values.mean(0)[1:], strict=True)
  }


def _overlaps(matrix: np.ndarray) -> dict[str, np.ndarray]:
  """Dice, Jaccard index, precision and recall per class of [..., k, k], in 0..1."""
  hits = np.diagonal(matrix, axis1=-2, axis2=-1).astype(float)
  told, true = matrix.sum(-2), matrix.sum(-1)
  both, neither = told + true, told + true == 0

  def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(neither, 1.0, part / np.maximum(whole, 1))

  return {
    'dice': ratio(2 * hits, both),
    'jaccard': ratio(hits, both - hits),
    'precision': ratio(hits, told),
    'recall': ratio(hits, true),
  }


def balanced_accuracy(matrix: np.ndarray) -> Numbers:
  """Mean recall of the classes of [..., classes, classes] in percent; those without truth left out.

  It is the accuracy that a test set with equally many of each class would have.
  """
  each = _ratio(np.diagonal(matrix, axis1=-2, axis2=-1).astype(float), matrix.sum(-1))
  seen = ~np.isnan(each)
  return 100 * _ratio(np.where(seen, each, 0).sum(-1), seen.sum(-1))


def cell_scores(matrix: np.ndarray, names: Sequence[str]) -> dict[str, float]:
  """Of patches, in percent: balanced_accuracy, accuracy, recall/<class>, precision/<class>."""
  hits = np.diagonal(matrix).astype(float)
  sides = {'recall': matrix.sum(1), 'precision': matrix.sum(0)}
  parts = {part: 100 * _ratio(hits, side) for part, side in sides.items()}
  return {
    'balanced_accuracy': float(balanced_accuracy(matrix)),
    'accuracy': float(100 * hits.sum() / max(matrix.sum(), 1)),
    **{
      f'{part}/{name}': float(value)
      for part, values in parts.items()
      for name, value in zip(names, values, strict=True)
      if not np.isnan(value)
    },
  }


PRIMARY_METRIC = {MASKS: ('miou', mean_iou), CELLS: ('balanced_accuracy', balanced_accuracy)}
"""By task the figure that a run is judged by, and how it is read from summed matrices."""
DISPLAY_NAME = {'miou': 'mIoU', 'balanced_accuracy': 'balanced accuracy'}


def absent_classes(matrix: np.ndarray, names: Sequence[str]) -> list[str]:
  """Classes that neither truth nor prediction holds, and that no mean can count."""
  return [name for name, value in zip(names, iou(matrix), strict=True) if np.isnan(value)]
