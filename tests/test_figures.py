"""Figures are drawn, and show what they are given."""

import json

import numpy as np
import pytest
from PIL import Image

from ssl_jax.evaluation import figures
from ssl_jax.evaluation.figures import Line, Shown
from ssl_jax.stages import comparison_figures


def _pixels(path):
  return np.asarray(Image.open(path).convert('RGB')).astype(int)


def test_images_stand_beside_each_other(tmp_path):
  red, blue = (np.full((20, 20, 3), c, np.uint8) for c in ((200, 0, 0), (0, 0, 200)))
  figures.beside(tmp_path / 'new' / 'a.png', [[red, blue]], ['one', 'two'])
  shown = _pixels(tmp_path / 'new' / 'a.png')
  left, right = np.split(shown, [shown.shape[1] // 2], axis=1)
  assert (left == (200, 0, 0)).all(-1).mean() > 0.5
  assert (right == (0, 0, 200)).all(-1).mean() > 0.5


def test_a_confusion_matrix_is_darkest_where_most_are(tmp_path):
  sure, unsure = np.array([[90, 10], [0, 50]]), np.array([[50, 50], [25, 25]])
  figures.confusion(tmp_path / 'a.png', {'one': sure, 'two': unsure}, ['a', 'b'])
  shown = _pixels(tmp_path / 'a.png').sum(-1)
  left, right = np.split(shown, [shown.shape[1] // 2], axis=1)
  dark = 8 + 48 + 107 + 30  # the colour map's end
  assert (left < dark).mean() > 4 * (right < dark).mean()


def test_centroids_lie_where_they_are(tmp_path):
  corner = np.full((50, 2), 2.0)
  figures.centroids(tmp_path / 'a.png', {'truth': corner, 'ours': 18 - corner}, 20)
  shown = _pixels(tmp_path / 'a.png')
  ink = (np.abs(shown - np.array(figures.INK[0]) * 255) < 12).all(-1)
  left, right = np.split(ink, [ink.shape[1] // 2], axis=1)
  (top, near), (bottom, far) = (np.argwhere(half).mean(0) for half in (left, right))
  assert top < ink.shape[0] / 2 < bottom  # y goes down, as in images
  assert near < far


@pytest.mark.parametrize('log', [False, True])
def test_curves_of_two_systems(tmp_path, log):
  nan = float('nan')
  lines = {
    'one': Line([50, 100, 300], [60.0, 70, 80], [55.0, 66, 77], [65.0, 74, 83]),
    'two': Line([50, 100], [50.0, 51], [nan, nan], [nan, nan]),
  }
  figures.curves(tmp_path / 'a.png', lines, 'labels', 'accuracy', log)
  shown = _pixels(tmp_path / 'a.png')
  for ink in figures.INK[:2]:
    assert (np.abs(shown - np.array(ink) * 255) < 8).all(-1).sum() > 50


def test_patches_show_truth_and_answer(tmp_path):
  grey = np.full((21, 21, 1), 128, np.uint8)
  rows = {'ours': [Shown(grey, (5, 5), (15, 15), 'a'), Shown(grey, None, None, 'background')]}
  figures.patches(tmp_path / 'a.png', rows)
  shown = _pixels(tmp_path / 'a.png')
  yellow = (shown[..., 0] > 230) & (shown[..., 1] > 230) & (shown[..., 2] < 80)
  columns = np.argwhere(yellow)[:, 1]
  assert len(columns) > 20
  assert columns.max() < shown.shape[1] / 2  # the patch of background has no mark


def test_picture_draws_a_grid(tmp_path):
  mask = np.zeros((7, 5), np.uint8)
  rgb = np.full((7, 5, 3), 90, np.uint8)
  deep = np.arange(35, dtype=np.uint16).reshape(7, 5) * 1000
  figures.picture(tmp_path / 'p.png', [[rgb, mask, None], [deep[..., None], mask, mask]], ['a'])
  drawn = _pixels(tmp_path / 'p.png')
  assert drawn.shape[1] > drawn.shape[0] > 300


def test_an_accuracy_curve_is_the_mean_over_seeds_at_steps_that_all_have(tmp_path):
  each = [{10: 50.0, 20: 60.0}, {10: 54.0, 20: 60.0, 30: 90.0}]
  for seed, scores in enumerate(each):
    (tmp_path / f'seed_{seed}').mkdir()
    lines = [{'step': 5, 'loss': 1.0}]
    lines += [{'step': step, comparison_figures.CURVE: value} for step, value in scores.items()]
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    (tmp_path / f'seed_{seed}' / 'metrics.jsonl').write_text(text)
  line = comparison_figures._curve(tmp_path)
  assert line.x == [10, 20]
  assert line.y.tolist() == [52, 60]
  half = 12.706 * np.sqrt(8) / np.sqrt(2)  # Student's t of one degree of freedom
  np.testing.assert_allclose(line.high, [52 + half, 60], rtol=1e-3)
  alone = comparison_figures._curve(tmp_path / 'seed_0')
  assert alone.low.tolist() == alone.high.tolist() == [50, 60]  # no interval of one seed


def test_bars_are_as_high_as_their_scores(tmp_path):
  scores = {'train': {'dice': 20.0, 'recall': 80.0}, 'test': {'dice': 20.0, 'recall': 80.0}}
  figures.bars(tmp_path / 'a.png', scores, '%')
  shown = _pixels(tmp_path / 'a.png')
  dice, recall = (
    (np.abs(shown - np.array(figures.INK[i]) * 255) < 12).all(-1).sum() for i in (0, 1)
  )
  assert recall / dice == pytest.approx(4, rel=0.15)  # the legend has a little of each
