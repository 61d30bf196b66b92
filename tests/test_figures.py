"""Figures are drawn, and show what they are given."""

import json

import numpy as np
import pytest
from PIL import Image

from ssl_jax.evaluation import figures, statistics
from ssl_jax.evaluation.figures import Line, Patch
from ssl_jax.io import overlays
from ssl_jax.stages.comparing import comparison_figures
from ssl_jax.types import IGNORE


def _pixels(path):
  return np.asarray(Image.open(path).convert('RGB')).astype(int)


def test_images_stand_beside_each_other(tmp_path):
  red, blue = (np.full((20, 20, 3), c, np.uint8) for c in ((200, 0, 0), (0, 0, 200)))
  figures.beside(tmp_path / 'new' / 'a.png', [[red, blue]], ['one', 'two'])
  page = _pixels(tmp_path / 'new' / 'a.png')
  left, right = np.split(page, [page.shape[1] // 2], axis=1)
  assert (left == (200, 0, 0)).all(-1).mean() > 0.5
  assert (right == (0, 0, 200)).all(-1).mean() > 0.5


def test_a_confusion_matrix_is_darkest_where_most_are(tmp_path):
  certain, uncertain = np.array([[90, 10], [0, 50]]), np.array([[50, 50], [25, 25]])
  figures.confusion_matrices(tmp_path / 'a.png', {'one': certain, 'two': uncertain}, ['a', 'b'])
  page = _pixels(tmp_path / 'a.png').sum(-1)
  left, right = np.split(page, [page.shape[1] // 2], axis=1)
  dark = 8 + 48 + 107 + 30  # the color map's end
  assert (left < dark).mean() > 4 * (right < dark).mean()


def test_centroids_lie_where_they_are(tmp_path):
  corner = np.full((50, 2), 2.0)
  figures.centroids(tmp_path / 'a.png', {'truth': corner, 'ours': 18 - corner}, 20)
  page = _pixels(tmp_path / 'a.png')
  ink = (np.abs(page - np.array(figures.LINE_COLORS[0]) * 255) < 12).all(-1)
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
  page = _pixels(tmp_path / 'a.png')
  for ink in figures.LINE_COLORS[:2]:
    assert (np.abs(page - np.array(ink) * 255) < 8).all(-1).sum() > 50


def test_patches_show_truth_and_prediction(tmp_path):
  gray = np.full((21, 21, 1), 128, np.uint8)
  rows = {'ours': [Patch(gray, (5, 5), (15, 15), 'a'), Patch(gray, None, None, 'background')]}
  figures.patches(tmp_path / 'a.png', rows)
  page = _pixels(tmp_path / 'a.png')
  yellow = (page[..., 0] > 230) & (page[..., 1] > 230) & (page[..., 2] < 80)
  columns = np.argwhere(yellow)[:, 1]
  assert len(columns) > 20
  assert columns.max() < page.shape[1] / 2  # the patch of background has no mark


def _is(page, color):
  return (np.abs(page - np.array(color)) < 3).all(-1)


@pytest.mark.parametrize('size', [(64, 64), (60, 100), (300, 180)])
def test_a_grid_has_no_gaps_and_keeps_the_shape_of_images(tmp_path, size):
  red, blue = (np.full((*size, 3), color, np.uint8) for color in ((200, 0, 0), (0, 0, 200)))
  figures.beside(tmp_path / 'a.png', [[red, blue], [blue, red]], ['one', 'two'], ['x', 'y'])
  page = _pixels(tmp_path / 'a.png')
  for color in ((200, 0, 0), (0, 0, 200)):
    mask = _is(page, color)
    rows, columns = mask.any(1).sum() / 2, mask.any(0).sum() / 2
    assert columns / rows == pytest.approx(size[1] / size[0], rel=0.02)
  drawn = _is(page, (200, 0, 0)) | _is(page, (0, 0, 200))
  top, left = np.argwhere(drawn).min(0)
  bottom, right = np.argwhere(drawn).max(0)
  assert drawn[top:bottom, left:right].mean() > 0.97
  assert (bottom - top) * (right - left) > 0.9 * drawn.shape[0] * drawn.shape[1]


def test_small_images_stay_sharp_and_large_ones_are_averaged(tmp_path):
  checks = np.indices((400, 400)).sum(0) % 2
  fine = np.repeat(255 * checks[..., None], 3, -1).astype(np.uint8)
  figures.beside(tmp_path / 'a.png', [[np.tile(fine, (4, 4, 1))]], [''])
  page = _pixels(tmp_path / 'a.png')
  assert (np.abs(page - 128) < 20).all(-1).mean() > 0.8
  figures.picture(tmp_path / 'b.png', [[fine[:8, :8], np.zeros((8, 8), np.uint8)]], ['', ''])
  page = _pixels(tmp_path / 'b.png')
  assert (_is(page, (0, 0, 0)) | _is(page, (255, 255, 255))).mean() > 0.99


@pytest.mark.parametrize('classes', [2, 14])
def test_the_legend_has_the_color_of_each_class(tmp_path, classes):
  names = ['background', *(f'class {i}' for i in range(1, classes))]
  image, mask = np.full((50, 50, 3), 255, np.uint8), np.zeros((50, 50), np.uint8)
  figures.picture(tmp_path / 'without.png', [[image, mask]], ['', ''])
  figures.picture(tmp_path / 'with.png', [[image, mask]], ['', ''], classes=names)
  without, page = _pixels(tmp_path / 'without.png'), _pixels(tmp_path / 'with.png')
  for class_id in range(1, classes):
    color = overlays.class_color(class_id)
    assert _is(page, color).sum() > 50
    assert not _is(without, color).any()
  unknown = np.where(np.arange(50) < 25, IGNORE, mask)
  figures.picture(tmp_path / 'unknown.png', [[image, mask, unknown]], [], classes=names)
  gray = overlays.class_color(IGNORE)  # edges of letters are gray as well
  assert _is(_pixels(tmp_path / 'unknown.png'), gray).sum() > _is(page, gray).sum() + 50


def test_names_and_scores_that_are_too_long_stay_on_their_images(tmp_path):
  image, mask = np.full((60, 60, 3), 90, np.uint8), np.zeros((60, 60), np.uint8)
  rows = [[image, mask]] * 2
  long = 'a_name_that_is_longer_than_its_image_by_far_' * 3
  for name, text in (('short', 'a'), ('long', long)):
    texts = [['', text], ['', text]]
    figures.picture(tmp_path / f'{name}.png', rows, [text, text], [text, text], texts)
  short, page = _pixels(tmp_path / 'short.png'), _pixels(tmp_path / 'long.png')
  assert page.shape == short.shape
  assert (_is(page, (90, 90, 90)) == _is(short, (90, 90, 90))).mean() > 0.999
  border = np.concatenate([page[:2].ravel(), page[-2:].ravel(), page[:, :2].ravel()])
  assert (border == 255).all()  # no letter is cut off


def test_of_a_volume_the_slice_is_shown_that_is_marked_most(tmp_path, monkeypatch):
  volume = np.repeat(np.arange(5, dtype=np.float32), 36).reshape(5, 6, 6, 1)
  mask = np.zeros((5, 6, 6), np.uint8)
  mask[3, :4], mask[1, :2], mask[0] = 1, 1, IGNORE
  image, in_plane, nothing = figures.in_plane(volume, mask, None)
  assert image.max() == 3
  assert in_plane.sum() == 24
  assert nothing is None
  drawn = {}
  monkeypatch.setattr(figures, 'draw_grid', lambda *args: drawn.update(names=args[3]))
  figures.picture(tmp_path / 'a.png', [[volume, mask]], ['', ''], ['case'])
  assert drawn['names'] == ['case, slice 3']


def test_images_of_all_kinds_and_empty_cells_fit_into_a_picture(tmp_path):
  mask = np.zeros((7, 5), np.uint8)
  rgb = np.full((7, 5, 3), 90, np.uint8)
  deep = np.arange(35, dtype=np.uint16).reshape(7, 5) * 1000
  wide = np.zeros((5, 20, 1), np.float32)
  rows = [[rgb, mask, None], [deep[..., None], mask, mask], [wide, np.ones((5, 20), np.uint8)]]
  figures.picture(tmp_path / 'p.png', rows, ['a'])
  height, width, _ = _pixels(tmp_path / 'p.png').shape
  assert width > 600
  assert height > 900


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
  assert line.y == [52, 60]
  _, _, high = statistics.mean_interval(np.array([50.0, 54.0]))
  np.testing.assert_allclose(line.high, [high, 60], rtol=1e-3)
  alone = comparison_figures._curve(tmp_path / 'seed_0')
  assert alone.low == alone.high == [50, 60]  # no interval of one seed


def test_bars_are_as_high_as_their_scores(tmp_path):
  scores = {'train': {'dice': 20.0, 'recall': 80.0}, 'test': {'dice': 20.0, 'recall': 80.0}}
  figures.bars(tmp_path / 'a.png', scores, '%')
  page = _pixels(tmp_path / 'a.png')
  dice, recall = (
    (np.abs(page - np.array(figures.LINE_COLORS[i]) * 255) < 12).all(-1).sum() for i in (0, 1)
  )
  assert recall / dice == pytest.approx(4, rel=0.15)  # the legend has a little of each
