"""What mask values mean, from the values alone: found, or refused in a sentence."""

from pathlib import Path

import numpy as np
import pytest

from ssl_jax.data.mask_encoding import count_connected_ids, find_encoding
from ssl_jax.errors import UserError
from ssl_jax.types import IGNORE


def masks(values):
  """Files of which each holds one value more than the one before, and is named after it."""
  return {tuple(values[: i + 1]): Path(f'masks/im{v}.png') for i, v in enumerate(values)}


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
  encoding = find_encoding(masks(values), 0.0, classes)
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
    find_encoding(masks(values), 0.0, classes)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('classes', [None, 2])
def test_masks_of_two_encodings_are_refused(classes):
  mixed = {(0, 1): Path('a.png'), (0, 255): Path('b.png')}
  with pytest.raises(UserError, match=r'a\.png holds class ids up to 1, but b\.png holds 255'):
    find_encoding(mixed, 0.0, classes)
  clear = find_encoding(mixed | {(0, 1, 255): Path('c.png')}, 0.0, classes)
  assert clear.ignore
  assert len(clear.classes) == 2


def test_negative_values_are_refused():
  with pytest.raises(UserError, match=r'im-1\.png holds the negative value -1'):
    find_encoding(masks([-1, 0, 1]), 0.0, None)


def test_whole_ids_beyond_a_few_look_like_instances():
  assert len(find_encoding(masks(range(8)), 0.5, None).classes) == 8
  with pytest.raises(UserError, match=r'each being one connected component.*data\.classes=8'):
    find_encoding(masks(range(8)), 1.0, None)
  assert len(find_encoding(masks(range(4)), 1.0, None).classes) == 4


def test_ids_are_counted_and_those_that_are_connected():
  assert count_connected_ids(np.array([[1, 0, 1, 255, 2, 2]])) == (2, 1)
  assert count_connected_ids(np.array([[3, 0], [0, 3]])) == (
    1,
    1,
  )  # touching at a corner is connected
  assert count_connected_ids(np.zeros((2, 2), int)) == (0, 0)
