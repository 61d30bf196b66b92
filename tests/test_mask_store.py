"""Masks that a run keeps: pictures of images, volumes of volumes."""

import numpy as np
import pytest

from ssl_jax.errors import UserError
from ssl_jax.io import mask_store
from ssl_jax.stages.labeling.pseudo_label_filter import Filter
from ssl_jax.types import IGNORE

CLASSES = ('background', 'liver', 'spleen')


@pytest.mark.parametrize('shape', [(5, 7), (4, 5, 6)])
def test_what_is_written_is_read(tmp_path, shape):
  mask = np.random.default_rng(0).integers(0, 3, shape).astype(np.uint8)
  mask.flat[0] = IGNORE
  mask_store.write_mask(tmp_path, 'a', mask)
  np.testing.assert_array_equal(mask_store.read_mask(tmp_path, 'a'), mask)
  with pytest.raises(UserError, match='b'):
    mask_store.read_mask(tmp_path, 'b')


def _mask(liver, spleen):
  mask = np.zeros((4, 10, 10), np.uint8)
  mask[0, :, :].flat[:liver], mask[1, :, :].flat[:spleen] = 1, 2
  mask[3] = IGNORE
  return mask


def test_every_organ_needs_its_voxels():
  keep = Filter(CLASSES, min_voxels=20)
  assert keep.passes(_mask(20, 30), 'a')
  assert not keep.passes(_mask(19, 30), 'a')
  assert not keep.passes(_mask(50, 0), 'a')


def test_labels_that_changed_are_left_out(tmp_path):
  mask_store.write_mask(tmp_path, 'a', _mask(40, 30))
  # Dice with 40 and 30 voxels: 60 / 70 of the liver, 1 of the spleen; 0.93 in the mean.
  for agreement, kept in ((0.92, True), (0.94, False)):
    keep = Filter(CLASSES, before=tmp_path, agreement=agreement)
    assert keep.passes(_mask(30, 30), 'a') == kept
    assert not keep.passes(_mask(40, 30), 'b')  # which the round before left out
