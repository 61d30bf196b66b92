"""Scores, all computed from one summed confusion matrix: of pixels, or of patches of cells."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer, Num

from ssl_jax.types import CELLS, IGNORE, MASKS

Numbers = np.ndarray | np.number

CHUNK = 2**20
"""Pixels that are counted together, so that counting those of a volume takes little memory."""


def confusion_matrix(
  truth: Integer[np.ndarray, '*space'],
  predicted: Integer[np.ndarray, '*space'],
  num_classes: int,
) -> Integer[np.ndarray, 'k k']:
  """Returns counts of pixels (rows: truth, columns: prediction), those of truth IGNORE left out."""
  truth, predicted = truth.ravel(), predicted.ravel()
  # One counter for each pair (truth, prediction), numbered row by row.
  counts = np.zeros(num_classes**2, np.int64)
  for start in range(0, truth.size, CHUNK):
    chunk = slice(start, start + CHUNK)
    known = truth[chunk] != IGNORE
    # As int64: class ids are uint8, in which the product below would overflow.
    rows = truth[chunk][known].astype(np.int64)
    columns = predicted[chunk][known].astype(np.int64)
    counts += np.bincount(num_classes * rows + columns, None, num_classes**2)
  return counts.reshape(num_classes, num_classes)


def _ratio(part: Numbers, whole: Numbers) -> np.ndarray:
  """The quotient; NaN where `whole` is 0."""
  # Without a value, rather than 0: a class that is nowhere must not lower a mean.
  return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def _hits(matrix: Num[np.ndarray, '*n k k']) -> Float[np.ndarray, '*n k']:
  """The correct predictions of each class."""
  return np.diagonal(matrix, axis1=-2, axis2=-1).astype(float)


def iou(matrix: Num[np.ndarray, '*n k k']) -> Float[np.ndarray, '*n k']:
  """Returns the intersection over union of each class in 0..1; NaN for a class that is nowhere."""
  hits = _hits(matrix)
  # Truth + prediction counts the intersection twice.
  return _ratio(hits, matrix.sum(-1) + matrix.sum(-2) - hits)


def mean_iou(matrix: Num[np.ndarray, '*n k k']) -> Numbers:
  """Returns the mean IoU of the classes in percent.

  A class that neither truth nor prediction holds is left out of the mean.
  """
  return _mean_where_known(iou(matrix))


def _mean_where_known(values: Float[np.ndarray, '*n k']) -> Numbers:
  """Means over classes in percent, with classes whose value is NaN left out."""
  # np.nanmean would warn where no class is known at all.
  known = ~np.isnan(values)
  return 100 * _ratio(np.where(known, values, 0).sum(-1), known.sum(-1))


def scores(matrix: Num[np.ndarray, 'k k'], names: Sequence[str]) -> dict[str, float]:
  """Returns miou, dice (mean), accuracy, and iou, dice, precision and recall of each class.

  All are in percent; those of a class are called <score>/<class>. A class that neither truth nor
  prediction holds has no scores of its own and is in no mean.
  """
  # The sum of axis 1 counts the truth of each class, that of axis 0 its predictions.
  hits = np.diagonal(matrix).astype(float)
  dice = 100 * _ratio(2 * hits, matrix.sum(0) + matrix.sum(1))
  jaccard = 100 * iou(matrix)
  # Precision and recall of a class that only truth or only prediction holds are 0, not 0 / 0.
  overlaps = _overlaps(matrix)
  known = ~np.isnan(jaccard)
  total = matrix.sum()
  figures = {
    'miou': float(mean_iou(matrix)),
    'dice': float(dice[known].mean()) if known.any() else float('nan'),
    'accuracy': float(100 * hits.sum() / total) if total else float('nan'),
  }
  by_class = {
    'iou': jaccard,
    'dice': dice,
    'precision': 100 * overlaps['precision'],
    'recall': 100 * overlaps['recall'],
  }
  return figures | _by_class(by_class, names, known)


def _by_class(
  values: dict[str, np.ndarray], names: Sequence[str], known: Bool[np.ndarray, ' k']
) -> dict[str, float]:
  """Figures <score>/<class> of the known classes."""
  figures = {}
  for score, of_classes in values.items():
    for name, value, is_known in zip(names, of_classes, known, strict=True):
      if is_known:
        figures[f'{score}/{name}'] = float(value)
  return figures


def per_image(
  matrices: Num[np.ndarray, 'n k k'], names: Sequence[str], count_absent: bool = False
) -> dict[str, float]:
  """Returns means over images in percent: <score>_per_image/<class>, without the background.

  The scores are dice, jaccard, precision and recall. An image counts for a class only if its truth
  or its prediction holds the class; a class that no image holds has no figure.

  Args:
    matrices: one of each image.
    names: of the classes, the background first.
    count_absent: whether an image that has a class in neither counts as 100 for it instead.
  """
  # [n, k]: whether truth or prediction of the image holds the class.
  counted = (matrices.sum(-1) + matrices.sum(-2)) > 0
  if count_absent:
    # An image of which no pixel is known still has no score.
    counted = np.broadcast_to(counted.any(-1, keepdims=True), counted.shape)
  figures = {}
  for score, values in _overlaps(matrices).items():
    # Over images, not over pixels: each image counts the same however large its cells are.
    for class_id, name in enumerate(names[1:], start=1):
      if counted[:, class_id].any():
        mean = values[counted[:, class_id], class_id].mean()
        figures[f'{score}_per_image/{name}'] = float(100 * mean)
  return figures


def _overlaps(matrix: Num[np.ndarray, '*n k k']) -> dict[str, Float[np.ndarray, '*n k']]:
  """Dice, Jaccard index, precision and recall of each class in 0..1; 0 / 0 counts as 1."""
  hits = _hits(matrix)
  # The axes count from the end, so that a stack of matrices [n, k, k] works as well.
  predicted, true = matrix.sum(-2), matrix.sum(-1)
  both = predicted + true
  neither = both == 0

  def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    # `whole` is only 0 where `part` is, and there the maximum gives 0 instead of NaN.
    return np.where(neither, 1.0, part / np.maximum(whole, 1))

  return {
    'dice': ratio(2 * hits, both),
    'jaccard': ratio(hits, both - hits),
    'precision': ratio(hits, predicted),
    'recall': ratio(hits, true),
  }


def recall(matrix: Num[np.ndarray, '*n k k']) -> Float[np.ndarray, '*n k']:
  """Returns how many of each class are recognized, in 0..1; NaN for a class without truth."""
  # Rows are the truth: hits / truth is the recall.
  return _ratio(_hits(matrix), matrix.sum(-1))


def balanced_accuracy(matrix: Num[np.ndarray, '*n k k']) -> Numbers:
  """Returns the mean recall of the classes in percent, those without truth left out.

  It is the accuracy on a test set with equally many examples of each class.
  """
  return _mean_where_known(recall(matrix))


def cell_scores(matrix: Num[np.ndarray, 'k k'], names: Sequence[str]) -> dict[str, float]:
  """Returns scores of patches in percent.

  They are balanced_accuracy, accuracy, recall/<class> and precision/<class>; a class without truth
  has no recall, and one that was never predicted no precision.
  """
  hits = np.diagonal(matrix).astype(float)
  figures = {
    'balanced_accuracy': float(balanced_accuracy(matrix)),
    'accuracy': float(100 * hits.sum() / max(matrix.sum(), 1)),
  }
  # Unlike `scores`, which has a class as soon as truth or prediction holds it.
  for score, totals in (('recall', matrix.sum(1)), ('precision', matrix.sum(0))):
    values = 100 * _ratio(hits, totals)
    figures |= _by_class({score: values}, names, ~np.isnan(values))
  return figures


def score_of(
  figure: str, classes: Sequence[str]
) -> Callable[[Num[np.ndarray, '*n k k']], Numbers] | None:
  """Returns what reads a figure (in percent) from summed matrices; None if they do not give it."""
  named = {'miou': mean_iou, 'balanced_accuracy': balanced_accuracy}
  if figure in named:
    return named[figure]
  of_class = {'iou': iou, 'recall': recall}
  name, _, class_name = figure.partition('/')
  if name not in of_class or class_name not in classes:
    return None
  index = list(classes).index(class_name)

  def score(matrix: Num[np.ndarray, '*n k k']) -> Numbers:
    return 100 * of_class[name](matrix)[..., index]

  return score


PRIMARY_METRIC = {MASKS: ('miou', mean_iou), CELLS: ('balanced_accuracy', balanced_accuracy)}
"""By task the figure that a run is judged by, and the function that reads it from a matrix."""

DISPLAY_NAME = {
  'ap50': 'AP at IoU 0.5',
  'miou': 'mIoU',
  'balanced_accuracy': 'balanced accuracy',
}
"""What figures are called in sentences and on axes; of a run it is judged by the first it has."""


def absent_classes(matrix: Num[np.ndarray, 'k k'], names: Sequence[str]) -> list[str]:
  """Returns the classes that neither truth nor prediction holds, which no mean can count."""
  # The IoU is NaN exactly where the union is empty.
  return [name for name, value in zip(names, iou(matrix), strict=True) if np.isnan(value)]


def classes_without_truth(matrix: Num[np.ndarray, 'k k'], names: Sequence[str]) -> list[str]:
  """Returns the classes that the truth holds nowhere."""
  return [name for name, total in zip(names, matrix.sum(1), strict=True) if not total]


def never_predicted(matrix: Num[np.ndarray, 'k k'], names: Sequence[str]) -> list[str]:
  """Returns the classes that the truth holds and the prediction nowhere."""
  totals = zip(names, matrix.sum(1), matrix.sum(0), strict=True)
  return [name for name, true, predicted in totals if true and not predicted]
