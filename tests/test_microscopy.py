"""BBBC039, the Cell Tracking Challenge, EM sections: published layouts, splits, margins, words."""

import numpy as np
import pytest
import tifffile
from conftest import write_sections
from PIL import Image

from ssl_jax.data import dataset_stats
from ssl_jax.datasets import bbbc039, ctc, dsb2018, em_isbi2012, em_vnc, microscopy
from ssl_jax.errors import UserError
from ssl_jax.types import IGNORE

SIZE = (20, 30)


def write(path, array):
  path.parent.mkdir(parents=True, exist_ok=True)
  tifffile.imwrite(path, array) if path.suffix == '.tif' else Image.fromarray(array).save(path)


def cells(seed, dtype=np.uint8):
  """An image and ids of two objects."""
  rng = np.random.default_rng(seed)
  ids = np.zeros(SIZE, np.uint16)
  ids[3:9, 4 : 10 + seed % 5], ids[12:18, 12:25] = 1, 2
  top = 250 if dtype == np.uint8 else 4000
  return (rng.integers(0, 50, SIZE) + (ids > 0) * (top - 50)).astype(dtype), ids


def nuclei(root, count=10):
  """BBBC039's own files: 16-bit TIFF, masks whose first channel holds ids."""
  for i in range(count):
    image, ids = cells(i, np.uint16)
    write(root / 'images' / f'n{i}.tif', image)
    rgba = np.stack(
      [ids.astype(np.uint8), *[np.zeros(SIZE, np.uint8)] * 2, ids.astype(np.uint8)], -1
    )
    write(root / 'masks' / f'n{i}.png', rgba)
  return root


def recording(root, count=9):
  """A data set of the challenge: one recording with all silver and some gold masks, one without."""
  for t in range(count):
    image, ids = cells(t)
    write(root / '01' / f't{t:03}.tif', image)
    write(root / '01_ST' / 'SEG' / f'man_seg{t:03}.tif', ids)
    if t % 4 == 0:
      write(root / '01_GT' / 'SEG' / f'man_seg{t:03}.tif', ids)
    write(root / '02' / f't{t:03}.tif', cells(t + 50)[0])
  return root


def names(source):
  return [source[i]['name'] for i in range(len(source))]


def test_bbbc039_without_lists_is_split_by_a_seed(tmp_path):
  nuclei(tmp_path)
  splits = bbbc039.load(root=tmp_path, labeled=0.5, val=1, test=3)
  assert [len(s) for s in (splits.labeled, splits.unlabeled, splits.val, splits.test)] == [
    3,
    3,
    1,
    3,
  ]
  everything = [*map(names, (splits.labeled, splits.unlabeled, splits.val, splits.test))]
  assert len({name for each in everything for name in each}) == 10
  record = splits.labeled[0]
  _, ids = cells(int(record['name'][1:]))
  np.testing.assert_array_equal(record['label'], ids > 0)
  assert 'label' not in splits.unlabeled[0]
  assert 'label' in splits.truth[0]
  assert splits.classes == ('background', 'nucleus')
  # A smaller share is a part of a larger one, and another seed draws others.
  assert names(bbbc039.load(root=tmp_path, labeled=1, val=1, test=3).labeled) == everything[0][:1]
  assert names(bbbc039.load(root=tmp_path, test=3, seed=1).test) != everything[3]


def test_bbbc039_reads_its_lists(tmp_path):
  nuclei(tmp_path / 'bbbc039')
  lists = {'training': range(6), 'validation': (6,), 'test': (7, 8)}
  for name, numbers in lists.items():
    path = tmp_path / 'bbbc039' / 'metadata' / f'{name}.txt'
    path.parent.mkdir(exist_ok=True)
    path.write_text('\n'.join(f'n{i}.png' for i in numbers) + '\n')
  splits = bbbc039.load(root=tmp_path, labeled=1.0)
  assert sorted(names(splits.labeled)) == [f'n{i}' for i in range(6)]
  assert splits.unlabeled is None
  assert (names(splits.val), names(splits.test)) == (['n6'], ['n7', 'n8'])
  path.write_text('n99.png\n')
  with pytest.raises(UserError, match='names n99, which is not in images/'):
    bbbc039.load(root=tmp_path)


def test_minimum_and_maximum_of_the_training_images_become_0_and_1(tmp_path):
  nuclei(tmp_path)
  splits = bbbc039.load(root=tmp_path, test=3)
  raw = [
    cells(int(n[1:]), np.uint16)[0] for s in (splits.labeled, splits.unlabeled) for n in names(s)
  ]
  assert splits.intensity == (np.min(raw), np.max(raw))
  stats = dataset_stats.compute_stats(splits, 'minmax')
  standardize = stats.normalization().standardize
  pixels = [standardize(s[i]['image']) for s in (splits.labeled, splits.unlabeled)
            for i in range(len(s))]  # fmt: skip
  assert (np.min(pixels), np.max(pixels)) == pytest.approx((0, 1))


def test_the_challenge_tests_on_the_last_frames(tmp_path):
  splits = ctc.load(root=recording(tmp_path), labeled=0.5, test=3, margin=2)
  assert names(splits.test) == ['01_t006', '01_t007', '01_t008']
  assert len(splits.labeled) == 3
  training = names(splits.labeled) + names(splits.unlabeled)
  assert sorted(training) == sorted(
    [f'01_t{t:03}' for t in range(6)] + [f'02_t{t:03}' for t in range(9)]
  )
  assert splits.truth is None  # nobody drew the second recording
  label = splits.test[0]['label']
  assert (label[:2] == IGNORE).all()
  assert (label[:, -2:] == IGNORE).all()
  np.testing.assert_array_equal(label[2:-2, 2:-2], (cells(6)[1] > 0)[2:-2, 2:-2])


def test_gold_masks_are_some_frames(tmp_path):
  splits = ctc.load(root=recording(tmp_path), masks='gold', labeled=1.0, test=1, margin=0)
  assert names(splits.test) == ['01_t008']
  assert sorted(names(splits.labeled)) == ['01_t000', '01_t004']
  assert len(splits.unlabeled) == 6 + 9


def test_images_with_masks_beside_them_are_recordings_too(tmp_path):
  for t in range(4):
    image, ids = cells(t)
    write(tmp_path / 'set' / 'images' / f'a_t{t}.png', image)
    write(tmp_path / 'set' / 'masks' / f'a_t{t}.png', (ids > 0).astype(np.uint8))
    write(tmp_path / 'set' / 'unlabeled' / f'b_t{t}.png', cells(t + 9)[0])
  splits = ctc.load(root=tmp_path, set='set', labeled=1, test=1, margin=0)
  assert names(splits.test) == ['a_t3']
  assert len(splits.unlabeled) == 2 + 4
  assert len(ctc.load(root=tmp_path, set='set', test=1, recordings=['a']).unlabeled) == 2


@pytest.mark.parametrize(
  ('knobs', 'says'),
  [
    (dict(root=None), 'data.root is not given; unpack'),
    (dict(masks='bronze'), "data.masks='bronze' is not one of silver, gold"),
    (dict(recordings=['07']), 'has no 07; it has 01, 02'),
    (dict(labeled=0.0), r'data.labeled=0.0 asks for 0 images, and 1\.\.6 can be given'),
    (dict(labeled=2.5), 'give 0.1 for 10 %, or a whole number'),
    (dict(test=9), r'data.test=9 asks for 9 images, and 1\.\.8 can be given'),
    (dict(recordings=['02']), 'holds no silver masks'),
  ],
)
def test_what_cannot_be_is_refused_in_a_sentence(tmp_path, knobs, says):
  recording(tmp_path)
  with pytest.raises(UserError, match=says):
    ctc.load(**dict(root=tmp_path, test=3, margin=0) | knobs)


def test_missing_and_wrong_files_are_named(tmp_path):
  nuclei(tmp_path)
  write(tmp_path / 'masks' / 'n3.png', np.zeros((5, 5), np.uint8))
  with pytest.raises(UserError, match=r'n3\.png is 5 x 5 pixels but its image is 20 x 30'):
    bbbc039.load(root=tmp_path, seed=1)
  (tmp_path / 'masks' / 'n3.png').unlink()
  with pytest.raises(UserError, match='has no mask of n3'):
    bbbc039.load(root=tmp_path)
  with pytest.raises(UserError, match=r'holds no bbbc039; unpack images\.zip'):
    bbbc039.load(root=tmp_path / 'nowhere')


def test_sections_are_split_by_depth_and_a_target_is_chosen(tmp_path):
  write_sections(tmp_path, count=8)
  found = em_vnc.load(root=tmp_path, val=1, test=2)
  names = [[source[i]['name'] for i in range(len(source))] for source in (found.val, found.test)]
  assert names == [['z05'], ['z06', 'z07']]
  assert sorted(found.labeled[i]['name'] for i in range(5)) == [f'z0{i}' for i in range(5)]
  assert [found.unlabeled[i]['name'] for i in range(len(found.unlabeled))] == ['z08']
  assert found.classes == ('background', 'mitochondrion')
  assert 0 < found.labeled[0]['label'].mean() < 0.5
  whole = em_vnc.load(root=tmp_path, target='cell', test=2)
  assert (whole.labeled[0]['label'] == 1).all()  # the discs, and what is within membranes
  every = em_vnc.load(root=tmp_path, target='all', labeled=2)
  assert len(every.classes) == 5
  assert set(np.unique(every.labeled[0]['label'])) == {0, 3}
  assert len(every.labeled) == 2
  assert len(every.unlabeled) > 1


def test_published_labels_are_read_as_classes(tmp_path):
  values = np.array([[255, 0, 32, 64], [96, 128, 159, 191], [223, 255, 0, 191]], np.uint8)
  Image.fromarray(values).save(tmp_path / 'a.png')
  np.testing.assert_array_equal(
    em_vnc.read_mask(tmp_path / 'a.png'), [[0, 1, 1, 1], [1, 1, 2, 3], [4, 0, 1, 3]]
  )
  np.testing.assert_array_equal(
    em_vnc.read_mask(tmp_path / 'a.png', 'cell'), [[1, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 1]]
  )
  Image.fromarray(values + 1).save(tmp_path / 'b.png')
  with pytest.raises(UserError, match='holds 1, which is no label'):
    em_vnc.read_mask(tmp_path / 'b.png')


def test_membranes_of_isbi_2012(tmp_path):
  """Sections by depth; masks as indices, or as published, where membranes are 0."""
  folder = tmp_path / 'em_isbi2012'
  rng = np.random.default_rng(0)
  for kind in ('images', 'masks', 'unlabeled'):
    (folder / kind).mkdir(parents=True)
  for number in range(7):
    image = rng.integers(0, 256, (16, 16), np.uint8)
    Image.fromarray(image).save(
      folder / ('images' if number < 6 else 'unlabeled') / f'{number}.png'
    )
    if number < 6:
      membrane = (np.arange(256).reshape(16, 16) < 32).astype(np.uint8)
      Image.fromarray(membrane).save(folder / 'masks' / f'{number}.png')
  found = em_isbi2012.load(root=tmp_path, labeled=2)
  assert [found.test[i]['name'] for i in range(len(found.test))] == ['4', '5']
  assert len(found.labeled) == 2
  assert len(found.unlabeled) == 3  # two without their masks, and one that has none
  assert found.labeled[0]['label'].mean() == 32 / 256
  published = np.array([[255, 0], [0, 255]], np.uint8)
  Image.fromarray(published).save(tmp_path / 'a.png')
  np.testing.assert_array_equal(em_isbi2012.read_mask(tmp_path / 'a.png'), [[0, 1], [1, 0]])
  Image.fromarray(np.array([[7, 0]], np.uint8)).save(tmp_path / 'c.png')
  with pytest.raises(UserError, match='holds 7, which is no label'):
    em_isbi2012.read_mask(tmp_path / 'c.png')
  (folder / 'masks' / '3.png').unlink()
  with pytest.raises(UserError, match='has no mask of 3'):
    em_isbi2012.load(root=tmp_path)


@pytest.mark.parametrize(
  ('knobs', 'says'),
  [
    (dict(target='nucleus'), "data.target='nucleus' is not one of all, cell"),
    (dict(test=9), 'data.test=9'),
    (dict(test=7, val=1), 'data.val=1'),
    (dict(set='em'), 'holds no em'),
  ],
)
def test_sections_that_cannot_be_split_are_refused(tmp_path, knobs, says):
  write_sections(tmp_path, count=8)
  with pytest.raises(UserError, match=says):
    em_vnc.load(root=tmp_path, **knobs)


def test_a_section_without_a_mask_is_named(tmp_path):
  write_sections(tmp_path, count=4)
  (tmp_path / 'em_vnc' / 'masks' / 'z02.png').unlink()
  with pytest.raises(UserError, match='has no mask of z02'):
    em_vnc.load(root=tmp_path)


@pytest.mark.parametrize(
  ('amount', 'count'), [(0.1, 2), (3, 3), (3.0, 3), (1, 1), (1.0, 20), (0.001, 1)]
)
def test_an_amount_is_a_number_or_a_fraction_of_the_images(amount, count):
  assert microscopy.count_images(amount, 20, 'data.labeled') == count


def test_an_amount_that_is_neither_is_refused():
  with pytest.raises(UserError, match=r'data.labeled=2.5 is neither a number nor a fraction'):
    microscopy.count_images(2.5, 20, 'data.labeled')


def test_dsb2018_draws_test_and_labels(tmp_path):
  for i in range(9):
    image, ids = cells(i)
    write(tmp_path / 'dsb2018' / 'images' / f'{i}.png', np.stack([image] * 3, -1))
    write(tmp_path / 'dsb2018' / 'masks' / f'{i}.png', (ids > 0).astype(np.uint8))
  few, more = (dsb2018.load(root=tmp_path, labeled=n, seed=1) for n in (1, 4))
  assert few.classes == ('background', 'nucleus')
  assert [len(source) for source in (few.labeled, few.unlabeled, few.test)] == [1, 5, 3]
  first = few.labeled[0]
  assert first['image'].shape == (*SIZE, 3)
  np.testing.assert_array_equal(first['label'], cells(int(first['name']))[1] > 0)
  assert first['name'] in {more.labeled[i]['name'] for i in range(4)}
  (tmp_path / 'dsb2018' / 'masks' / '3.png').unlink()
  with pytest.raises(UserError, match='has no mask of 3; put the images of stage1_train'):
    dsb2018.load(root=tmp_path)
