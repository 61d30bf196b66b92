"""Volumes of several channels: files with a number for each, or a fourth axis."""

import nibabel
import numpy as np
import pytest

from ssl_jax.data import dataset_stats
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.data.volumes import volume_channels
from ssl_jax.datasets import nifti as nifti_dataset
from ssl_jax.errors import UserError
from ssl_jax.inference import write_predictions
from ssl_jax.inference.volumes import WindowSettings
from ssl_jax.inference.writing.prediction_folder import Origin, open_folder
from ssl_jax.io import nifti

RNG = np.random.default_rng(0)
SHAPE = (9, 8, 6)


def save(path, voxels, affine=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine), path)


def case(seed, channels):
  """Channels [x, y, z, C], each on a scale of its own, and a mask that the last one shows."""
  rng = np.random.default_rng(seed)
  mask = np.zeros(SHAPE, np.uint8)
  mask[2:6, 1:5, 1:4] = 1
  scales = 10.0 ** np.arange(channels)
  voxels = rng.uniform(0, 0.3, (*SHAPE, channels)) * scales
  voxels[..., -1] += mask * scales[-1]
  return voxels.astype(np.float32), mask


def write_set(root, how, channels=2, count=4):
  for seed in range(count):
    voxels, mask = case(seed, channels)
    write_image(root / 'labeled' / 'images', f'c{seed}', voxels, how)
    save(root / 'labeled' / 'masks' / f'c{seed}.nii.gz', mask)


def write_image(folder, name, voxels, how):
  if how == 'files':
    for c in range(voxels.shape[-1]):
      save(folder / f'{name}_{c:04d}.nii.gz', voxels[..., c])
  elif how == 'fifth axis':  # as ITK writes it
    save(folder / f'{name}.nii.gz', voxels[:, :, :, None])
  else:
    save(folder / f'{name}.nii.gz', voxels)


def load(root, **kwargs):
  kwargs = {'test_fraction': 0, 'percentiles': (0, 100), 'clip': True} | kwargs
  return nifti_dataset.load(labeled=root / 'labeled', cache=root / 'cache', **kwargs)


@pytest.mark.parametrize('how', ['files', 'fourth axis', 'fifth axis'])
def test_channels_are_read_each_on_its_own_scale(tmp_path, how):
  write_set(tmp_path, how, channels=3)
  splits = load(tmp_path)
  assert len(splits.labeled) == 4
  for index in range(4):
    record = splits.labeled[index]
    voxels, mask = case(int(record['name'][1:]), 3)
    np.testing.assert_array_equal(record['label'], mask.T)
    assert record['image'].shape == (*SHAPE[::-1], 3)
    for c in range(3):
      expected = (voxels[..., c] - voxels[..., c].min()) / np.ptp(voxels[..., c])
      np.testing.assert_allclose(record['image'][..., c], expected.T, atol=1e-5)
  assert any(note.startswith('volumes have 3 channels') for note in splits.notes)
  assert dataset_stats.compute_stats(splits).channels == 3


def test_the_same_channels_in_files_or_axes_are_the_same(tmp_path):
  for how in ('files', 'fourth axis'):
    write_set(tmp_path / how, how)
  one, other = (load(tmp_path / how).labeled for how in ('files', 'fourth axis'))
  np.testing.assert_array_equal(one[2]['image'], other[2]['image'])


def test_unlabeled_files_are_grouped_as_the_labeled_ones(tmp_path):
  write_set(tmp_path, 'files')
  for seed in (7, 8):
    write_image(tmp_path / 'more', f'n{seed}', case(seed, 2)[0], 'files')
  splits = load(tmp_path, unlabeled=tmp_path / 'more', num_labeled=3)
  assert {splits.unlabeled[i]['name'] for i in range(3)} >= {'n7', 'n8'}
  assert splits.unlabeled[0]['image'].shape[-1] == 2
  (tmp_path / 'more' / 'n8_0000.nii.gz').unlink()
  write_image(tmp_path / 'more', 'n8', case(8, 3)[0][..., 1:], 'files')
  (tmp_path / 'more' / 'n8_0001.nii.gz').rename(tmp_path / 'more' / 'n8_0002.nii.gz')
  with pytest.raises(UserError, match='n8_0001 is missing beside n8_0002'):
    load(tmp_path, unlabeled=tmp_path / 'more')


def test_a_change_of_any_channel_is_another_data_set(tmp_path):
  write_set(tmp_path, 'files')
  before = load(tmp_path).digest
  save(tmp_path / 'labeled/images/c0_0001.nii.gz', case(9, 2)[0][..., 1])
  assert load(tmp_path).digest != before


def test_numbers_of_cases_are_no_channels(tmp_path):
  """Names such as scan_0001 are cases, where each has its mask."""
  for number in range(3):
    voxels, mask = case(number, 1)
    save(tmp_path / 'labeled/images' / f'scan_{number:04d}.nii.gz', voxels[..., 0])
    save(tmp_path / 'labeled/masks' / f'scan_{number:04d}.nii.gz', mask)
    save(tmp_path / 'more' / f'new_{number:04d}.nii.gz', voxels[..., 0] + 1)
  splits = load(tmp_path, unlabeled=tmp_path / 'more')
  assert (len(splits.labeled), len(splits.unlabeled)) == (3, 3)
  assert splits.labeled[0]['image'].shape[-1] == 1
  paths = sorted((tmp_path / 'labeled/images').iterdir())
  suffixed = [f'scan_{number:04d}_seg' for number in range(3)]
  assert len(volume_channels.group_files(paths, suffixed)) == 3
  assert len(volume_channels.group_files(paths, ['scan'])) == 1


def test_other_numbers_of_channels_are_refused(tmp_path):
  write_set(tmp_path, 'files')
  write_image(tmp_path / 'more', 'n', case(5, 1)[0], 'axis')
  with pytest.raises(UserError, match=r'n\.nii\.gz has 1 channel and .*c\d_0000\.nii\.gz has 2'):
    load(tmp_path, unlabeled=tmp_path / 'more')


def test_channels_on_other_grids_are_refused(tmp_path):
  write_set(tmp_path, 'files')
  moved = np.eye(4)
  moved[0, 3] = 5
  path = tmp_path / 'labeled/images/c0_0001.nii.gz'
  for voxels, affine in ((case(0, 2)[0][..., 1], moved), (case(0, 2)[0][1:, :, :, 1], np.eye(4))):
    save(path, voxels, affine)
    with pytest.raises(UserError, match=r'c0_0001\.nii\.gz .* not lie on the grid of c0_0000'):
      load(tmp_path)


def test_one_window_is_for_all_channels_and_a_list_for_each():
  voxels, _ = case(0, 2)
  volume = nifti.Volume(voxels, (1.0, 1.0, 1.0), None)
  both = VolumePreprocessing(window=(0.0, 2.0), clip=True)
  each = VolumePreprocessing(window=((0.0, 1.0), (0.0, 10.0)), clip=True)
  for preprocessing, highs in ((both, (2, 2)), (each, (1, 10))):
    preprocessing.check()
    image = preprocessing.image(volume, preprocessing.placement(volume))
    for c, high in enumerate(highs):
      expected = np.clip(voxels[..., c] / high, 0, 1).T
      np.testing.assert_allclose(image[..., c], expected, atol=1e-6)
  three = VolumePreprocessing(window=((0.0, 1.0),) * 3)
  with pytest.raises(UserError, match=r'data\.window has 3 pairs but the volumes have 2 channels'):
    three.image(volume, three.placement(volume))
  with pytest.raises(UserError, match=r'data\.window=\(3\.0, 1\.0\) is not a pair'):
    VolumePreprocessing(window=((0.0, 1.0), (3.0, 1.0))).check()


def test_a_voxel_is_foreground_where_any_channel_is():
  voxels = np.zeros((*SHAPE, 2), np.float32)
  voxels[1, 2, 3, 0] = 1
  voxels[4, 2, 3, 1] = 1
  preprocessing = VolumePreprocessing(foreground_threshold=0.5)
  placement = preprocessing.placement(nifti.Volume(voxels, (1.0, 1.0, 1.0), None))
  assert placement.box == ((1, 5), (2, 3), (3, 4))


def bright(images):
  """A network that calls class 1 what is bright in the last channel."""
  dark = (np.asarray(images)[..., -1:] < 0.6).astype(np.float32)
  return np.concatenate([dark, 1 - dark], -1)


@pytest.mark.parametrize('slices', [False, True])
@pytest.mark.parametrize('how', ['files', 'fourth axis'])
def test_new_volumes_of_the_same_form_are_predicted(tmp_path, how, slices):
  write_set(tmp_path, how)
  stats = dataset_stats.compute_stats(load(tmp_path, slices=slices))
  for seed in (7, 8):
    write_image(tmp_path / 'new', f'n{seed}', case(seed, 2)[0], how)
  write_image(tmp_path / 'new', 'other', case(7, 1)[0], 'axis')
  write_image(tmp_path / 'new', 'three', case(7, 3)[0], 'files')
  (tmp_path / 'new' / 'three_0000.nii.gz').unlink()
  windows = WindowSettings((6, 8, 9))
  with open_folder(tmp_path / 'out', tmp_path / 'new', Origin('run', 'network', {})) as out:
    task = write_predictions.Volumes(stats, windows)
    refused = write_predictions.write(bright, task, tmp_path / 'new', out)
  assert sorted(path.name for path in (tmp_path / 'out/masks').iterdir()) == [
    'n7.nii.gz',
    'n8.nii.gz',
  ]
  for seed in (7, 8):
    ids, _ = nifti.read_labels(tmp_path / f'out/masks/n{seed}.nii.gz')
    np.testing.assert_array_equal(ids, case(seed, 2)[1])
  assert len(refused) == 2
  assert 'other.nii.gz has 1 channel (1 file) but the run learned from 2' in refused[0]
  assert 'three_0000 is missing beside three_0002' in refused[1]


def test_a_volume_to_learn_from_outside_of_the_window_is_refused(tmp_path):
  write_set(tmp_path, 'fourth axis', channels=1)
  (path,) = (tmp_path / 'labeled' / 'images').glob('*1.nii.gz')
  image = nibabel.load(path)
  nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj) + 15000, image.affine), path)
  with pytest.raises(UserError, match=r'1\.nii\.gz: its values .* do not fit the window -1 to 3'):
    load(tmp_path, window=(-1.0, 3.0))


def test_a_volume_outside_of_the_window_is_doubted(tmp_path):
  write_set(tmp_path, 'fourth axis', channels=1)
  stats = dataset_stats.compute_stats(load(tmp_path, window=(-1.0, 3.0)))
  save(tmp_path / 'new' / 'a.nii.gz', case(0, 1)[0][..., 0])
  _, doubts = volume_channels.read_new_volume([tmp_path / 'new' / 'a.nii.gz'], stats)
  assert doubts == []
  save(tmp_path / 'new' / 'a.nii.gz', case(0, 1)[0][..., 0] / 1000)
  _, doubts = volume_channels.read_new_volume([tmp_path / 'new' / 'a.nii.gz'], stats)
  assert 'do not fit the window -1 to 3' in doubts[0]
