"""What mask values mean, from the values alone: found, or refused in a sentence."""

from pathlib import Path

import numpy as np
import pytest

from ssl_jax.datasets._encoding import find_encoding, pieces
from ssl_jax.types import IGNORE, UserError


def seen(values):
  return {value: Path(f'masks/im{value}.png') for value in values}


@pytest.mark.parametrize(
  ('values', 'classes', 'ids', 'known'),
  [
    ((0, 255), None, (0, 1), 2),
    ((0, 255), ('sky', 'cell'), (0, 1), 2),
    ((0, 1), None, (0, 1), 2),
    ((0, 1, 255), None, (0, 1, IGNORE), 2),
    ((0, 1, 2, 255), 3, (0, 1, 2, IGNORE), 3),
    ((0, 1), 4, (0, 1), 4),
    ((0, 128), 2, (0, 1), 2),
    ((0, 128, 255), ('a', 'b', 'c'), (0, 1, 2), 3),
    ((1, 2), 2, (0, 1), 2),
  ],
)
def test_encodings(values, classes, ids, known):
  encoding = find_encoding(seen(values), classes)
  assert len(encoding.classes) == known
  if isinstance(classes, tuple):
    assert encoding.classes == classes
  label = encoding(np.array([values, values[::-1]]))
  assert label.dtype == np.uint8
  np.testing.assert_array_equal(label, [ids, ids[::-1]])
  assert 'mask' in encoding.note


@pytest.mark.parametrize(
  ('values', 'classes', 'sentence'),
  [
    ((0, 128), None, r'not clear what the mask values 0, 128 \(128 is in .*im128\.png\) mean.*=2'),
    ((0, 128, 255), None, r'not clear what the mask values 0, 128, 255 .*data\.classes=3'),
    ((1, 2), None, r'not clear what the mask values 1, 2 '),
    ((0, 128, 255), 2, r'asks for 2 classes but the masks hold the values 0, 128, 255'),
    ((0, 255), 3, r'asks for 3 classes but the masks hold the values 0, 255'),
    ((0, 1, 2), 2, r'asks for 2 classes but the masks hold'),
    ((0,), None, r'hold only the value 0 '),
    (range(70), None, r'hold 70 different values .*look like instance ids'),
    ((0, 1), 1, r'classes=1 must be a number of 2 to 255'),
    ((0, 1), 'cell', r"classes='cell' must be a number"),
  ],
)
def test_unclear_masks_are_refused(values, classes, sentence):
  with pytest.raises(UserError, match=sentence) as error:
    find_encoding(seen(values), classes)
  assert '\n' not in str(error.value)


def test_negative_values_are_refused():
  with pytest.raises(UserError, match=r'im-1\.png holds the negative value -1'):
    find_encoding(seen([-1, 0, 1]), None)


def test_whole_ids_beyond_a_few_look_like_instances():
  assert len(find_encoding(seen(range(8)), None, whole=0.5).classes) == 8
  with pytest.raises(UserError, match=r'each being one connected piece.*data\.classes=8'):
    find_encoding(seen(range(8)), None, whole=1.0)
  assert len(find_encoding(seen(range(4)), None, whole=1.0).classes) == 4


def test_pieces_counts_ids_and_those_in_one_piece():
  assert pieces(np.array([[1, 0, 1, 255, 2, 2]])) == (2, 1)
  assert pieces(np.array([[3, 0], [0, 3]])) == (1, 1)  # touching at a corner is one piece
  assert pieces(np.zeros((2, 2), int)) == (0, 0)
