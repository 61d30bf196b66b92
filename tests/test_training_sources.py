"""What a training needs of its data before it begins."""

import numpy as np
import pytest

from ssl_jax.errors import UserError
from ssl_jax.stages.learning.training_sources import check_truth
from ssl_jax.types import CELLS, IGNORE, Splits


def _source(*values):
  """An image for each value, whose mask has that value everywhere."""
  return [
    {
      'image': np.zeros((4, 4, 1), np.uint8),
      'name': f'im{i}',
      'label': np.full((4, 4), value, np.uint8),
    }
    for i, value in enumerate(values)
  ]


def _splits(labeled, val=None, test=None, **fields):
  return Splits(labeled, None, val, test, ('background', 'cell'), **fields)


def test_one_known_pixel_is_enough():
  check_truth(_splits(_source(IGNORE, 0), test=_source(IGNORE, IGNORE, 1)))


@pytest.mark.parametrize(
  ('splits', 'says'),
  [
    (_splits(_source(IGNORE, IGNORE)), 'pixel of the 2 labeled masks is 255.*to learn from'),
    (_splits(_source(0), test=_source(IGNORE)), 'pixel of the 1 test masks is 255.*to score'),
    (_splits(_source(0), val=_source(IGNORE)), 'pixel of the 1 val masks is 255.*to score'),
  ],
)
def test_masks_without_a_known_pixel_are_refused(splits, says):
  with pytest.raises(UserError, match=says):
    check_truth(splits)


def test_patches_have_one_label_each():
  check_truth(_splits(_source(IGNORE), task=CELLS))
