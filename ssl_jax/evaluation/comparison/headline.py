"""The figure that a run is judged by, and the counts that figures of a comparison are read from."""

from collections.abc import Sequence

from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.evaluation import confusion, instances
from ssl_jax.evaluation.comparison.repetitions import Repetition
from ssl_jax.evaluation.statistics import Score
from ssl_jax.types import Splits


def primary_metric(data: Splits | DatasetStats) -> tuple[str, Score]:
  """Returns the figure that runs of these data are judged by, and what reads it from counts.

  It is mIoU of masks, balanced accuracy of cells, and of instances their AP at an IoU of 0.5.
  """
  if data.instances is not None:
    return instances.PRIMARY, instances.ap
  return confusion.PRIMARY_METRIC[data.task]


def score_of(figure: str, classes: Sequence[str]) -> Score | None:
  """Returns what reads a figure (in percent) from the `counted` matrices; None if nothing does."""
  if figure in instances.THRESHOLD_OF:
    return instances.f1 if figure == 'f1' else instances.ap
  return confusion.score_of(figure, classes)


def counted(sides: Sequence[Repetition], figure: str) -> list[Repetition]:
  """Returns repetitions whose matrices are those that a figure is read from.

  Figures of instances are read from counts of objects, all others from those of pixels or patches.
  """
  place = instances.THRESHOLD_OF.get(figure)
  if place is None or any(one.objects is None for one in sides):
    return list(sides)
  return [one._replace(matrices=one.objects[:, place]) for one in sides]
