"""Folders of NIfTI volumes: roles, preparation that is done once, sentences for what is wrong."""

import nibabel
import numpy as np
import pytest
from conftest import write_volumes

from ssl_jax.data import dataset_stats, volume_source
from ssl_jax.datasets import nifti as nifti_dataset
from ssl_jax.errors import UserError
from ssl_jax.io import memmap_arrays, nifti

WINDOW = dict(window=(0.0, 150.0), spacing=(1.0, 1.0, 1.0))


@pytest.fixture
def labeled(tmp_path):
  write_volumes(tmp_path / 'labeled')
  return tmp_path


def _load(folder, **knobs):
  return nifti_dataset.load(
    labeled=folder / 'labeled', cache=folder / 'cache', **{**WINDOW, **knobs}
  )


def _names(source):
  return {source[i]['name'] for i in range(len(source))}


def test_a_few_labels_are_kept_and_the_others_judge_only(labeled):
  found = _load(labeled, num_labeled=2, test_fraction=0.25)
  assert [len(s) for s in (found.labeled, found.unlabeled, found.test, found.truth)] == [2, 4, 2, 4]
  groups = [_names(s) for s in (found.labeled, found.unlabeled, found.test)]
  assert len(set.union(*groups)) == 8
  assert 'label' not in found.unlabeled[0]
  assert _names(found.truth) == groups[1]
  assert 'label' in found.truth[0]
  assert found.classes == ('background', 'class 1', 'class 2')
  record = found.labeled[0]
  assert record['image'].shape == (*record['label'].shape, 1)
  assert record['image'].shape[0] == 24  # 16 slices of 1.5 mm
  assert 0 <= record['image'].min() < record['image'].max() <= 1
  assert set(np.unique(record['label'])) == {0, 1, 2}
  stats = dataset_stats.compute_stats(found)
  assert stats.preprocessing == found.preprocessing
  assert stats.channels == 1


def test_more_labels_hold_those_of_fewer(labeled):
  few, many = (_names(_load(labeled, num_labeled=n).labeled) for n in (2, 4))
  assert few < many


def test_what_was_prepared_is_not_done_again(labeled, monkeypatch):
  first = _load(labeled)
  monkeypatch.setattr(nifti, 'read_volume', None)  # it would raise
  again = _load(labeled)
  np.testing.assert_array_equal(first.test[0]['image'], again.test[0]['image'])
  assert first.digest == again.digest


def test_volumes_stay_on_the_disk_and_files_are_read_once(labeled, monkeypatch):
  first = _load(labeled, num_labeled=2)
  for source, marked in ((first.labeled, True), (first.unlabeled, False), (first.truth, True)):
    record = source[0]
    assert isinstance(record['image'], np.memmap)
    assert (memmap_arrays.FOREGROUND in record) == marked
  assert (labeled / 'cache' / volume_source.DIGESTS).exists()
  monkeypatch.setattr('hashlib.file_digest', None)  # it would raise
  assert _load(labeled, num_labeled=2).digest == first.digest
  path = labeled / 'labeled' / 'images' / 'case2.nii.gz'
  path.write_bytes(path.read_bytes())  # it may be another one now
  with pytest.raises(TypeError):
    _load(labeled, num_labeled=2)


def test_a_few_large_volumes_tell_the_intensities(labeled, monkeypatch):
  found = _load(labeled, test_fraction=0)
  every = dataset_stats.compute_stats(found)
  looked_at = []
  monkeypatch.setattr(dataset_stats, 'to_float', lambda image: looked_at.append(image) or image)
  monkeypatch.setattr(dataset_stats, 'SAMPLED_PIXELS', 3 * found.labeled[0]['label'].size)
  few = dataset_stats.compute_stats(found)
  assert len(looked_at) == 3
  assert few.mean == pytest.approx(every.mean, abs=0.05)
  assert few.fingerprint == every.fingerprint


def test_other_knobs_or_files_are_other_data(labeled):
  digests = {_load(labeled).digest, _load(labeled, clip=True).digest}
  path = labeled / 'labeled' / 'masks' / 'case3.nii.gz'
  image = nibabel.load(path)
  changed = np.asarray(image.dataobj).copy()
  changed[0, 0, 0] = 1
  nibabel.save(nibabel.Nifti1Image(changed, image.affine), path)
  assert len({*digests, _load(labeled).digest}) == 3


def test_unlabeled_volumes_lie_in_a_folder_of_their_own(labeled):
  write_volumes(labeled / 'more', count=3, seed=1)
  found = _load(labeled, unlabeled=labeled / 'more' / 'images', test_fraction=0)
  assert len(found.unlabeled) == 3
  assert found.truth is None
  assert found.test is None
  named = _load(labeled, test=labeled / 'more', classes=('none', 'left', 'right', 'other'))
  assert len(named.test) == 3
  assert named.classes == ('none', 'left', 'right', 'other')


def test_the_test_is_not_learnt_from_though_it_lies_among_the_unlabeled(labeled):
  found = _load(labeled, num_labeled=2, unlabeled=labeled / 'labeled')
  assert [len(s) for s in (found.labeled, found.unlabeled, found.test)] == [2, 6, 2]
  assert not _names(found.test) & _names(found.unlabeled)
  assert any('dropped from unlabeled, being copies of test' in note for note in found.notes)
  with pytest.raises(UserError, match='Every labeled image is a copy'):
    _load(labeled, test=labeled / 'labeled')


def test_unlabeled_volumes_of_one_name_are_refused(labeled):
  """Their pseudo-labels would overwrite each other."""
  write_volumes(labeled / 'more', count=3, seed=1)
  with pytest.raises(UserError, match=r'more/images/case.*have the same name'):
    _load(labeled, num_labeled=1, unlabeled=labeled / 'more')


def _shift(folder):
  path = folder / 'labeled' / 'masks' / 'case1.nii.gz'
  image = nibabel.load(path)
  moved = image.affine.copy()
  moved[0, 3] += 5
  nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), moved), path)


def _crop(folder):
  path = folder / 'labeled' / 'masks' / 'case1.nii.gz'
  image = nibabel.load(path)
  nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj)[1:], image.affine), path)


@pytest.mark.parametrize(
  ('spoil', 'knobs', 'says'),
  [
    (lambda f: (f / 'labeled/masks/case1.nii.gz').unlink(), {}, 'case1.nii.gz has no mask'),
    (
      lambda f: (f / 'labeled/images/case1.nii.gz').write_bytes(b'x'),
      {},
      'cannot be read as NIfTI',
    ),
    (_shift, {}, 'does not lie where case1.nii.gz does'),
    (_crop, {}, r'has \(17, 20, 16\) voxels but case1.nii.gz has \(18, 20, 16\)'),
    (lambda f: None, dict(num_labeled=7), r'data.num_labeled=7 is not in 1\.\.6'),
    (lambda f: None, dict(classes=2), 'asks for 2 classes but the masks hold the values 0, 1, 2'),
    (lambda f: None, dict(test_fraction=1.0), 'data.test_fraction=1.0'),
    (lambda f: None, dict(spacing=(1.0, -1.0, 1.0)), 'data.spacing'),
  ],
)
def test_what_is_wrong_is_named(labeled, spoil, knobs, says):
  spoil(labeled)
  with pytest.raises(UserError, match=says):
    _load(labeled, **knobs)
