"""Scores against a confusion matrix counted by hand."""

import math

import numpy as np
import pytest

from ssl_jax.evaluation import confusion, instances
from ssl_jax.types import CELLS, IGNORE, MASKS

NAMES = ('background', 'cytoplasm', 'nucleus')
TRUTH = np.array([[0, 0, 1], [1, IGNORE, 0]])
GUESS = np.array([[0, 1, 1], [1, 2, 0]])


def test_confusion_matrix_counts_known_pixels():
  matrix = confusion.confusion_matrix(TRUTH, GUESS, 3)
  assert matrix.tolist() == [[2, 1, 0], [0, 2, 0], [0, 0, 0]]


def test_large_images_are_counted_part_by_part(monkeypatch):
  rng = np.random.default_rng(0)
  truth, guess = rng.integers(0, 3, (2, 11, 13)).astype(np.uint8)
  truth[3] = IGNORE
  whole = confusion.confusion_matrix(truth, guess, 3)
  monkeypatch.setattr(confusion, 'CHUNK', 10)
  np.testing.assert_array_equal(confusion.confusion_matrix(truth, guess, 3), whole)
  assert whole.sum() == 10 * 13
  assert whole[1, 2] == ((truth == 1) & (guess == 2)).sum()


def test_scores_leave_out_a_class_seen_nowhere():
  matrix = confusion.confusion_matrix(TRUTH, GUESS, 3)
  scores = confusion.scores(matrix, NAMES)
  assert scores['miou'] == pytest.approx(100 * 2 / 3)
  assert scores['iou/background'] == pytest.approx(100 * 2 / 3)
  assert scores['dice'] == pytest.approx(80)
  assert scores['accuracy'] == pytest.approx(80)
  assert 'iou/nucleus' not in scores
  assert confusion.absent_classes(matrix, NAMES) == ['nucleus']


def test_an_image_without_a_class_is_in_no_mean_of_it():
  one = np.array([[5, 1, 0], [2, 4, 0], [0, 0, 0]])  # truth in rows: TP 4, FN 2, FP 1
  neither = np.diag([9, 0, 0])
  only_predicted = np.array([[8, 1, 0], [0, 0, 0], [0, 0, 0]])
  unknown = np.zeros((3, 3), int)
  matrices = np.stack([one, neither, only_predicted, unknown])
  figures = confusion.per_image(matrices, NAMES)
  # Of two images: that which has the class in the prediction alone is 0, as everywhere.
  assert figures == pytest.approx(
    {
      'dice_per_image/cytoplasm': 100 * (8 / 11 + 0) / 2,
      'jaccard_per_image/cytoplasm': 100 * (4 / 7 + 0) / 2,
      'precision_per_image/cytoplasm': 100 * (4 / 5 + 0) / 2,
      'recall_per_image/cytoplasm': 100 * (4 / 6 + 0) / 2,
    }
  )
  # As some challenges count; an image without a known pixel is still in no mean.
  counted = confusion.per_image(matrices, NAMES, count_absent=True)
  assert counted['dice_per_image/cytoplasm'] == pytest.approx(100 * (8 / 11 + 1 + 0) / 3)
  assert counted['dice_per_image/nucleus'] == 100


def test_classes_that_are_not_shown_or_not_found_are_named():
  matrix = np.array([[8, 0, 1], [2, 0, 0], [0, 0, 0]])
  assert confusion.never_predicted(matrix, NAMES) == ['cytoplasm']
  assert confusion.classes_without_truth(matrix, NAMES) == ['nucleus']
  assert confusion.absent_classes(matrix, NAMES) == []


def test_a_class_only_predicted_scores_zero():
  matrix = confusion.confusion_matrix(np.zeros((2, 2), int), np.array([[0, 0], [0, 2]]), 3)
  assert confusion.scores(matrix, NAMES)['iou/nucleus'] == 0
  assert confusion.mean_iou(matrix) == pytest.approx(100 * (0.75 + 0) / 2)


def test_mean_iou_reads_a_stack_of_matrices():
  one = confusion.confusion_matrix(TRUTH, GUESS, 3)
  two = np.diag([5, 5, 5])
  both = confusion.mean_iou(np.stack([one, two]))
  assert both == pytest.approx([confusion.mean_iou(one), 100])


def test_nothing_known_is_not_a_number():
  assert math.isnan(confusion.scores(np.zeros((3, 3), int), NAMES)['miou'])


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_there_are():
  matrix = np.array([[8, 2, 0], [5, 5, 0], [0, 0, 0]])
  assert confusion.balanced_accuracy(matrix) == pytest.approx(100 * (0.8 + 0.5) / 2)
  both = confusion.balanced_accuracy(np.stack([matrix, np.diag([1, 2, 3])]))
  assert both == pytest.approx([65, 100])
  scores = confusion.cell_scores(matrix, NAMES)
  assert scores['balanced_accuracy'] == pytest.approx(65)
  assert scores['accuracy'] == pytest.approx(65)
  assert scores['recall/background'] == pytest.approx(80)
  assert scores['precision/background'] == pytest.approx(100 * 8 / 13)
  assert scores['precision/cytoplasm'] == pytest.approx(100 * 5 / 7)
  assert 'recall/nucleus' not in scores


def test_every_task_has_a_headline_that_can_be_spoken():
  assert set(confusion.PRIMARY_METRIC) == {MASKS, CELLS}
  spoken = {figure for figure, _ in confusion.PRIMARY_METRIC.values()} | {instances.PRIMARY}
  assert spoken == set(confusion.DISPLAY_NAME)
  for figure, read in confusion.PRIMARY_METRIC.values():
    assert read(np.diag([1, 2, 3])) == pytest.approx(100), figure
