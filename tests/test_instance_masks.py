"""Files of instance masks: what is read, what is said of them, and what is refused."""

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from ssl_jax.data import modifiers
from ssl_jax.data.dataset_stats import compute_stats
from ssl_jax.data.masks import instance_masks, instances
from ssl_jax.data.selection import fingerprint
from ssl_jax.datasets import bbbc039, dsb2018, folder, nifti
from ssl_jax.errors import UserError
from ssl_jax.io.masks import read_mask

PLACES = [((20, 20), 9), ((20, 40), 10), ((46, 30), 7)]


def ids_of(shift=0, size=(64, 64)):
  """Three discs: the first two touch."""
  rows, columns = np.indices(size)
  ids = np.zeros(size, np.uint16)
  for number, ((row, column), radius) in enumerate(PLACES, start=1):
    ids[(rows - row - shift) ** 2 + (columns - column) ** 2 <= radius**2] = number
  return ids


def write(root, ids, name='a', mask_suffix='.png', masks='masks'):
  for kind in ('images', masks):
    (root / kind).mkdir(parents=True, exist_ok=True)
  pixels = np.where(ids > 0, 200, 20) + np.random.default_rng(0).integers(0, 20, ids.shape[:2])
  Image.fromarray(pixels.astype(np.uint8)).save(root / 'images' / f'{name}.png')
  path = root / masks / f'{name}{mask_suffix}'
  tifffile.imwrite(path, ids) if mask_suffix == '.tif' else Image.fromarray(ids).save(path)
  return path


def load(root, **fields):
  return folder.load(labeled=root, instances=True, test_fraction=0.5, **fields)


@pytest.mark.parametrize(
  ('suffix', 'kind', 'ids'),
  [
    ('.png', np.uint8, (1, 2, 3)),
    ('.png', np.uint8, (5, 254, 255)),
    ('.png', np.uint16, (7, 300, 65_535)),
    ('.tif', np.uint32, (1, 2**24 + 1, 2**31 + 5)),
    ('.tif', np.int32, (10, 20, 30)),
    ('.tif', np.float32, (1, 2, 3)),
  ],
)
def test_id_masks_of_all_kinds_become_three_classes(tmp_path, suffix, kind, ids):
  values = np.array((0, *ids))
  for number in range(2):
    write(tmp_path, values[ids_of(number)].astype(kind), f'im{number}', suffix)
  splits = load(tmp_path)
  assert splits.classes == ('background', 'body', 'border')
  for source in (splits.labeled, splits.test):
    record = source[0]
    truth = ids_of(int(record['name'][-1]))
    np.testing.assert_array_equal(record['instances'], truth)
    assert record['instances'].dtype == np.uint16
    np.testing.assert_array_equal(record['label'], instances.to_classes(truth))
  assert splits.notes[0].startswith('masks hold 6 instances')
  ignored = any('255, which is taken for an id' in note for note in splits.notes)
  assert not ignored


def test_an_id_255_that_may_have_meant_ignore_is_told(tmp_path):
  for number in range(2):
    write(tmp_path, np.array([0, 1, 2, 255], np.uint8)[ids_of(number)], f'im{number}')
  assert any('holds 255, which is taken for an id' in note for note in load(tmp_path).notes)


def test_masks_of_one_value_are_taken_apart_and_it_is_said(tmp_path):
  for number in range(2):
    write(tmp_path, ((ids_of(number) > 0) * 255).astype(np.uint8), f'im{number}')
  splits = load(tmp_path)
  # The two that touch are one.
  assert splits.labeled[0]['instances'].max() == 2
  assert 'each of 4 connected regions is taken for an instance' in splits.notes[0]


def test_ids_in_several_pieces_are_told(tmp_path):
  for number in range(2):
    ids = ids_of(number)
    ids[60:63, 60:63] = 1
    write(tmp_path, ids, f'im{number}')
  splits = load(tmp_path)
  assert '6 ids are in 8 connected pieces' in splits.notes[1]
  assert splits.labeled[0]['instances'].max() == 3


def test_masks_of_several_planes_are_refused(tmp_path):
  path = tmp_path / 'planes.tif'
  tifffile.imwrite(path, np.stack([ids_of(), ids_of(9)]))
  with pytest.raises(UserError, match=r'3 axes \(2, 64, 64\): .* objects that overlap cannot'):
    instance_masks.read_ids(path)
  pixels = np.stack([ids_of(shift) for shift in (0, 4, 9)], -1).astype(np.uint8)
  Image.fromarray(pixels).save(tmp_path / 'colors.png')
  with pytest.raises(UserError, match=r'3 channels that differ: .* objects that overlap'):
    instance_masks.read_ids(tmp_path / 'colors.png')


def test_what_cannot_be_is_refused(tmp_path):
  for number in range(2):
    write(tmp_path, ids_of(number), f'im{number}')
  with pytest.raises(UserError, match=r'data.classes=3 cannot be with data.instances=True'):
    load(tmp_path, classes=3)
  with pytest.raises(UserError, match=r'data.min_size=0 is not at least 1'):
    load(tmp_path, min_size=0)
  tifffile.imwrite(tmp_path / 'negative.tif', -ids_of().astype(np.int16))
  with pytest.raises(UserError, match='holds the negative id -3'):
    instance_masks.read_ids(tmp_path / 'negative.tif')
  Image.fromarray(ids_of()[:50]).save(tmp_path / 'masks' / 'im1.png')
  with pytest.raises(UserError, match=r'im1.png is 50 x 64 pixels but its image is 64 x 64'):
    load(tmp_path)
  for number in range(2):
    write(tmp_path, np.zeros((64, 64), np.uint8), f'im{number}')
  with pytest.raises(UserError, match='No mask holds an instance'):
    load(tmp_path)


def test_the_run_remembers_the_smallest_instance(tmp_path):
  for number in range(2):
    write(tmp_path, ids_of(number), f'im{number}')
  splits = load(tmp_path)
  smallest = int((ids_of() == 3).sum())
  assert splits.instances['min_size'] == pytest.approx(smallest / 4, rel=0.2)
  assert any('are dropped' in note for note in splits.notes)
  stats = compute_stats(load(tmp_path, min_size=11))
  assert stats.instances == {'min_size': 11.0}
  other = folder.load(labeled=tmp_path, test_fraction=0.5, classes=4)
  assert other.instances is None
  assert compute_stats(other).fingerprint != stats.fingerprint


def test_smaller_images_have_borders_of_their_own(tmp_path):
  for number in range(2):
    write(tmp_path, ids_of(number), f'im{number}')
  splits = load(tmp_path, min_size=40)
  half = modifiers.downscale(splits, 0.5)
  record = half.test[0]
  assert record['label'].shape == record['instances'].shape == (32, 32)
  np.testing.assert_array_equal(record['label'], instances.to_classes(record['instances']))
  assert half.instances == {'min_size': 10.0}
  with pytest.raises(UserError, match=r'data.drop_instances is for masks of classes'):
    modifiers.drop_instances(splits, 0.5)


def test_self_configuration_measures_instances_not_bodies(tmp_path):
  for number in range(2):
    write(tmp_path, ids_of(number), f'im{number}')
  body, border = fingerprint.compute_fingerprint(load(tmp_path)).classes
  assert (body.name, border.name) == ('body', 'border')
  assert body.objects == 3
  assert body.diameter == pytest.approx(18, abs=2)
  assert border.objects == 0
  assert border.share > 0


@pytest.mark.parametrize('module', [bbbc039, dsb2018])
def test_published_sets_have_ids_or_colors(tmp_path, module):
  name = module.__name__.rpartition('.')[2]
  root = tmp_path / name
  for number in range(6):
    ids = ids_of(number)
    write(root, ids, f'im{number}', masks='instances')
    # As BBBC039 is published: the first channel tells touching objects apart, and no others.
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[..., 0] = np.array([0, 10, 20, 10])[ids]
    (root / 'masks').mkdir(exist_ok=True)
    Image.fromarray(rgba).save(root / 'masks' / f'im{number}.png')
  splits = module.load(root=tmp_path, labeled=2, instances=True)
  assert splits.classes == instances.CLASSES
  assert len(splits.labeled) == 2
  assert len(splits.test) == 2
  known = [splits.test[i] for i in range(2)]
  for path in (root / 'instances').iterdir():
    path.unlink()
  (root / 'instances').rmdir()
  again = module.load(root=tmp_path, labeled=2, instances=True)
  for i in range(2):
    # Numbered in another order.
    np.testing.assert_array_equal(again.test[i]['label'], known[i]['label'])
    assert again.test[i]['instances'].max() == known[i]['instances'].max() == 3
  assert module.load(root=tmp_path, labeled=2).classes == ('background', 'nucleus')


def balls(shift=0):
  """Two balls that touch, with large ids, in a volume with voxels of 1 x 1 x 2 mm."""
  grid = np.indices((30, 24, 12))
  ids = np.zeros(grid.shape[1:], np.int32)
  for value, x in ((2**24 + 1, 8), (70_000, 20)):
    center = (x, 12 + shift, 6)
    distance = sum((grid[i] - center[i]) ** 2 * (1, 1, 4)[i] for i in range(3))
    ids[(distance <= 36) & (ids == 0)] = value
  return ids


def write_volumes(root, count=3, **images):
  for kind in ('images', 'masks'):
    (root / kind).mkdir(parents=True, exist_ok=True)
  for number in range(count):
    ids = balls(number - 1)
    voxels = np.where(ids > 0, 100, 10) + np.random.default_rng(number).normal(0, 2, ids.shape)
    for kind, array in (('images', voxels.astype(np.float32)), ('masks', ids)):
      # The file's first axis runs to the left.
      image = nibabel.Nifti1Image(array[::-1], np.diag([-1.0, 1, 2, 1]))
      nibabel.save(image, root / kind / f'v{number}.nii.gz')


@pytest.mark.parametrize('slices', [False, True])
def test_volumes_of_ids(tmp_path, slices):
  write_volumes(tmp_path)
  splits = nifti.load(
    labeled=tmp_path, instances=True, test_fraction=0.34, cache=tmp_path / 'cache', slices=slices
  )
  assert splits.classes == instances.CLASSES
  record = splits.test[0]
  number = int(record['name'][1:])
  ids = instances.compact(balls(number - 1))
  np.testing.assert_array_equal(record['instances'], ids.T)
  np.testing.assert_array_equal(record['label'], instances.to_classes(ids.T))
  assert splits.instances['min_size'] == pytest.approx((ids == 1).sum() / 4, rel=0.1)
  assert 'instances' not in (splits.unlabeled or [{}])[0]
  # Masks of the same files that are read as classes have another place in the cache.
  with pytest.raises(UserError):
    nifti.load(labeled=tmp_path, cache=tmp_path / 'cache')


def test_volumes_of_overlapping_masks_are_refused(tmp_path):
  path = tmp_path / 'mask.nii.gz'
  nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6, 2), np.uint8), np.eye(4)), path)
  with pytest.raises(UserError, match=r'shape \(4, 5, 6, 2\): .* objects that overlap'):
    instance_masks.read_volume_ids(path)
  nibabel.save(nibabel.Nifti1Image(np.full((4, 5, 6), 0.5, np.float32), np.eye(4)), path)
  with pytest.raises(UserError, match='smooth borders'):
    instance_masks.read_volume_ids(path)


def test_ids_are_the_stored_numbers(tmp_path):
  path = write(tmp_path, ids_of(), mask_suffix='.tif')
  np.testing.assert_array_equal(read_mask(path), instance_masks.read_ids(path))
