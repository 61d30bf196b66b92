"""Folders of NIfTI volumes: roles, preparation that is done once, sentences for what is wrong."""

import ast

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


def test_the_test_is_not_learned_from_though_it_lies_among_the_unlabeled(labeled):
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


def _micro(folder, **knobs):
  """Volumes with voxels of 4 um."""
  write_volumes(folder / 'labeled', spacing=(0.004, 0.004, 0.004))
  # The objects are so many mm large, which is all of such a volume.
  for path in (folder / 'labeled' / 'masks').iterdir():
    image = nibabel.load(path)
    ids = np.asarray(image.dataobj).copy()
    ids[:6], ids[6:9] = 0, 1
    nibabel.save(nibabel.Nifti1Image(ids, image.affine), path)
  return nifti_dataset.load(labeled=folder / 'labeled', cache=folder / 'cache', **knobs)


def test_the_spacing_follows_from_the_volumes(tmp_path):
  found = _micro(tmp_path)
  assert found.preprocessing['spacing'] == (0.004, 0.004, 0.004)
  assert found.labeled[0]['label'].shape == (16, 20, 18)
  assert any('data.spacing is 0.004 x 0.004 x 0.004 mm, the median of 8' in n for n in found.notes)
  (sizes,) = [note for note in found.notes if note.startswith('voxels (x, y, z), resampled to')]
  # Of the first three, before and after.
  assert sizes.count('18 x 20 x 16 of 0.004 x 0.004 x 0.004 mm -> 18 x 20 x 16') == 3


def test_every_draw_has_the_same_spacing(tmp_path):
  for i, z in enumerate((1.0, 1.5, 2.0, 2.5, 3.0)):
    write_volumes(tmp_path / 'labeled', count=1, first=i, spacing=(1.0, 1.0, z))
  spacings = set()
  for draw in range(4):
    found = nifti_dataset.load(labeled=tmp_path / 'labeled', cache=tmp_path / 'cache', draw=draw)
    spacings.add(found.preprocessing['spacing'])
  assert spacings == {(1.0, 1.0, 2.0)}
  kept = nifti_dataset.load(labeled=tmp_path / 'labeled', cache=tmp_path / 'cache', spacing=())
  assert kept.preprocessing['spacing'] is None
  assert {len(kept.labeled[i]['label']) for i in range(len(kept.labeled))} == {16}


def test_volumes_that_would_shrink_to_nothing_are_refused(tmp_path):
  with pytest.raises(UserError) as error:
    _micro(tmp_path, spacing=(1.0, 1.0, 1.0))
  sentence = str(error.value)
  assert '18 x 20 x 16 voxels of 0.004 x 0.004 x 0.004 mm would become 1 x 1 x 1' in sentence
  # As it advises.
  value = sentence.split("--config.data.spacing='")[1].split("'")[0]
  assert value == '(0.004,0.004,0.004)'
  found = _micro(tmp_path, spacing=ast.literal_eval(value))
  assert found.labeled[0]['label'].shape == (16, 20, 18)


def test_volumes_that_would_fill_every_memory_are_refused(labeled):
  with pytest.raises(UserError, match=r'would become .* of 0.001 x 0.001 x 0.001 mm, too many'):
    _load(labeled, spacing=(0.001, 0.001, 0.001))


def test_a_class_that_resampling_loses_is_refused(labeled):
  path = labeled / 'labeled' / 'masks' / 'case3.nii.gz'
  image = nibabel.load(path)
  changed = np.asarray(image.dataobj).copy()
  changed[1, 1, 1] = 3
  nibabel.save(nibabel.Nifti1Image(changed, image.affine), path)
  assert 3 in [
    label for record in _records(_load(labeled, classes=4)) for label in np.unique(record['label'])
  ]
  with pytest.raises(UserError, match=r'case3.nii.gz: class 3 \(1 voxels\) is lost when .* from '):
    _load(labeled, classes=4, spacing=(2.5, 2.5, 2.5))


def test_a_class_outside_of_the_foreground_is_refused(labeled):
  with pytest.raises(UserError, match=r'class 2 .* lies outside .*data.foreground_threshold=85'):
    _load(labeled, foreground_threshold=85.0)


def _records(splits):
  sources = [splits.labeled, splits.test]
  return [source[i] for source in sources for i in range(len(source))]


def test_headers_of_masks_may_be_ignored(labeled):
  expected = {record['name']: np.array(record['label']) for record in _records(_load(labeled))}
  for path in (labeled / 'labeled' / 'masks').iterdir():
    # A program that knows no affine: the identity.
    nibabel.save(nibabel.Nifti1Image(np.asarray(nibabel.load(path).dataobj), np.eye(4)), path)
  with pytest.raises(UserError, match=r'does not lie where .*set data.ignore_affine=True'):
    _load(labeled)
  splits = _load(labeled, ignore_affine=True)
  for record in _records(splits):
    np.testing.assert_array_equal(record['label'], expected[record['name']])
  # Scoring on the grid of the files knows of it, too.
  assert splits.preprocessing['ignore_affine']
  assert 'ignore_affine' not in _load_of_agreeing(labeled).preprocessing


def _load_of_agreeing(folder):
  write_volumes(folder / 'agreeing')
  return nifti_dataset.load(labeled=folder / 'agreeing', cache=folder / 'cache')


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


def _remask(folder, change, suffix='', ending='.nii.gz'):
  """Changes the voxels of all masks."""
  for path in sorted((folder / 'labeled' / 'masks').iterdir()):
    image = nibabel.load(path)
    voxels = change(np.asarray(image.dataobj))
    path.unlink()
    name = path.name.removesuffix('.nii.gz') + suffix + ending
    changed = nibabel.Nifti1Image(voxels, image.affine, dtype=voxels.dtype)
    nibabel.save(changed, path.with_name(name))


def test_black_and_white_masks_are_read_as_those_of_images(labeled):
  _remask(labeled, lambda ids: np.where(ids == 1, 255, 0).astype(np.uint8))
  found = _load(labeled)
  assert found.classes == ('background', 'foreground')
  assert set(np.unique(found.labeled[0]['label'])) == {0, 1}
  assert found.notes[0] == 'masks hold 0 and 255: read as background and foreground'


@pytest.mark.parametrize('dtype', [np.int16, np.int64, np.float64, np.uint16])
def test_values_of_volumes_have_class_ids(labeled, dtype):
  _remask(labeled, lambda ids: np.array([0, 205, 420])[ids].astype(dtype))
  with pytest.raises(
    UserError, match=r'205: \d+ voxels in 8 masks, 420: .*case0\.nii\.gz'
  ) as error:
    _load(labeled)
  assert "--config.data.values='205:1, 420:2'" in str(error.value)
  found = _load(labeled, values='205:1, 420:2')
  assert found.classes == ('background', 'class 1', 'class 2')
  record = found.test[0]
  # The masks on their own grid, by which organs are scored.
  truth = record['read_mask'](record['mask_file'])
  assert truth.shape == (18, 20, 16)
  assert set(np.unique(truth)) == set(np.unique(record['label'])) == {0, 1, 2}
  swapped = _load(labeled, values='205:2, 420:1')
  assert swapped.digest != found.digest
  assert (swapped.test[0]['label'] == 1).sum() == (record['label'] == 2).sum()


def test_gaps_are_asked_about(labeled):
  _remask(labeled, lambda ids: np.array([0, 1, 4], np.uint8)[ids])
  with pytest.raises(UserError, match=r'not clear what the mask values 0, 1, 4 .*4: \d+ voxels'):
    _load(labeled)
  assert len(_load(labeled, classes=3).classes) == 3
  assert len(_load(labeled, classes=5).classes) == 5


def test_scaled_labels_are_rounded_and_that_is_said(labeled):
  _remask(labeled, lambda ids: (ids * 0.9985).astype(np.float32))
  found = _load(labeled)
  assert set(np.unique(found.labeled[0]['label'])) == {0, 1, 2}
  assert any('8 masks were rounded' in note for note in found.notes)
  _remask(labeled, lambda ids: (ids > 0) * np.float32(0.7))
  with pytest.raises(UserError, match=r'case0\.nii\.gz holds the two numbers 0 and 0\.7'):
    _load(labeled)


@pytest.mark.parametrize(
  ('suffix', 'ending'),
  [('_seg', '.nii.gz'), ('-Label', '.nii'), ('', '.NII.GZ'), ('_masks', '.nii.gz'), ('', '.nii')],
)
def test_masks_may_be_called_as_those_of_images(labeled, suffix, ending):
  _remask(labeled, lambda ids: ids, suffix, ending)
  assert len(_load(labeled, test_fraction=0).labeled) == 8


def test_the_names_of_nnu_net_are_known(labeled):
  for path in (labeled / 'labeled' / 'images').iterdir():
    path.rename(path.with_name(path.name.replace('.nii', '_0000.nii')))
  assert len(_load(labeled, test_fraction=0).labeled) == 8


def test_two_volumes_of_one_name_are_refused(labeled):
  path = labeled / 'labeled' / 'images' / 'case0.nii.gz'
  nibabel.save(nibabel.load(path), path.with_name('case0.nii'))
  with pytest.raises(UserError, match=r'case0\.nii\.gz and case0\.nii have the same name'):
    _load(labeled)


def test_axes_in_another_order_are_named(labeled):
  _remask(labeled, lambda ids: ids.transpose(1, 0, 2).copy())
  with pytest.raises(UserError, match=r'\(20, 18, 16\) voxels but .*axes are in another order'):
    _load(labeled)


def test_hidden_masks_do_not_decide_on_the_number_of_classes(labeled):
  """Only masks that are learned from, or of val and test, are looked at."""
  first = _names(_load(labeled, num_labeled=2).labeled) | _names(_load(labeled).test)
  for path in (labeled / 'labeled' / 'masks').iterdir():
    if path.name.removesuffix('.nii.gz') not in first:
      image = nibabel.load(path)
      ids = np.asarray(image.dataobj).copy()
      ids[:2, :2, :2] = 3
      nibabel.save(nibabel.Nifti1Image(ids, image.affine), path)
  found = _load(labeled, num_labeled=2)
  assert len(found.classes) == 3
  assert max(found.truth[i]['label'].max() for i in range(4)) == 255
  assert len(_load(labeled).classes) == 4


def test_masks_are_checked_once(labeled, monkeypatch):
  _load(labeled)
  monkeypatch.setattr('ssl_jax.io.masks.read_stored', None)  # it would raise
  assert _load(labeled).classes == ('background', 'class 1', 'class 2')


def test_groups_of_volumes_stay_together(labeled):
  for kind in ('images', 'masks'):
    for i in range(8):
      path = labeled / 'labeled' / kind / f'case{i}.nii.gz'
      path.rename(path.with_name(f'p{i // 2}_v{i % 2}.nii.gz'))
  write_volumes(labeled / 'more', count=2, seed=7)
  for i in range(2):
    path = labeled / 'more' / 'images' / f'case{i}.nii.gz'
    path.rename(path.with_name(f'p{i}_u.nii.gz'))
  assert any('names look grouped' in note for note in _load(labeled).notes)
  for draw in range(4):
    found = _load(labeled, group=r'^(p\d)', draw=draw, unlabeled=labeled / 'more')
    tested = {name[:2] for name in _names(found.test)}
    assert len(tested) == 1
    rest = _names(found.labeled) | _names(found.unlabeled)
    assert not tested & {name[:2] for name in rest}


@pytest.mark.parametrize(('kwargs', 'brightest'), [({}, 1.0), (dict(clip=False), 0.0)])
def test_without_a_window_the_brightest_voxels_are_clipped(tmp_path, kwargs, brightest):
  write_volumes(tmp_path / 'labeled', count=2)
  raw = nifti.read_volume(tmp_path / 'labeled' / 'images' / 'case0.nii.gz').voxels
  found = _load(tmp_path, window=None, spacing=None, test_fraction=0, **kwargs)
  (image,) = [r['image'] for r in (found.labeled[0], found.labeled[1]) if 'case0' in r['name']]
  assert image[..., 0].T.ravel()[raw.argmax()] == brightest
