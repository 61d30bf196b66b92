"""The words in which messages name the values and the colors of masks, and what they propose."""

from pathlib import Path

import numpy as np
import pytest

from ssl_jax.data.masks.mask_facts import measure
from ssl_jax.data.masks.value_table import ValueTable
from ssl_jax.io import masks
from ssl_jax.io.masks import StoredMask

RED, WHITE = 255 << 32, masks.gray(255)


def table_of(*arrays, by_color=False, **fields):
  facts = [
    measure(StoredMask(np.asarray(array), **fields), Path(f'm{i}.png'))
    for i, array in enumerate(arrays)
  ]
  return ValueTable(facts, by_color)


def test_pixels_and_files_are_counted():
  table = table_of([[0, 5, 5]], [[0, 0, 9]])
  assert table.values == [0, 5, 9]
  assert table.counts() == '0: 3 pixels in 2 masks, 5: 2 pixels in 1 mask, 9: 1 pixel in 1 mask'
  assert table.listed() == '0, 5, 9 (9 is in m1.png)'
  assert [mask.name for mask in table.files(5)] == ['m0.png']
  assert table_of(np.zeros((1, 1, 2), int)).where(0) == '2 voxels in 1 mask'
  many = table_of([range(20)])
  assert many.listed() == '0, 1, 2, 3, 4, 5, 6, 7, ... (19 is in m0.png)'
  assert many.counts().endswith('7: 1 pixel in 1 mask, and 12 more')


@pytest.mark.parametrize(
  ('values', 'proposed'),
  [
    ((0, 128, 255), '128:1, 255:2'),
    ((1, 2), '1:0, 2:1'),
    # A truth value that became a signed number; beside others -1 means unknown.
    ((0, -1), '-1:1'),
    ((-1, 1), '-1:0, 1:1'),
    ((-1, 0, 3), '-1:255, 3:1'),
    ((0, 2**32 - 1), '4294967295:1'),
    ((0, 7, 2**32 - 1), '7:1, 4294967295:255'),
  ],
)
def test_each_value_is_proposed_as_a_class(values, proposed):
  assert table_of([values]).proposal() == proposed


def test_white_of_several_depths_is_one_class():
  eight, sixteen = [[0, 255]], [[0, 65535]]
  assert table_of(eight, sixteen).proposal() == '255:1, 65535:1'
  assert table_of([[0, 1]], sixteen).proposal() == '1:1, 65535:1'
  # In one mask both mean something.
  assert table_of([[0, 255, 65535]]).proposal() == '255:1, 65535:255'


def test_255_may_be_proposed_as_unknown_and_long_proposals_are_cut():
  assert table_of([[0, 1, 255]]).proposal(ignore=True) == '1:1, 255:255'
  assert table_of([range(60)]).proposal().endswith('40:40, ...')


def test_the_background_of_colors_is_black_or_the_most_frequent():
  colors = np.array([[WHITE, WHITE, RED]])
  assert table_of(colors, by_color=True, colored=True).proposal() == '#ffffff:0, #ff0000:1'
  black = np.array([[0, RED, RED]])
  assert table_of(black, by_color=True, colored=True).proposal() == '#ff0000:1'


def test_smooth_borders_of_a_drawing_are_no_colors():
  shades = [(level, 0, 0) for level in (0,) * 30 + (255,) * 20 + tuple(range(20, 240, 20))]
  smooth = table_of(masks.pack(np.array([shades])), by_color=True, colored=True)
  says = smooth.soft_colors()
  assert 'm0.png looks like a drawing of #000000 and #ff0000 with smooth borders (11 pixels' in says
  # A palette of classes, as of VOC, in which some lie between two others.
  levels = (0, 128, 192)
  classes = np.array([[(r, g, b) for r in levels for g in levels for b in levels]] * 5)
  assert table_of(masks.pack(classes), by_color=True, colored=True).soft_colors() is None
