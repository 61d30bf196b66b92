"""White blood cells: splits, hidden truth, both mask variants, and a download that is checked."""

import csv
import hashlib
import http.server
import io
import threading
import time
from functools import partial

import numpy as np
import pytest
from PIL import Image

from ssl_jax.datasets import wbc, wbc_builder
from ssl_jax.errors import UserError
from ssl_jax.types import IGNORE

NAMES = {'labeled': ['1_cell1', '2_cell1', '254_cell1'], 'unlabeled': ['3_cell1', '37_cell1']}
NAMES['val'] = ['260_cell1', '160_cell1']
ALL = [name for names in NAMES.values() for name in names]


def cell(name, size=20):
  """An image and its class ids, the same for the same name."""
  rng = np.random.default_rng(ALL.index(name))
  return rng.integers(0, 256, (size, size, 3), np.uint8), rng.integers(0, 3, (size, size), np.uint8)


@pytest.fixture
def folder(tmp_path):
  """A root laid out as root/lisc/{images,masks} with the three lists."""
  for kind in ('images', 'masks'):
    (tmp_path / 'lisc' / kind).mkdir(parents=True)
  for split, names in NAMES.items():
    (tmp_path / 'lisc' / f'{split}.txt').write_text('\n'.join(names) + '\n')
  for name in ALL:
    image, mask = cell(name)
    Image.fromarray(image).save(tmp_path / 'lisc' / 'images' / f'{name}.bmp')
    Image.fromarray(mask).save(tmp_path / 'lisc' / 'masks' / f'{name}.png')
  return tmp_path


def names(source):
  return [source[i]['name'] for i in range(len(source))]


def test_the_digest_follows_files_and_choices(folder):
  before = wbc.load(set='lisc', root=folder).digest
  assert wbc.load(set='lisc', root=folder).digest == before
  assert wbc.load(set='lisc', root=folder, masks='authors').digest != before
  path = folder / 'lisc' / 'masks' / '3_cell1.png'
  Image.fromarray(cell('3_cell1')[1][::-1]).save(path)
  assert wbc.load(set='lisc', root=folder).digest != before


def test_labels_are_drawn_from_all_training_images_and_nest(folder):
  """Of the training images two copies of test images are dropped: 254_cell1 and 37_cell1."""
  training = {'1_cell1', '2_cell1', '3_cell1'}
  drawn = set()
  for seed in range(8):
    few, more = (wbc.load(set='lisc', root=folder, labeled=n, seed=seed) for n in (1, 2))
    assert set(names(few.labeled)) < set(names(more.labeled))
    assert set(names(few.labeled)) | set(names(few.unlabeled)) == training
    assert names(few.test) == NAMES['val']
    drawn |= set(names(few.labeled))
  assert drawn == training
  whole = wbc.load(set='lisc', root=folder, labeled=1.0, seed=0)
  assert set(names(whole.labeled)) == training
  assert whole.unlabeled is None


def test_the_papers_lists_and_files_agree():
  sizes = {'zheng1': (60, 180, 60), 'zheng2': (20, 60, 20), 'lisc': (55, 166, 56)}
  for set, expected in sizes.items():
    splits, files = wbc_builder.splits(set), wbc_builder.raw_files(set)
    assert tuple(map(len, splits.values())) == expected
    flat = [name for names in splits.values() for name in names]
    assert len(flat) == len(frozenset(flat))
    raw = [path for name in flat for path in wbc_builder.raw_paths(set, name).values()]
    assert frozenset(raw) <= frozenset(files)
    for train, val in wbc.DUPLICATES[set].items():
      assert val in splits['val']
      assert train in splits['labeled'] + splits['unlabeled']
  url = wbc_builder.raw_files('zheng1')['Dataset 1/001.bmp'].url
  assert url.startswith('https://raw.githubusercontent.com/zxaoyou/segmentation_WBC/fa9c01622f')
  assert url.endswith('767d/Dataset%201/001.bmp')


def test_twins_of_test_images_leave_training_and_are_named(folder):
  splits = wbc.load(set='lisc', root=folder)
  assert names(splits.labeled) == ['1_cell1', '2_cell1']
  assert names(splits.unlabeled) == ['3_cell1']
  assert names(splits.test) == NAMES['val']
  assert splits.val is None
  assert any('254_cell1 (test 260_cell1), 37_cell1 (test 160_cell1)' in n for n in splits.notes)
  kept = wbc.load(set='lisc', root=folder / 'lisc', duplicates='keep')
  assert names(kept.labeled) == NAMES['labeled']
  assert names(kept.unlabeled) == NAMES['unlabeled']


def test_unlabeled_records_hold_no_truth(folder):
  splits = wbc.load(set='lisc', root=folder)
  assert splits.unlabeled[0].keys() == {'image', 'name'}
  assert splits.labeled[0].keys() == {'image', 'name', 'label'}
  np.testing.assert_array_equal(splits.unlabeled[0]['image'], cell('3_cell1')[0])


def test_both_mask_variants(folder):
  _, mask = cell('1_cell1')
  as_is = wbc.load(set='lisc', root=folder, masks='authors').labeled[0]['label']
  np.testing.assert_array_equal(as_is, mask)
  aligned = wbc.load(set='lisc', root=folder).labeled[0]['label']
  np.testing.assert_array_equal(aligned[4:, 4:], mask[:-4, :-4])
  assert (aligned[:4] == IGNORE).all() and (aligned[:, :4] == IGNORE).all()  # noqa: PT018


def test_a_smaller_mask_lies_at_the_top_left_and_the_rest_is_ignored():
  canvas = wbc.place_mask(np.ones((3, 4), np.uint8), (6, 6), 0)
  assert (canvas[:3, :4] == 1).all()
  assert (canvas == 1).sum() == 12
  assert (canvas == IGNORE).sum() == 24
  assert (wbc.place_mask(np.ones((3, 4), np.uint8), (6, 6), 2)[2:5, 2:6] == 1).all()


def test_counts_take_the_first_names(folder):
  splits = wbc.load(
    set='lisc', root=folder, duplicates='keep', labeled=3, unlabeled=1, val=1, test=1
  )
  assert names(splits.labeled) == ['1_cell1', '2_cell1']
  assert names(splits.val) == ['254_cell1']
  assert names(splits.unlabeled) == ['3_cell1']
  assert names(splits.test) == ['260_cell1']
  assert wbc.load(set='lisc', root=folder, unlabeled=0).unlabeled is None


@pytest.mark.parametrize(
  ('knobs', 'sentence'),
  [
    ({'set': 'lisk'}, r"data.set='lisk' is not known; choose one of zheng1, zheng2, lisc"),
    ({'masks': 'both'}, r"masks='both' is not known; choose one of aligned, authors"),
    ({'duplicates': 'no'}, r"duplicates='no' is not known"),
    ({'labeled': 9}, r'labeled=9 asks for 9 images, and 1\.\.2'),
    ({'test': 0}, r'test=0 must lie in 1\.\.2'),
    ({'val': 2}, r'val=2 must leave at least 1 of the 2 labeled'),
  ],
)
def test_wrong_knobs_are_refused(folder, knobs, sentence):
  with pytest.raises(UserError, match=sentence):
    wbc.load(**{'root': folder, 'set': 'lisc'} | knobs)


def test_wrong_folders_are_refused(folder):
  with pytest.raises(UserError, match=r'\(data\.root\) does not exist'):
    wbc.load(root=folder / 'nowhere')
  with pytest.raises(UserError, match=r'holds lisc, not zheng1'):
    wbc.load(set='zheng1', root=folder / 'lisc')
  Image.fromarray(np.full((20, 20), 128, np.uint8)).save(folder / 'lisc/masks/1_cell1.png')
  with pytest.raises(UserError, match=r'1_cell1\.png holds 128; class ids are 0, 1 and 2'):
    wbc.load(root=folder).labeled[0]
  (folder / 'lisc/images/3_cell1.bmp').unlink()
  with pytest.raises(UserError, match=r'3_cell1\.bmp is missing though a list names it'):
    wbc.load(root=folder)
  (folder / 'lisc/labeled.txt').unlink()
  with pytest.raises(UserError, match=r'labeled\.txt cannot be read'):
    wbc.load(root=folder)


class Handler(http.server.SimpleHTTPRequestHandler):
  asked: list[str]

  def do_GET(self):
    self.asked.append(self.path)
    super().do_GET()

  def log_message(self, *args):
    pass


@pytest.fixture
def server(tmp_path, monkeypatch):
  """A made-up release with its own manifest, served from this machine; yields (folder, paths)."""
  served = tmp_path / 'served'
  tables = tmp_path / 'tables'
  tables.mkdir()
  asked = []
  with (tables / 'wbc_splits.tsv').open('w', newline='') as file:
    rows = [('lisc', split, name) for split, names in NAMES.items() for name in names]
    csv.writer(file, delimiter='\t').writerows([('set', 'split', 'name'), *rows])
  rows = [('repository', 'commit', 'path', 'bytes', 'sha256')]
  for name in ALL:
    image, mask = cell(name)
    source = np.array([0, 128, 255], np.uint8)[mask]
    source[0, 0] = 7  # a stray value, which is background
    for part, path in wbc_builder.raw_paths('lisc', name).items():
      buffer = io.BytesIO()
      Image.fromarray(image if part == 'image' else source).save(buffer, 'BMP')
      data = buffer.getvalue()
      file = served / 'Vinh2608/ST-PlusPlus/abc' / path
      file.parent.mkdir(parents=True, exist_ok=True)
      file.write_bytes(data)
      digest = hashlib.sha256(data).hexdigest()
      rows.append(('Vinh2608/ST-PlusPlus', 'abc', path, len(data), digest))
  with (tables / 'wbc_files.tsv').open('w', newline='') as file:
    csv.writer(file, delimiter='\t').writerows(rows)
  handler = type('Asked', (Handler,), {'asked': asked})
  daemon = http.server.ThreadingHTTPServer(('127.0.0.1', 0), partial(handler, directory=served))
  threading.Thread(target=daemon.serve_forever, args=(0.02,), daemon=True).start()
  monkeypatch.setenv(wbc_builder.MIRROR, f'http://127.0.0.1:{daemon.server_port}')
  monkeypatch.setenv('NO_PROXY', '127.0.0.1')
  monkeypatch.setenv('no_proxy', '127.0.0.1')
  monkeypatch.setattr(wbc_builder, 'TABLES', tables)
  yield served, asked
  seen = -1
  while seen != len(asked):  # a failed download leaves others under way, which would try for long
    seen = len(asked)
    time.sleep(0.1)
  daemon.shutdown()
  daemon.server_close()


def test_download_prepare_and_load_again_without_the_server(server, tmp_path):
  _, asked = server
  root = tmp_path / 'tfds'
  root.mkdir()
  splits = wbc.load(set='lisc', root=root, masks='authors', duplicates='keep')
  assert names(splits.labeled) == NAMES['labeled']
  assert names(splits.test) == NAMES['val']
  image, mask = cell('2_cell1')
  mask[0, 0] = 0
  np.testing.assert_array_equal(splits.labeled[1]['image'], image)
  np.testing.assert_array_equal(splits.labeled[1]['label'], mask)
  assert len(frozenset(asked)) == 2 * len(ALL)
  asked.clear()
  again = wbc.load(set='lisc', root=root, masks='authors')
  np.testing.assert_array_equal(again.labeled[1]['label'], mask)
  assert asked == []


def test_a_wrong_hash_is_named_and_can_be_repaired(server, tmp_path):
  served, _ = server
  root = tmp_path / 'tfds'
  root.mkdir()
  path = served / 'Vinh2608/ST-PlusPlus/abc/lisc/Masks/37_expert_cell1.bmp'
  good = path.read_bytes()
  path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
  with pytest.raises(UserError, match=r'http://127\S*/37_expert_cell1\.bmp is not the file'):
    wbc.load(set='lisc', root=root)
  path.write_bytes(good)
  assert len(wbc.load(set='lisc', root=root).test) == 2


def test_no_network_says_what_to_fetch_and_where_to_put_it(server, tmp_path, monkeypatch):
  monkeypatch.setenv(wbc_builder.MIRROR, 'http://127.0.0.1:1')
  (tmp_path / 'tfds').mkdir()
  says = r'cannot be downloaded .*lisc/Images and lisc/Masks of https://github\.com/Vinh2608/ST-Pl'
  with pytest.raises(UserError, match=says + r'.* commit abc.*data\.root.*quickstart') as error:
    wbc.load(set='lisc', root=tmp_path / 'tfds')
  assert '\n' not in str(error.value)


def test_a_file_the_server_does_not_have_is_told(server, tmp_path):
  served, _ = server
  (served / 'Vinh2608/ST-PlusPlus/abc/lisc/Images/3_cell1.bmp').unlink()
  (tmp_path / 'tfds').mkdir()
  with pytest.raises(UserError, match=r'cannot be downloaded .*3_cell1'):
    wbc.load(set='lisc', root=tmp_path / 'tfds')


def test_a_copy_of_the_repository_is_read_and_checked(server):
  served, asked = server
  root = served / 'Vinh2608/ST-PlusPlus/abc'
  splits = wbc.load(set='lisc', root=root, masks='authors')
  np.testing.assert_array_equal(splits.labeled[1]['image'], cell('2_cell1')[0])
  assert asked == []
  (root / 'lisc/Masks/1_expert_cell1.bmp').write_bytes(b'other')
  with pytest.raises(UserError, match=r'1_expert_cell1\.bmp is not the published file'):
    splits.labeled[0]


def test_the_papers_protocol_validates_on_the_test_and_says_so(folder):
  splits = wbc.load(set='lisc', root=folder, val='test')
  assert names(splits.val) == names(splits.test)
  assert len(splits.labeled) == len(wbc.load(set='lisc', root=folder).labeled)
  assert any('flatters the test' in note for note in splits.notes)


def test_cells_may_be_resized_to_squares(folder):
  splits = wbc.load(set='lisc', root=folder, resize=32)
  for source in (splits.labeled, splits.unlabeled, splits.test):
    assert source[0]['image'].shape == (32, 32, 3)
  assert splits.labeled[0]['label'].shape == (32, 32)
  plain = wbc.load(set='lisc', root=folder).labeled[0]['label']
  assert set(np.unique(splits.labeled[0]['label'])) <= set(np.unique(plain))


def test_the_hidden_truth_stands_beside_the_unlabeled_images(folder):
  splits = wbc.load(set='lisc', root=folder)
  assert names(splits.truth) == names(splits.unlabeled)
  assert 'label' in splits.truth[0]
  assert 'label' not in splits.unlabeled[0]
