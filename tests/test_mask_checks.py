"""Masks that are refused whatever their values mean, and notes on how they were read."""

from pathlib import Path

import numpy as np
import pytest

from ssl_jax.data.masks.mask_checks import check_colors, check_values, reading_notes
from ssl_jax.data.masks.mask_facts import measure
from ssl_jax.data.masks.value_table import ValueTable
from ssl_jax.errors import UserError
from ssl_jax.io import masks
from ssl_jax.io.masks import StoredMask


def facts_of(*arrays, **fields):
  return [
    measure(StoredMask(np.asarray(array), **fields), Path(f'm{i}.png'))
    for i, array in enumerate(arrays)
  ]


@pytest.mark.parametrize(
  ('arrays', 'says'),
  [
    ([[[0, 0]]], 'hold only the value 0 .*nothing to learn'),
    ([[[0, 0]], [[255, 255]]], None),
    ([[[3, 255]]], 'hold only the values 3, 255'),
    ([[[0, 1, -2]]], r"negative value -2 \(1 pixel in 1 mask\).*data.values='-2:255, 1:1'"),
    # 255 may be the class of other files, or unknown.
    ([[[0, 1]], [[0, 255]]], "holds 255 .* and no 1.*data.values='1:1, 255:1' or '1:1, 255:255'"),
    ([[[0, 1]], [[0, 1, 255]]], None),
    ([[[0, 2]], [[0, 255]]], None),
  ],
)
def test_values_from_which_nothing_can_be_learned(arrays, says):
  table = ValueTable(facts_of(*arrays))
  if says is None:
    check_values(table, None)
    return
  with pytest.raises(UserError, match=says):
    check_values(table, None)


def test_smooth_borders_of_a_drawing_in_color_are_said():
  shades = [(level, 0, 0) for level in (0,) * 30 + (255,) * 20 + tuple(range(20, 240, 20))]
  facts = facts_of(masks.pack(np.array([shades])), colored=True)
  with pytest.raises(UserError, match='drawing of #000000 and #ff0000 with smooth borders'):
    check_colors(facts)


def test_what_reading_changed_is_said_once_with_the_number_of_masks():
  near = facts_of([[0, 0.9975]], [[0, 2.002]], notes=('turned',))
  notes = reading_notes([*near, *facts_of([[0, 1]])])
  assert notes[0].startswith('values of 2 masks were rounded to whole numbers')
  assert 'at most 0.0025 away (such as m0.png)' in notes[0]
  assert notes[1:] == ['turned (2 masks, such as m0.png)']
  assert reading_notes(facts_of([[0, 1]])) == []
