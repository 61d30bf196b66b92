"""Two folders of your own images (folder.py, _pairs.py): what is found is said, or refused."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from ssl_jax.datasets import folder
from ssl_jax.errors import UserError
from ssl_jax.types import IGNORE

SIZES = [(12, 10), (16, 16), (9, 20), (12, 12)]


def write(path, array):
  path.parent.mkdir(parents=True, exist_ok=True)
  tifffile.imwrite(path, array) if path.suffix == '.tif' else Image.fromarray(array).save(path)
  return path


def picture(i, channels=3, dtype=np.uint8):
  shape = SIZES[i % len(SIZES)] + ((3,) if channels == 3 else ())
  return np.random.default_rng(i).integers(0, np.iinfo(dtype).max, shape, dtype)


def mask(i, values):
  """A mask of the size of picture i that holds each of the values in many places."""
  values = np.array(values)
  shape = SIZES[i % len(SIZES)]
  return values[np.arange(shape[0] * shape[1]).reshape(shape) % len(values)].astype(
    np.uint8 if values.max() < 256 else np.uint16
  )


def make(root, values=(0, 255), count=4, kind='png', suffix='', **options):
  """A folder with images/ and masks/ of `count` pairs of several sizes."""
  for i in range(count):
    write(root / 'images' / f'im{i}.{kind}', picture(i, **options))
    write(root / 'masks' / f'im{i}{suffix}.png', mask(i, values))
  return root


def names(source):
  return [source[i]['name'] for i in range(len(source))]


def test_one_folder_is_enough(tmp_path):
  splits = folder.load(labeled=make(tmp_path / 'a'))
  assert len(splits.labeled) == 3
  assert len(splits.test) == 1
  assert splits.unlabeled is splits.val is splits.intensity is None
  assert splits.classes == ('background', 'foreground')
  record = splits.labeled[0]
  i = int(record['name'][-1])
  np.testing.assert_array_equal(record['image'], picture(i))
  np.testing.assert_array_equal(record['label'], mask(i, [0, 1]))
  assert record['label'].dtype == np.uint8
  assert any('0 and 255: read as background' in n for n in splits.notes)
  held = splits.test[0]['name']
  assert any(f'1 of 4 labeled images held out as test (draw 0: {held})' in n for n in splits.notes)


def test_all_roles_formats_and_suffixes(tmp_path):
  make(tmp_path / 'a', (0, 1, 2), kind='tif', suffix='_mask')
  make(tmp_path / 'v', (0, 1, 2), count=1, kind='bmp', suffix='-Seg')
  make(tmp_path / 't', (0, 1, 2, 255), count=2, suffix='_label')
  write(tmp_path / 'u' / 'images' / 'x.jpg', picture(7))
  roles = {role: tmp_path / role[0] for role in ('unlabeled', 'val', 'test')}
  splits = folder.load(labeled=tmp_path / 'a', **roles)
  assert [len(s) for s in splits[:4]] == [4, 1, 1, 2]
  assert names(splits.unlabeled) == ['x']
  assert 'label' not in splits.unlabeled[0]
  assert splits.classes == ('background', 'class 1', 'class 2')
  assert (splits.test[0]['label'] == IGNORE).any()
  assert folder.load(labeled=tmp_path / 'a', unlabeled=tmp_path / 'u' / 'images').unlabeled


def test_the_test_fraction_is_seeded_and_may_be_none(tmp_path):
  root = make(tmp_path / 'a', count=12)
  one, same = folder.load(labeled=root, seed=3), folder.load(labeled=root, seed=3)
  assert names(one.test) == names(same.test)
  assert len(one.test) == 3
  assert len({tuple(names(folder.load(labeled=root, seed=s).test)) for s in range(6)}) > 1
  assert not set(names(one.test)) & set(names(one.labeled))
  assert len(folder.load(labeled=root, test_fraction=0.5).test) == 6
  none = folder.load(labeled=root, test_fraction=0)
  assert none.test is None
  assert len(none.labeled) == 12
  with pytest.raises(UserError, match=r'test_fraction=1\.0 must be at least 0'):
    folder.load(labeled=root, test_fraction=1.0)
  with pytest.raises(UserError, match='holds one labeled image, too few'):
    folder.load(labeled=make(tmp_path / 'b', count=1))


def test_gray_and_rgb_become_rgb(tmp_path):
  root = make(tmp_path / 'a')
  write(root / 'images' / 'im0.png', picture(0, channels=1))
  splits = folder.load(labeled=root, test_fraction=0)
  assert splits.labeled[0]['image'].shape == (12, 10, 3)
  np.testing.assert_array_equal(splits.labeled[0]['image'][..., 2], picture(0, channels=1))
  assert any('gray ones are repeated' in n for n in splits.notes)
  gray = folder.load(labeled=make(tmp_path / 'g', channels=1))
  assert gray.labeled[0]['image'].shape[-1] == 1


def test_16_bit_becomes_float_by_a_range_of_the_training_images(tmp_path):
  root = make(tmp_path / 'a', kind='tif', channels=1, dtype=np.uint16)
  bright = np.full((12, 10), 60000, np.uint16)
  for i in range(4):
    write(root / 'images' / f'im{i}.tif', (picture(i, 1, np.uint16) // 64 + 500).astype(np.uint16))
  make(tmp_path / 't', kind='tif', channels=1, count=1)
  write(tmp_path / 't' / 'images' / 'im0.tif', bright)
  splits = folder.load(labeled=root, test=tmp_path / 't')
  low, high = splits.intensity
  assert 500 <= low < 520
  assert 1500 < high <= 1524  # the bright test image took no part
  image = splits.labeled[0]['image']
  assert image.dtype == np.float32
  raw = picture(0, 1, np.uint16) // 64 + 500.0
  np.testing.assert_allclose(image[..., 0], np.clip((raw - low) / (high - low), 0, 1), atol=1e-5)
  assert (splits.test[0]['image'] == 1).all()
  assert any('raw intensities' in n for n in splits.notes)


def test_8_and_16_bit_mixed(tmp_path):
  root = make(tmp_path / 'a', channels=1)
  write(root / 'images' / 'im3.png', picture(3, 1, np.uint16))
  splits = folder.load(labeled=root, test_fraction=0)
  np.testing.assert_allclose(splits.labeled[0]['image'][..., 0], picture(0, 1) / 255, atol=1e-6)
  assert splits.labeled[3]['image'].dtype == np.float32
  assert any('8-bit ones were divided by 255' in n for n in splits.notes)
  write(tmp_path / 'u' / 'f.tif', picture(0, 1).astype(np.float32))
  with pytest.raises(UserError, match=r'im3\.png is 16-bit and .*f\.tif is floating point'):
    folder.load(labeled=root, unlabeled=tmp_path / 'u')
  with pytest.raises(UserError, match=r'im3\.png is not 8-bit but the training images are'):
    folder.load(labeled=make(tmp_path / 'b', channels=1), test=root)


def test_copies_of_test_images_leave_training_and_are_named(tmp_path):
  root, test = make(tmp_path / 'a', count=4), make(tmp_path / 't', count=1)
  (tmp_path / 'u').mkdir()
  for i, name in ((0, 'copy'), (1, 'own')):
    (tmp_path / 'u' / f'{name}.png').write_bytes((root / f'images/im{i}.png').read_bytes())
  splits = folder.load(labeled=root, test=test, unlabeled=tmp_path / 'u')
  assert names(splits.labeled) == ['im1', 'im2', 'im3']
  assert names(splits.unlabeled) == ['own']
  assert 'dropped from labeled, being copies of test or val images: im0' in splits.notes
  assert 'dropped from unlabeled, being copies of test or val images: copy' in splits.notes
  with pytest.raises(UserError, match='Every labeled image is a copy'):
    folder.load(labeled=test, test=root)
  assert folder.load(labeled=root, val=test, test=test).val is None


def test_classes_may_be_named(tmp_path):
  splits = folder.load(
    labeled=make(tmp_path, (0, 128, 255)), classes=['a', 'b', 'c'], test_fraction=0
  )
  assert splits.classes == ('a', 'b', 'c')
  np.testing.assert_array_equal(splits.labeled[0]['label'], mask(0, [0, 1, 2]))
  assert splits.notes[0] == 'mask values in increasing order: 0 = a, 128 = b, 255 = c'


def test_the_encoding_is_found_over_all_masks(tmp_path):
  root = make(tmp_path / 'a', (0, 1))
  make(tmp_path / 't', (0, 1, 7), count=1)
  with pytest.raises(UserError, match=r'0, 1, 7 \(7 is in .*t/masks/im0\.png\)'):
    folder.load(labeled=root, test=tmp_path / 't')


def test_a_few_instance_ids_are_recognized_by_their_components(tmp_path):
  root = make(tmp_path / 'a')
  for i in range(4):
    instances = np.zeros(SIZES[i], np.uint8)
    for k in range(6):
      instances[1 + k, 1:4] = k + 1
    write(root / 'masks' / f'im{i}.png', instances)
  with pytest.raises(UserError, match='look like instance ids, each being one connected component'):
    folder.load(labeled=root)
  assert len(folder.load(labeled=root, classes=7).classes) == 7


def test_broken_pairs_are_named(tmp_path):
  with pytest.raises(UserError, match=r'nowhere \(labeled\) does not exist'):
    folder.load(labeled=tmp_path / 'nowhere')
  (tmp_path / 'a' / 'images').mkdir(parents=True)
  with pytest.raises(UserError, match=r'a \(labeled\) has no folder masks/ in it'):
    folder.load(labeled=tmp_path / 'a')
  root = make(tmp_path / 'b')
  wrong = write(root / 'masks' / 'im1.png', mask(0, [0, 255]))
  with pytest.raises(
    UserError, match=r'im1\.png is 12 x 10 pixels but its image im1\.png is 16 x 16'
  ):
    folder.load(labeled=root)
  wrong.unlink()
  with pytest.raises(UserError, match=r'images/im1\.png has no mask in .*add one called im1\.png'):
    folder.load(labeled=root)
  write(wrong, mask(1, [0, 255]))
  extra = write(root / 'masks' / 'other.png', mask(1, [0, 255]))
  with pytest.raises(UserError, match=r'masks/other\.png has no image of that name'):
    folder.load(labeled=root)
  extra.rename(root / 'masks' / 'im1_mask.png')
  with pytest.raises(UserError, match=r'are both masks of im1'):
    folder.load(labeled=root)
  write(root / 'images' / 'im1.bmp', picture(1))
  with pytest.raises(UserError, match=r'im1\.png and im1\.bmp have the same name'):
    folder.load(labeled=root)


def test_a_broken_image_is_named_before_training(tmp_path):
  root = make(tmp_path / 'a')
  (tmp_path / 'u').mkdir()
  whole = (root / 'images/im0.png').read_bytes()
  (tmp_path / 'u' / 'cut.png').write_bytes(whole[: len(whole) // 2])
  with pytest.raises(UserError, match=r'u/cut\.png cannot be read as a PNG.*corrupt or cut short'):
    folder.load(labeled=root, unlabeled=tmp_path / 'u')


def test_images_beyond_the_cache_are_read_again(tmp_path, monkeypatch):
  root = make(tmp_path / 'a')
  monkeypatch.setattr(
    'ssl_jax.data.image_source.CACHE_BYTES', 500
  )  # the first record alone: 360 + 120 bytes
  source = folder.load(labeled=root, test_fraction=0).labeled
  first = source[0]['image']
  assert source[0]['image'] is first
  assert source[1]['image'] is not source[1]['image']
  np.testing.assert_array_equal(source[1]['image'], picture(1))
  with pytest.raises(ValueError, match='read-only'):
    first[:] = 0
  with pytest.raises(IndexError):
    source[4]


def test_the_digest_follows_images_masks_and_split(tmp_path):
  make(tmp_path)
  before = folder.load(labeled=tmp_path).digest
  assert folder.load(labeled=tmp_path).digest == before
  assert folder.load(labeled=tmp_path, test_fraction=0).digest != before
  write(tmp_path / 'masks' / 'im0.png', mask(0, (255, 0)))
  changed = folder.load(labeled=tmp_path).digest
  assert changed != before
  write(tmp_path / 'images' / 'im1.png', picture(1)[::-1])
  assert folder.load(labeled=tmp_path).digest != changed


def test_colors_and_values_have_class_ids(tmp_path):
  root = make(tmp_path / 'a', (0, 205, 420))
  for i in range(4):
    write(root / 'masks' / f'im{i}.png', mask(i, (0, 205, 420)))
  with pytest.raises(UserError, match=r"above 255.*--config\.data\.values='205:1, 420:2'"):
    folder.load(labeled=root)
  splits = folder.load(labeled=root, values='205:1, 420:2', test_fraction=0)
  np.testing.assert_array_equal(splits.labeled[1]['label'], mask(1, [0, 1, 2]))
  colors = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)
  for i in range(4):
    write(root / 'masks' / f'im{i}.png', colors[mask(i, [0, 1, 2])])
  with pytest.raises(UserError, match=r'is a colored picture.*#0000ff'):
    folder.load(labeled=root)
  named = {'255,0,0': 'nucleus', '#0000ff': 'cytoplasm'}
  splits = folder.load(labeled=root, values=named, test_fraction=0)
  assert splits.classes == ('background', 'nucleus', 'cytoplasm')
  np.testing.assert_array_equal(splits.labeled[1]['label'], mask(1, [0, 1, 2]))


def test_boolean_tiffs_are_read_as_they_are_stored(tmp_path):
  root = make(tmp_path / 'a')
  for i in range(4):
    (root / 'masks' / f'im{i}.png').unlink()
    tifffile.imwrite(root / 'masks' / f'im{i}.tif', mask(i, [0, 1]).astype(bool))
  splits = folder.load(labeled=root, test_fraction=0)
  np.testing.assert_array_equal(splits.labeled[0]['label'], mask(0, [0, 1]))
  assert splits.classes == ('background', 'foreground')
  assert any('white is zero' in note and '4 masks' in note for note in splits.notes)


def test_a_turned_image_is_named_where_sizes_differ(tmp_path):
  root = make(tmp_path / 'a')
  write(root / 'masks' / 'im0.png', mask(0, [0, 255]).T)
  with pytest.raises(
    UserError, match=r'is 10 x 12 pixels but its image im0\.png is 12 x 10 .*EXIF'
  ):
    folder.load(labeled=root)


def test_names_of_an_old_zip_file_are_worked_with(tmp_path):
  root = make(tmp_path / 'a')
  for kind in ('images', 'masks'):
    for i in range(4):
      old = root / kind / f'im{i}.png'
      old.rename(root / kind / f'Bl\udce4tter{i}.png')
  splits = folder.load(labeled=root, test_fraction=0)
  assert names(splits.labeled) == [f'Blätter{i}' for i in range(4)]
  write(root / 'masks' / 'Bl\udce4tter1.png', mask(1, [0]))
  splits = folder.load(labeled=root, test_fraction=0)
  ' '.join(splits.notes).encode()  # they can be printed
  assert any('Blätter1.png' in note for note in splits.notes)


def test_groups_are_on_one_side_of_every_split(tmp_path):
  root = tmp_path / 'a'
  for i in range(8):
    write(root / 'images' / f'p{i // 2}_s{i % 2}.png', picture(i))
    write(root / 'masks' / f'p{i // 2}_s{i % 2}.png', mask(i, [0, 255]))
  for i, name in enumerate(('p0_u', 'p1_u', 'p2_u', 'p3_u', 'other')):
    write(tmp_path / 'u' / f'{name}.png', picture(20 + i))
  plain = folder.load(labeled=root)
  assert any(r'names look grouped' in note and r"'^(p\d+)'" in note for note in plain.notes)
  splits = folder.load(labeled=root, unlabeled=tmp_path / 'u', group=r'^(p\d+)')
  tested = {name[:2] for name in names(splits.test)}
  assert len(splits.test) == 2
  assert len(tested) == 1
  assert not tested & {name[:2] for name in (*names(splits.labeled), *names(splits.unlabeled))}
  assert len(splits.unlabeled) == 4
  assert any('left out of unlabeled, being of groups' in note for note in splits.notes)
  assert not any('look grouped' in note for note in splits.notes)
  # The same from a table, and with a test folder whose patients were in training.
  table = tmp_path / 'groups.csv'
  lines = [f'p{i // 2}_s{i % 2},m{i // 2}' for i in range(8)]
  table.write_text('\n'.join(['name,group', *lines, 't,m3']) + '\n')
  write(tmp_path / 't' / 'images' / 't.png', picture(30))
  write(tmp_path / 't' / 'masks' / 't.png', mask(30, [0, 255]))
  splits = folder.load(labeled=root, test=tmp_path / 't', group=str(table))
  assert {name[:2] for name in names(splits.labeled)} == {'p0', 'p1', 'p2'}
  assert splits.draw.groups == {'t': 'm3'}
  with pytest.raises(UserError, match='puts every labeled image into a group of test'):
    folder.load(labeled=root, test=root, group=r'^(p\d+)')


def test_fewer_labels_are_among_more_and_the_others_become_unlabeled(tmp_path):
  root = make(tmp_path / 'a', count=8)
  chosen = {}
  for asked in (1, 0.5, 6, None):
    splits = folder.load(labeled=root, num_labeled=asked, draw=1)
    chosen[asked] = set(names(splits.labeled))
    hidden = set() if splits.unlabeled is None else set(names(splits.unlabeled))
    # The test is the same for all, and nothing is lost.
    assert chosen[asked] | hidden | set(names(splits.test)) == {f'im{i}' for i in range(8)}
    assert not chosen[asked] & hidden
  assert [len(of) for of in chosen.values()] == [1, 3, 6, 6]
  assert chosen[1] < chosen[0.5] < chosen[6] == chosen[None]
  assert 'label' not in folder.load(labeled=root, num_labeled=1).unlabeled[0]
  others = [set(names(folder.load(labeled=root, num_labeled=3, draw=d).labeled)) for d in range(4)]
  assert len({frozenset(of) for of in others}) > 1


def test_fewer_labels_count_groups_and_say_how_many_there_are(tmp_path):
  root = make(tmp_path / 'a', count=6)
  table = tmp_path / 'g.csv'
  rows = [f'im{i},p{i // 2}' for i in range(6)]
  table.write_text('\n'.join(['name,group', *rows]))
  splits = folder.load(labeled=root, num_labeled=1, test_fraction=0, group=str(table))
  first, second = sorted(int(name[2]) for name in names(splits.labeled))
  assert first // 2 == second // 2
  with pytest.raises(UserError, match=r'num_labeled=9 is not in 1\.\.6, the images with masks'):
    folder.load(labeled=root, num_labeled=9, test_fraction=0)


def _others(root):
  """A folder of other images than `make` has, as copies would leave training."""
  for i in range(2):
    write(root / 'images' / f'other{i}.png', 255 - picture(i))
    write(root / 'masks' / f'other{i}.png', mask(i, (0, 255)))
  return root


def test_drawn_labels_with_a_test_folder_depend_on_their_pool(tmp_path):
  options = dict(labeled=make(tmp_path / 'a', count=4), test=_others(tmp_path / 'b'))
  drawn = folder.load(**options, num_labeled=1).draw
  # One of four: n / (N - n).
  assert drawn.overlap == pytest.approx(1 / 3)
  assert folder.load(**options).draw.overlap is None
