"""Networks of two dimensions on the slices of volumes: what they see, and what comes back."""

import runpy
import shutil

import nibabel
import numpy as np
import pytest
from conftest import ROOT, write_patients, write_volumes
from ml_collections import ConfigDict

from ssl_jax import predict
from ssl_jax.data import dataset_stats, modifiers
from ssl_jax.data.mask_encoding import class_ids
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.data.volume_source import FileDigests
from ssl_jax.data.volumes import slice_source, volume_splits
from ssl_jax.datasets import acdc
from ssl_jax.datasets import nifti as nifti_dataset
from ssl_jax.errors import UserError
from ssl_jax.evaluation.evaluate import evaluate
from ssl_jax.inference import slices
from ssl_jax.inference.images import ImagePredictor
from ssl_jax.io.run_log import read_done
from ssl_jax.run import run

CLASSES = ('none', 'bright', 'dark')


@pytest.fixture
def labeled(tmp_path):
  write_volumes(tmp_path / 'labeled', count=6)
  return tmp_path


def _load(folder, **fields):
  fields = dict(slices=True, classes=CLASSES, num_labeled=2, **fields)
  return nifti_dataset.load(labeled=folder / 'labeled', cache=folder / 'cache', **fields)


def _records(source):
  return [source[i] for i in range(len(source))]


def _volumes_of(source):
  return {record['name'].rpartition('-z')[0] for record in _records(source)}


def test_training_sees_slices_and_the_test_is_of_volumes(labeled):
  found = _load(labeled, test_fraction=0.3)
  whole = nifti_dataset.load(
    labeled=labeled / 'labeled',
    cache=labeled / 'cache',
    num_labeled=2,
    test_fraction=0.3,
    spacing=(),
  )
  volume = whole.labeled[0]
  assert [len(found.labeled), len(found.unlabeled), len(found.test)] == [32, 32, 2]
  for z in (0, 9):
    record = found.labeled[z]
    assert record['name'] == f'{volume["name"]}-z{z:02d}'
    np.testing.assert_array_equal(record['image'], volume['image'][z])
    np.testing.assert_array_equal(record['label'], volume['label'][z])
  names = [record['name'] for record in _records(found.unlabeled)]
  assert names == [record['name'] for record in _records(found.truth)]
  assert len(set(names)) == 32
  assert 'label' not in found.unlabeled[3]
  assert found.truth[3]['label'].shape == (20, 18)
  np.testing.assert_array_equal(found.test[0]['label'], whole.test[0]['label'])
  assert found.test[0]['slice_size'] is None
  # Volumes of both kinds share what is prepared, but are not the same data.
  assert found.digest != whole.digest
  assert len([*(labeled / 'cache').glob('case*')]) == 6


def test_roles_of_volumes_become_a_data_set(labeled):
  """Copies of test volumes leave training."""
  preprocessing = VolumePreprocessing(slices=True)
  with FileDigests(labeled / 'cache') as digests:
    pairs = volume_splits.list_pairs(labeled / 'labeled', 'labeled', digests)
    cases = {'labeled': pairs[:3], 'unlabeled': pairs[3:4], 'val': [], 'test': pairs[2:3]}
    prepared, notes = volume_splits.prepare_roles(cases, preprocessing, digests, class_ids(CLASSES))
  assert [case.name for case in prepared['labeled']] == [case.name for case in pairs[:2]]
  assert len(notes) == 1
  for judged in (True, False):
    found = volume_splits.make_splits(prepared, preprocessing, CLASSES, judged=judged, notes=notes)
    assert (found.truth is not None) == judged
  assert found.val is None
  assert found.classes == CLASSES
  assert found.notes == tuple(notes)
  (labeled / 'labeled' / 'masks' / pairs[0].mask.name).unlink()
  with pytest.raises(UserError, match='has no mask in'):
    volume_splits.list_pairs(labeled / 'labeled', 'labeled', digests)


def test_slices_are_resized_and_kept(labeled, monkeypatch):
  found = _load(labeled, size=(32, 24))
  record = found.labeled[8]
  assert record['image'].shape == (32, 24, 1)
  assert record['image'].dtype == np.float32
  assert record['label'].shape == (32, 24)
  assert set(np.unique(record['label'])) == {0, 1, 2}
  assert found.labeled[8]['image'] is record['image']
  assert found.test[0]['image'].shape == (16, 20, 18, 1)
  stats = dataset_stats.compute_stats(found)
  assert stats.preprocessing['size'] == (32, 24)
  assert stats.counts['labeled'] == 32
  assert found.digest != _load(labeled, size=(24, 24)).digest
  # Without memory for them, slices are cut out again.
  monkeypatch.setattr(slice_source, 'CACHE_BYTES', 0)
  again = _load(labeled, size=(32, 24)).labeled
  np.testing.assert_array_equal(again[8]['image'], record['image'])
  assert again[8]['image'] is not again[8]['image']


def _perfect(found, calls):
  """A predict function that knows the intensities: they say the class at every pixel."""

  def predict_fn(images):
    calls.append(images.shape)
    ids = np.rint(images[..., 0] * 2).astype(int)
    return np.eye(3, dtype=np.float32)[ids]

  class Shown:
    """Volumes whose intensities are their labels."""

    def __len__(self):
      return len(found.test)

    def __getitem__(self, index):
      record = found.test[index]
      return record | {'image': (record['label'] / 2).astype(np.float32)[..., None]}

  return predict_fn, Shown()


@pytest.mark.parametrize('size', [None, (40, 36)])
def test_a_perfect_network_has_a_dice_of_100_at_native_size(labeled, size):
  found, calls = _load(labeled, size=size, test_fraction=0.5), []
  predict_fn, shown = _perfect(found, calls)
  evaluation = evaluate(ImagePredictor(predict_fn, 4), shown, CLASSES)
  assert evaluation.masks[shown[0]['name']].shape == (16, 20, 18)
  if size is None:
    assert evaluation.scores['dice'] == 100
    assert set(calls) == {(4, 32, 32, 1)}
  else:
    assert evaluation.scores['dice_per_image/bright'] > 93
  assert len(evaluation.matrices) == 3
  assert len(set(calls)) == 1


def test_doubled_slices_come_back_as_they_were():
  volumes = [np.random.default_rng(i).random((3 + i, 6, 5, 1), np.float32) for i in range(3)]

  def threshold(images):
    ids = (images[..., 0] > 0.5).astype(int)
    return np.eye(2, dtype=np.float32)[ids] * 0.8 + 0.1

  found = {}
  for index, ids, confidence in slices.predict_volumes(threshold, volumes):
    found[index] = ids
    np.testing.assert_allclose(confidence, 0.9)
  for index, volume in enumerate(volumes):
    np.testing.assert_array_equal(found[index], volume[..., 0] > 0.5)


def test_a_patient_has_one_role(tmp_path):
  write_patients(tmp_path)
  shutil.move(tmp_path / 'splits', tmp_path / 'lists')
  found = nifti_dataset.load(
    labeled=tmp_path, cache=tmp_path / 'cache', slices=True, group='^(patient[0-9]+)_',
    num_labeled=2, test_fraction=0.25, draw=1,
  )  # fmt: skip
  patients = []
  for source in (found.labeled, found.unlabeled, found.test):
    patients.append({record['name'][:10] for record in _records(source)})
  assert [len(names) for names in patients] == [2, 5, 2]
  assert len(set.union(*patients)) == 9


@pytest.mark.parametrize(
  ('fields', 'says'),
  [
    (dict(size=(32, 32), slices=False), r'data.size is the size of slices; set data.slices=True'),
    (dict(size=(32, 32, 32)), 'not two numbers of pixels'),
    (dict(size=(0, 32)), 'not two numbers of pixels'),
  ],
)
def test_sizes_that_cannot_be_are_refused(labeled, fields, says):
  with pytest.raises(UserError, match=says):
    nifti_dataset.load(labeled=labeled / 'labeled', **{'slices': True, **fields})
  with pytest.raises(UserError, match=r'of slices data\.size'):
    modifiers.downscale(_load(labeled), 0.5)


# ---- ACDC


def _acdc(folder, **fields):
  return acdc.load(root=folder, cache=folder / 'cache', size=(24, 24), **fields)


def test_the_published_patients_are_labeled_and_other_draws_have_others(tmp_path):
  write_patients(tmp_path, train=6, val=1, test=2)
  found = _acdc(tmp_path, labeled=2)
  # The lists are not in the order of the numbers.
  assert {name[:10] for name in _volumes_of(found.labeled)} == {'patient006', 'patient005'}
  assert [len(found.labeled), len(found.unlabeled), len(found.val), len(found.test)] == [
    16,
    32,
    2,
    4,
  ]
  assert {record['name'][:10] for record in _records(found.test)} == {'patient008', 'patient009'}
  assert set(found.draw.groups.values()) == {'patient008', 'patient009'}
  assert found.draw.overlap == 0.5
  assert found.labeled[0]['image'].shape == (24, 24, 1)
  assert found.classes[1] == 'right ventricle'
  drawn = [frozenset(_volumes_of(_acdc(tmp_path, labeled=2, draw=i).labeled)) for i in range(4)]
  assert len(set(drawn)) > 1
  more = _acdc(tmp_path, labeled=4, draw=1, val=0)
  assert drawn[1] < _volumes_of(more.labeled)
  assert more.val is None
  assert _acdc(tmp_path, labeled=1.0).unlabeled is None


def test_lists_that_cannot_be_are_refused(tmp_path):
  write_patients(tmp_path)
  with pytest.raises(UserError, match=r'data\.labeled=7 asks for 7'):
    _acdc(tmp_path, labeled=7)
  path = tmp_path / 'splits' / 'val.txt'
  path.write_text('patient001\n')
  with pytest.raises(
    UserError, match=r'patient001 is named in splits/train.txt and again in .*val'
  ):
    _acdc(tmp_path)
  path.write_text('patient099\n')
  with pytest.raises(UserError, match='no volume of patient099'):
    _acdc(tmp_path)
  path.unlink()
  with pytest.raises(UserError, match=r'val.txt is missing; put the volumes'):
    _acdc(tmp_path)


# ---- A whole run


def _page(folder):
  config = runpy.run_path(str(ROOT / 'configs' / 'acdc.py'))['get_config']('256')
  config.unlock()
  small = {'data.root': str(folder), 'data.cache': str(folder / 'cache'), 'data.size': (24, 24)}
  small |= {
    'crop_size': (16, 16),
    'steps': 120,
    'eval_every': 120,
    'num_seeds': 1,
    'ema_decay': 0.8,
  }
  small |= {'batch.labeled': 4, 'batch.unlabeled': 4, 'optimizer.lr': 0.05, 'data.labeled': 3}
  config.update_from_flattened_dict(small)
  config.model = ConfigDict(dict(name='unet', widths=(6, 12)))
  config.update(precision='float32', steps_per_call=1)
  config.checkpoint = 'best_supervised'
  config.watch_losses = True
  again = dict(steps=2, eval_every=2, watch_losses=False, checkpoint='last', views={})
  again |= dict(batch=dict(labeled=2, pseudo=2))
  again['views'] = {stream: dict(source=stream) for stream in again['batch']}
  again['methods.supervised.shown'] = tuple(again['batch'])
  config.stages = (
    dict(name='network', batch=dict(labeled=4), views=dict(labeled=dict(source='labeled'))),
    dict(name='labels', run='pseudo_label', of='network', scales=(1.0,)),
    dict(name='again', pseudo='labels', **again),
    dict(name='volumes', run='segment', of='network'),
  )
  config.table = ()
  return config.lock()


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  folder = tmp_path_factory.mktemp('slices')
  write_patients(folder)
  run(_page(folder), folder / 'run')
  return folder


def test_a_run_learns_from_slices_and_scores_volumes(finished):
  done = read_done(finished / 'run' / 'network')
  assert done['test/dice'] > 60
  scored = read_done(finished / 'run' / 'volumes')
  of_classes = [done[f'test/dice_per_image/{name}'] for name in acdc.CLASSES[1:]]
  assert scored['test/dsc'] == pytest.approx(np.mean(of_classes))
  assert len([*(finished / 'run' / 'network' / 'test' / 'masks').iterdir()]) == 4
  labels = finished / 'run' / 'labels' / 'masks'
  assert (labels / 'patient001_frame09-z03.png').exists()
  assert read_done(finished / 'run' / 'labels')['labels/miou'] > 40


def test_new_volumes_get_masks_on_their_own_grid(finished, tmp_path):
  source = nibabel.load(finished / 'images' / 'patient008_frame01.nii.gz')
  # The left side of the patient comes first in this file, and voxels are long.
  affine = np.diag([-1.5, 1.5, 8.0, 1.0])
  (tmp_path / 'new').mkdir()
  flipped = np.asarray(source.dataobj)[::-1]
  nibabel.save(nibabel.Nifti1Image(flipped, affine), tmp_path / 'new' / 'a.nii.gz')
  asked = [f'--run={finished}/run/network', f'--images={tmp_path}/new', f'--out={tmp_path}/out']
  assert predict.main(asked) == 0
  mask = nibabel.load(tmp_path / 'out' / 'masks' / 'a.nii.gz')
  np.testing.assert_allclose(mask.affine, affine)
  own = finished / 'run' / 'volumes' / 'masks' / 'patient008_frame01.nii.gz'
  np.testing.assert_array_equal(
    np.asarray(mask.dataobj), np.asarray(nibabel.load(own).dataobj)[::-1]
  )


def test_a_crop_of_three_sides_is_refused(finished, tmp_path):
  config = _page(finished)
  with config.unlocked():
    config.crop_size = (8, 16, 16)
  with pytest.raises(
    UserError, match=r'3 sides, and the images have 2. They are slices of volumes'
  ):
    run(config, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'network').exists()
