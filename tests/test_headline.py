"""The figure that a run is judged by, and the counts it is read from."""

import numpy as np
import pytest

from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.evaluation.comparison import headline
from ssl_jax.evaluation.comparison.repetitions import Repetition
from ssl_jax.evaluation.instances import PERCENTS
from ssl_jax.types import CELLS, MASKS

# Two of three pixels of the background and all of class 1 are right: IoU 2/3 and 1/2.
MATRIX = np.array([[2, 1], [0, 1]])


def stats_of(task, instances=None):
  known = dict.fromkeys(DatasetStats._fields)
  return DatasetStats(**(known | {'task': task, 'instances': instances}))


@pytest.mark.parametrize(
  ('task', 'instances', 'figure', 'percent'),
  [
    (MASKS, None, 'miou', 100 * (2 / 3 + 1 / 2) / 2),
    (CELLS, None, 'balanced_accuracy', 100 * (2 / 3 + 1) / 2),
    # TP / (TP + FP + FN)
    (MASKS, {'min_size': 4.0}, 'ap50', 50),
  ],
)
def test_the_figure_of_each_kind_of_data(task, instances, figure, percent):
  name, score = headline.primary_metric(stats_of(task, instances))
  assert name == figure
  assert score(MATRIX) == pytest.approx(percent)


def test_figures_are_found_by_name():
  classes = ('background', 'cell')
  assert headline.score_of('ap75', classes)(MATRIX) == pytest.approx(50)
  assert headline.score_of('f1', classes)(MATRIX) == pytest.approx(100 * 2 / 3)
  assert headline.score_of('iou/cell', classes)(MATRIX) == pytest.approx(50)
  assert headline.score_of('iou/nucleus', classes) is None
  assert headline.score_of('loss', classes) is None


def test_figures_of_instances_are_read_from_counts_at_their_threshold():
  pixels = np.zeros((3, 2, 2), int)
  objects = np.arange(3 * len(PERCENTS) * 4).reshape(3, len(PERCENTS), 2, 2)
  side = Repetition(pixels, ('a', 'b', 'c'), ('a', 'b', 'c'), objects=objects)
  for figure, place in (('ap50', 0), ('f1', 0), ('ap75', PERCENTS.index(75))):
    (counted,) = headline.counted([side], figure)
    np.testing.assert_array_equal(counted.matrices, objects[:, place])
  # All others are of pixels; an earlier run may have kept no counts of objects.
  assert headline.counted([side], 'miou') == [side]
  without = side._replace(objects=None)
  assert headline.counted([side, without], 'ap50') == [side, without]
