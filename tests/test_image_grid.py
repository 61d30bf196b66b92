"""Grids of images on a page: equal rows, shapes kept, names, scores and a legend."""

import numpy as np
import pytest
from PIL import Image

from ssl_jax.evaluation import image_grid


def flat(height, width, color):
  return image_grid.Panel(np.full((height, width, 3), color, np.uint8))


def drawn(path):
  with Image.open(path) as picture:
    return np.asarray(picture.convert('RGB'))


def count(pixels, color):
  return int((pixels == np.array(color)).all(-1).sum())


RED, BLUE = (200, 0, 0), (0, 0, 200)


def test_images_of_one_shape_fill_equal_cells(tmp_path):
  rows = [[flat(40, 60, RED), flat(40, 60, BLUE)], [flat(40, 60, BLUE), flat(40, 60, RED)]]
  image_grid.draw_grid(tmp_path / 'grid.png', rows, ['left', 'right'])
  pixels = drawn(tmp_path / 'grid.png')
  assert count(pixels, RED) == count(pixels, BLUE) > 0
  red = np.argwhere((pixels == RED).all(-1))
  assert len(np.unique(red[:, 0])) * len(np.unique(red[:, 1])) >= len(red)


@pytest.mark.parametrize('shape', [(64, 64), (30, 90), (90, 30)])
def test_the_shape_of_an_image_is_kept(tmp_path, shape):
  image_grid.draw_grid(tmp_path / 'grid.png', [[flat(*shape, RED)]], ['image'])
  red = np.argwhere((drawn(tmp_path / 'grid.png') == RED).all(-1))
  height, width = np.ptp(red, axis=0) + 1
  assert height / width == pytest.approx(shape[0] / shape[1], rel=0.05)


def test_names_scores_and_a_legend_make_the_page_larger(tmp_path):
  rows = [[flat(64, 64, RED)]]
  image_grid.draw_grid(tmp_path / 'bare.png', rows, ['image'])
  image_grid.draw_grid(
    tmp_path / 'full.png', rows, ['image'], ['name'], [['mIoU 50 %']], {'nucleus': BLUE}
  )
  bare, full = drawn(tmp_path / 'bare.png'), drawn(tmp_path / 'full.png')
  assert full.shape[0] > bare.shape[0]
  assert full.shape[1] > bare.shape[1]
  assert count(full, BLUE) > 0 == count(bare, BLUE)
  assert count(full, RED) == count(bare, RED)


def test_an_empty_cell_stays_empty(tmp_path):
  rows = [[flat(64, 64, RED), None], [flat(64, 64, RED), flat(64, 64, BLUE)]]
  image_grid.draw_grid(tmp_path / 'grid.png', rows, ['a', 'b'])
  pixels = drawn(tmp_path / 'grid.png')
  assert count(pixels, RED) == 2 * count(pixels, BLUE)
