"""The left atria of the Medical Segmentation Decathlon: slices to learn from, volumes to test."""

import pytest
from conftest import write_volumes

from ssl_jax.datasets import la_mri
from ssl_jax.errors import UserError


def _names(source):
  return {source[i]['name'] for i in range(len(source))}


def test_left_atria_are_slices_to_learn_from_and_volumes_to_test(tmp_path):
  write_volumes(tmp_path / 'la_mri', count=4, classes=2)
  kwargs = dict(root=tmp_path, labeled=1, cache=tmp_path / 'cache')
  found = la_mri.load(**kwargs)
  assert found.classes == ('background', 'left atrium')
  assert [len(s) for s in (found.labeled, found.unlabeled, found.test)] == [16, 32, 1]
  assert found.labeled[0]['image'].ndim == 3
  assert found.test[0]['image'].ndim == 4
  whole = la_mri.load(**kwargs, slices=False)
  assert [len(s) for s in (whole.labeled, whole.unlabeled, whole.test)] == [1, 2, 1]
  # Repetitions are a cross-validation.
  tests = [_names(la_mri.load(**kwargs, draw=draw).test) for draw in range(4)]
  assert len(set.union(*tests)) == 4


def test_the_brightest_voxels_of_left_atria_stay_bright(tmp_path):
  write_volumes(tmp_path / 'la_mri', count=2, classes=2)
  found = la_mri.load(root=tmp_path, slices=False, cache=tmp_path / 'cache')
  # Half a percent is above the upper percentile.
  assert (found.labeled[0]['image'] == 1).mean() > 0.003


def test_a_folder_without_left_atria_says_how_to_lay_it_out(tmp_path):
  with pytest.raises(UserError, match='put the volumes into images/'):
    la_mri.load(root=tmp_path / 'nowhere', labeled=1)
