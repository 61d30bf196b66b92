"""Marked cells: reading their CSVs, cutting patches, who keeps a label; broken files are named."""

import collections

import numpy as np
import pytest
from conftest import write_discs
from PIL import Image

from ssl_jax.data import patch_splits, patches, point_annotations
from ssl_jax.data.patches import Patches, Window
from ssl_jax.datasets import crchisto, points
from ssl_jax.errors import UserError
from ssl_jax.types import CELLS, IGNORE


@pytest.fixture(scope='module')
def discs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('discs')
  return folder, write_discs(folder, images=8)


def load(discs, **knobs):
  return points.load(labeled=discs[0], size=15, jitter=3, min_distance=9, **knobs)


def _middle(record):
  row, column = np.round(record['point']).astype(int)
  return record['image'][row, column]


def test_a_patch_shows_its_cell_where_it_says(discs):
  splits = load(discs)
  assert splits.task == CELLS
  assert splits.classes == ('background', 'blue', 'red')
  seen = collections.Counter()
  for source in (splits.labeled, splits.test, splits.truth or ()):
    for i in range(len(source)):
      record = source[i]
      if record['label'] in (1, 2):
        red, _, blue = _middle(record).astype(int)
        assert (red > blue) == (record['label'] == 2)
      elif record['label'] == 0:
        assert np.isnan(record['point']).all()
        middle = record['image'].shape[0] // 2
        near = record['image'][middle - 2 : middle + 3, middle - 2 : middle + 3]
        assert near.min() > 150  # no disc (of radius 5) within 9 pixels of the middle
      seen[int(record['label'])] += 1
  assert min(seen[c] for c in (0, 1, 2)) > 10


def test_windows_of_training_are_wider_by_the_jitter_and_those_of_the_test_are_jittered(discs):
  splits = load(discs)
  assert splits.labeled[0]['image'].shape == (21, 21, 3)
  assert splits.unlabeled[0]['image'].shape == (21, 21, 3)
  assert splits.test[0]['image'].shape == (15, 15, 3)

  def beside(source, middle):
    cells = [source[i]['point'] for i in range(len(source)) if source[i]['label']]
    return np.abs(np.array(cells) - middle).max()

  assert beside(splits.labeled, 10) <= 0.5  # what views crop away decides, each time anew
  assert 2 < beside(splits.test, 7) <= 3.5


def test_splits_are_by_image_and_depend_on_the_seed_alone(discs):
  one, same, other = load(discs), load(discs), load(discs, seed=1)

  def names(source):
    return {source[i]['of'] for i in range(len(source))}

  assert not names(one.labeled) & names(one.test)
  assert len(names(one.test)) == 2
  assert names(one.test) == {one.whole[i]['name'] for i in range(2)}
  assert one.labeled.windows == same.labeled.windows
  assert one.digest == same.digest != other.digest
  assert one.labeled.windows != other.labeled.windows


def test_a_number_of_labels_is_drawn_equally_and_the_others_lose_theirs(discs):
  few, more, every = load(discs, num_labeled=9), load(discs, num_labeled=15), load(discs)
  counts = collections.Counter(w.label for w in few.labeled.windows)
  assert counts == {0: 3, 1: 3, 2: 3}
  assert set(few.labeled.windows) < set(more.labeled.windows)
  total = len(few.labeled) + len(few.unlabeled)
  assert total == len(more.labeled) + len(more.unlabeled)
  assert set(few.unlabeled[0]) == {'image', 'name'}
  assert not set(few.labeled.windows) & set(few.unlabeled.windows)
  unnamed = [w for w in few.unlabeled.windows if w.label == IGNORE]
  assert len(unnamed) == 6  # one in each training image
  assert [w.label for w in every.unlabeled.windows] == [IGNORE] * 6


def test_rare_classes_share_out_what_they_lack():
  windows = [Window(0, (0, i), int(i < 2), None) for i in range(20)]
  chosen = patches.draw_windows(windows, 10, np.random.default_rng(0))
  assert collections.Counter(windows[i].label for i in chosen) == {0: 8, 1: 2}


def test_balancing_turns_copies_of_rarer_classes():
  windows = [Window(0, (0, i), i % 10 == 0, None) for i in range(20)]
  windows = [w._replace(label=int(w.label)) for w in windows]
  made = patches.balance_windows(windows, np.random.default_rng(0))
  assert collections.Counter(w.label for w in made) == {0: 18, 1: 18}
  assert made[:20] == windows
  rare = [w for w in made if w.label == 1]
  assert collections.Counter((w.middle, w.turn) for w in rare).most_common(1)[0][1] <= 2
  assert {w.turn for w in rare} == set(range(8))


def test_balance_of_all_uses_hidden_labels_and_says_so(discs):
  plain, honest, paper = (load(discs, num_labeled=9, balance=b) for b in ('none', 'labeled', 'all'))
  assert len(plain.unlabeled) == len(honest.unlabeled) < len(paper.unlabeled)
  counts = collections.Counter(w.label for w in paper.truth.windows if w.label != IGNORE)
  counts.update(w.label for w in paper.labeled.windows)
  assert len(set(counts.values())) == 1
  assert any('a lab would not have' in note for note in paper.notes)
  assert not any('a lab would not have' in note for note in honest.notes)


@pytest.mark.parametrize('turn', range(8))
def test_a_turned_patch_keeps_its_point(turn):
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (30, 30, 1), np.uint8)
  source = Patches(
    [{'image': image}], [Window(0, (14, 15), 1, (12.0, 18.0), turn)], 11, True, ['a']
  )
  record = source[0]
  assert _middle(record) == image[12, 18]
  assert record['image'].shape == (11, 11, 1)
  assert (record['image'] == patches.turn_patch(image[9:20, 10:21], turn)).all()


def test_beyond_the_border_an_image_is_mirrored():
  image = np.arange(12).reshape(3, 4, 1)
  expected = np.pad(image, [(5, 6), (7, 3), (0, 0)], mode='symmetric')
  np.testing.assert_array_equal(patches.cut_patch(image, np.array([-5, -7]), 14), expected[:14])


def test_unlabeled_images_are_cut_on_a_grid(discs, tmp_path):
  write_discs(tmp_path, images=1, seed=5)
  splits = load(discs, unlabeled=tmp_path / 'images')
  grid = [w for w in splits.unlabeled.windows if w.image >= 6]
  assert len(grid) == 11 * 11  # 80 pixels, one window every 7
  assert splits.unlabeled[len(splits.unlabeled) - 1]['image'].shape == (21, 21, 3)
  assert splits.truth is None


def test_a_test_folder_and_classes_may_be_given(discs, tmp_path):
  write_discs(tmp_path, images=2, seed=5)
  splits = load(discs, test=tmp_path, val=tmp_path, classes=('red', 'blue'))
  assert splits.classes == ('background', 'red', 'blue')
  assert len(splits.whole) == 2
  assert splits.whole[0]['points'].shape == (len(splits.whole[0]['classes']), 2)
  assert splits.val is None  # they are copies of the test's
  assert any('copies of test' in note for note in splits.notes)


def test_crchisto_is_such_a_folder(tmp_path):
  header = 'x,y,class'
  write_discs(tmp_path / 'crchisto', images=6, header=header)
  for path in (tmp_path / 'crchisto' / 'points').iterdir():
    names = iter(['epithelial', 'inflammatory', 'fibroblast', 'others'] * 10)
    lines = [line.rsplit(',', 1)[0] + f',{next(names)}' for line in path.read_text().split()[1:]]
    path.write_text('\n'.join([header, *lines]))
  splits = crchisto.load(root=tmp_path, num_labeled=10, size=15, jitter=3)
  assert splits.classes == ('background', *crchisto.CLASSES)
  assert collections.Counter(w.label for w in splits.labeled.windows) == dict.fromkeys(range(5), 2)
  with pytest.raises(UserError, match='holds no crchisto'):
    crchisto.load(root=tmp_path / 'crchisto' / 'points')


BROKEN = {
  'x,y\n1,2': r'columns x, y and needs x, y, class, .*\(x = column, y = row, in pixels\)',
  'x,y,class\n1,oops,red': "line 2: y='oops' is no number",
  'x,y,class\n1,nan,red': "line 2: y='nan' is no number",
  'x,y,class\n1': 'line 2: 1 cells under 3 columns',
  'x,y,class\n5,5,red\n81,2,red': 'line 3: x=81 is outside its image, which is 80 pixels wide',
  'x,y,class\n5,-1,red': 'line 2: y=-1 is outside',
  'x,y,class\n5,5,purple': "line 2: the class 'purple' is not one of red, blue",
  'x,y,class\n5,5,Background': 'background needs no points',
}


@pytest.mark.parametrize('text', BROKEN)
def test_what_a_csv_cannot_mean_is_said_with_file_and_line(tmp_path, text):
  write_discs(tmp_path)
  path = tmp_path / 'points' / 'disc1.csv'
  path.write_text(text)
  with pytest.raises(UserError, match=BROKEN[text]) as caught:
    points.load(labeled=tmp_path, classes=('red', 'blue'))
  assert str(path) in str(caught.value)


def test_a_table_of_a_german_excel_is_read_and_said(tmp_path):
  every = write_discs(tmp_path)
  path = tmp_path / 'points' / 'disc1.csv'
  plain = point_annotations.read_folder(tmp_path, 'labeled')[1]
  rows = [f'{x};{y};{kind.replace("red", "größer")}' for x, y, kind in every['disc1']]
  rows = [row.replace('.', ',') for row in rows]
  path.write_bytes('\r\n'.join(['X;Y;Class', '5,5;7,25;größer', *rows]).encode('latin-1'))
  read = point_annotations.read_folder(tmp_path, 'labeled')[1]
  # write_discs rounds to two digits.
  positions = [(point.x, point.y) for point in plain.points]
  assert np.allclose([(point.x, point.y) for point in read.points[1:]], positions, atol=0.006)
  assert read.points[0] == (2, 5.5, 7.25, 'größer')
  splits = points.load(labeled=tmp_path, size=15, jitter=3)
  assert 'größer' in splits.classes
  assert 'disc1.csv: read as Windows-1252 (Latin-1), as it is not UTF-8' in splits.notes


@pytest.mark.parametrize(
  ('break_it', 'says'),
  [
    (lambda f: (f / 'points' / 'disc1.csv').unlink(), r'disc1.png has no .*disc1.csv'),
    (lambda f: (f / 'images' / 'disc1.png').unlink(), r'disc1.csv has no image of that name'),
    (lambda f: (f / 'points').rename(f / 'dots'), r'has no folder points/'),
    (lambda f: (f / 'images' / 'disc1.png').write_bytes(b'x'), r'disc1.png'),
    (lambda f: [p.write_text('x,y,class\n5,5,\n') for p in (f / 'points').iterdir()], 'No point'),
  ],
)
def test_files_that_stand_alone_are_named(tmp_path, break_it, says):
  write_discs(tmp_path)
  break_it(tmp_path)
  with pytest.raises(UserError, match=says):
    points.load(labeled=tmp_path)


@pytest.mark.parametrize(
  ('knobs', 'says'),
  [
    (dict(num_labeled=10_000), r'data.num_labeled=10000 is not in 3\.\.'),
    (dict(num_labeled=1), r'data.num_labeled=1 is not in 3\.\.'),
    (dict(size=5), 'at least 8 pixels'),
    (dict(jitter=20), 'less than half'),
    (dict(balance='some'), "balance='some' is not one of"),
    (dict(background=0.0), 'No labeled patch is background'),
    (dict(background=-1.0), 'at least 0'),
    (dict(test_fraction=1.5), 'test_fraction=1.5'),
  ],
)
def test_knobs_that_cannot_be_are_refused(discs, knobs, says):
  with pytest.raises(UserError, match=says):
    points.load(labeled=discs[0], **(dict(size=15, jitter=3) | knobs))


def test_deep_images_become_patches_too(tmp_path):
  write_discs(tmp_path)
  for path in (tmp_path / 'images').iterdir():
    gray = np.asarray(Image.open(path).convert('L')).astype(np.uint16) * 100
    Image.fromarray(gray).save(path)
  splits = points.load(labeled=tmp_path, size=15, jitter=3)
  assert splits.labeled[0]['image'].dtype == np.float32
  assert 0 <= splits.labeled[0]['image'].min() < splits.labeled[0]['image'].max() <= 1
  assert isinstance(splits.whole, patch_splits.WholeImages)


def _one_image(tmp_path, *tables):
  """A folder of images of 40 x 40 pixels, each with the lines of its CSV."""
  for i, lines in enumerate(tables):
    for kind in ('images', 'points'):
      (tmp_path / kind).mkdir(exist_ok=True)
    Image.new('RGB', (40, 40)).save(tmp_path / 'images' / f'a{i}.png')
    (tmp_path / 'points' / f'a{i}.csv').write_text('\n'.join(['x,y,class', *lines]) + '\n')
  return tmp_path


@pytest.mark.parametrize(
  ('tables', 'says'),
  [
    ([['0.2,0.9,a', '0.5,0.1,b']], 'holds 2 points, .* fractions of the image; give pixels'),
    ([['20,9,a', '5,1,b', '20,9,b']], r'a0\.csv, lines 2 and 4 mark the same place as a and as b'),
    ([['20,1_0,a']], r"line 2: y='1_0' is no number"),
  ],
)
def test_points_that_cannot_be_meant_are_refused(tmp_path, tables, says):
  with pytest.raises(UserError, match=says):
    point_annotations.read_folder(_one_image(tmp_path, *tables), 'labeled')


def test_classes_may_be_one_word_with_commas(discs):
  splits = points.load(labeled=discs[0], classes='red, blue', size=15, jitter=3)
  assert splits.classes == ('background', 'red', 'blue')
  assert points.load(labeled=discs[0], classes=('blue,red',), size=15).classes[1:] == (
    'blue',
    'red',
  )


def test_classes_that_differ_in_capitals_are_refused(tmp_path):
  folder = point_annotations.read_folder(
    _one_image(tmp_path, ['2,3,Tumour'], ['4,5,tumour']), 'labeled'
  )
  with pytest.raises(
    UserError, match=r"'Tumour' \(a0.csv\) and 'tumour' \(a1.csv\) differ only in"
  ):
    point_annotations.classes_in(folder)


def test_whole_numbers_of_a_column_of_floats_and_repeated_lines_are_said(tmp_path):
  lines = ['2,3,1.0', '4,5,2', '2,3,1', '2.0,3,1']
  (file,) = point_annotations.read_folder(_one_image(tmp_path, lines), 'labeled')
  assert [point.class_name for point in file.points] == ['1', '2']
  assert file.notes == (
    '2 lines left out that mark a place once more',
    'classes such as 1.0 are read as 1',
  )


def test_the_classes_of_a_folder_are_those_that_its_points_name(tmp_path):
  write_discs(tmp_path, images=2)
  annotated = point_annotations.read_folder(tmp_path, 'labeled')
  assert [entry.file.name for entry in annotated] == ['disc0', 'disc1']
  assert set(point_annotations.classes_in(annotated)) >= {'red', 'blue'}
  assert 'unlabelled' not in point_annotations.classes_in(annotated)


def test_hidden_files_beside_tables_are_no_tables(tmp_path):
  """They are ._NAME.csv beside NAME.csv, as macOS writes them on disks that are not its own."""
  write_discs(tmp_path)
  (tmp_path / 'points' / '._disc0.csv').write_bytes(b'\0\5\x16\7')
  (tmp_path / 'points' / 'disc1.csv').rename(tmp_path / 'points' / 'disc1.CSV')
  (tmp_path / 'images' / 'disc2.png').rename(tmp_path / 'images' / 'disc2.ome.png')
  annotated = point_annotations.read_folder(tmp_path, 'labeled')
  tables = [entry.csv.name for entry in annotated]
  assert tables == ['disc0.csv', 'disc1.CSV', 'disc2.csv', 'disc3.csv']
  (tmp_path / 'points' / 'disc1.csv').write_text('x,y,class\n')
  with pytest.raises(UserError, match=r'disc1\.csv and disc1\.CSV are both points of disc1'):
    point_annotations.read_folder(tmp_path, 'labeled')


def test_images_of_one_patient_are_on_one_side(tmp_path):
  write_discs(tmp_path, images=8)
  for kind, ending in (('images', 'png'), ('points', 'csv')):
    for i in range(8):
      path = tmp_path / kind / f'disc{i}.{ending}'
      path.rename(path.with_name(f'p{i // 2}_s{i % 2}.{ending}'))
  small = dict(labeled=tmp_path, size=15, jitter=3)
  assert any('names look grouped' in note for note in points.load(**small).notes)
  splits = points.load(**small, group=r'^(p\d)')
  tested = {splits.whole[i]['name'][:2] for i in range(len(splits.whole))}
  assert len(splits.whole) == 2
  assert len(tested) == 1
  trained = {splits.labeled[i]['of'][:2] for i in range(len(splits.labeled))}
  assert not tested & trained
  assert set(splits.draw.groups.values()) == tested
