"""Arrays of which a piece is read without the rest, and where pieces are drawn."""

import errno
import os
import time
from concurrent import futures

import numpy as np
import pytest

from ssl_jax.data import pseudo_labels, stream
from ssl_jax.io import mask_store, memmap_arrays
from ssl_jax.types import IGNORE


def _label(seed=0, shape=(7, 9, 8)):
  rng = np.random.default_rng(seed)
  return rng.choice([0, 1, 2, IGNORE], shape, p=[0.7, 0.1, 0.1, 0.1]).astype(np.uint8)


def test_what_is_written_stays_on_the_disk(tmp_path):
  arrays = {
    'image': np.random.default_rng(0).random((5, 6, 7, 1)),
    **memmap_arrays.with_foreground(_label()),
  }
  memmap_arrays.write_arrays(tmp_path / 'a', arrays)
  memmap_arrays.write_arrays(
    tmp_path / 'empty', memmap_arrays.with_foreground(np.zeros((2, 3, 4), np.uint8))
  )
  found = memmap_arrays.read_arrays(tmp_path / 'a')
  assert found.keys() == {'image', 'label', memmap_arrays.FOREGROUND}
  for name, array in arrays.items():
    assert isinstance(found[name], np.memmap)
    np.testing.assert_array_equal(found[name], array)
  assert memmap_arrays.read_arrays(tmp_path / 'a', ('label', 'image')).keys() == {
    memmap_arrays.FOREGROUND
  }
  assert len(memmap_arrays.read_arrays(tmp_path / 'empty')[memmap_arrays.FOREGROUND]) == 0


def test_one_thread_at_a_time_reads_the_head_of_a_file_and_once(tmp_path, monkeypatch):
  """Python 3.11's parser, with which NumPy reads it, fails in two threads at a time."""
  for number in range(6):
    memmap_arrays.write_arrays(tmp_path / str(number), {'image': np.full((2, 3), number)})
  reading, read = [], []
  load = np.load

  def slow_load(path, **kwargs):
    reading.append(path)
    time.sleep(0.01)
    assert reading == [path]
    reading.clear()
    read.append(path)
    return load(path, **kwargs)

  monkeypatch.setattr(np, 'load', slow_load)
  with futures.ThreadPoolExecutor(4) as threads:
    found = list(threads.map(memmap_arrays.read_arrays, [tmp_path / str(n) for n in range(6)] * 3))
  assert [int(arrays['image'][0, 0]) for arrays in found] == [*range(6)] * 3
  # Again only where two asked for a file before either knew it.
  assert len(read) < 18
  # A file that has changed is read anew.
  os.utime(tmp_path / '0' / 'image.npy', ns=(1, 1))
  memmap_arrays.read_arrays(tmp_path / '0')
  assert read[-1] == tmp_path / '0' / 'image.npy'


def test_a_kill_leaves_nothing_and_the_first_of_two_writers_wins(tmp_path, monkeypatch):
  def killed(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as broken:
    broken.setattr(np, 'save', killed)
    with pytest.raises(KeyboardInterrupt):
      memmap_arrays.write_arrays(tmp_path / 'a', {'label': np.zeros(3)})
  assert not (tmp_path / 'a').exists()
  for value in (1, 2):
    memmap_arrays.write_arrays(tmp_path / 'a', {'label': np.full(3, value)})
  assert memmap_arrays.read_arrays(tmp_path / 'a')['label'].tolist() == [1, 1, 1]
  assert [path.name for path in tmp_path.iterdir()] == ['a']


@pytest.mark.parametrize('filled', [None, 0, 1, IGNORE])
def test_any_voxel_of_its_kind_is_as_likely(filled):
  """Drawn by a search among the marked ones, and as if both kinds had been listed."""
  label = _label() if filled is None else np.full((4, 5, 6), filled, np.uint8)
  is_marked = ((label != 0) & (label != IGNORE)).ravel()
  marked = memmap_arrays.foreground_indices(label)
  assert marked.tolist() == np.flatnonzero(is_marked).tolist()
  ours, theirs = np.random.default_rng(1), np.random.default_rng(1)
  for _ in range(300):
    of_kind = np.flatnonzero(is_marked if theirs.random() < 0.4 else ~is_marked)
    listed = of_kind if len(of_kind) else np.arange(label.size)
    drawn = memmap_arrays.draw_index(marked, label.size, ours, 0.4)
    assert drawn == listed[theirs.integers(len(listed))]


def test_pieces_are_the_same_whether_the_foreground_is_known_or_looked_for():
  label = _label(shape=(20, 18, 22))
  record = {'image': np.random.default_rng(0).random((*label.shape, 1)), 'label': label}
  known = record | memmap_arrays.with_foreground(label)
  for seed in range(20):
    placed = [
      stream.place_on_canvas(r, (6, 8, 7), np.random.default_rng(seed), 0.5)
      for r in (record, known)
    ]
    np.testing.assert_array_equal(placed[0]['image'], placed[1]['image'])


def test_pseudo_labels_bring_a_foreground_of_their_own(tmp_path):
  """Not that of the truth, were the source to know it."""
  truth, said = _label(), _label(1)
  source = [
    {'image': np.zeros((*truth.shape, 1)), 'name': 'a', **memmap_arrays.with_foreground(truth)}
  ]
  (tmp_path / 'labels.csv').write_text('index,name\n0,a\n')
  mask_store.write_training_mask(tmp_path, 'a', said)
  record = pseudo_labels.PseudoLabeled(source, [tmp_path])[0]
  assert isinstance(record['label'], np.memmap)
  np.testing.assert_array_equal(record['label'], said)
  np.testing.assert_array_equal(
    record[memmap_arrays.FOREGROUND], memmap_arrays.foreground_indices(said)
  )
  np.testing.assert_array_equal(mask_store.read_mask(tmp_path, 'a'), said)
  mask_store.write_training_mask(tmp_path, 'a', truth)  # a stage that begins again
  np.testing.assert_array_equal(mask_store.read_training_mask(tmp_path, 'a')['label'], truth)


def test_masks_of_images_are_taught_as_they_are(tmp_path):
  mask = _label(shape=(6, 5))
  mask_store.write_training_mask(tmp_path, 'a', mask)
  assert mask_store.read_training_mask(tmp_path, 'a').keys() == {'label'}
  np.testing.assert_array_equal(mask_store.read_training_mask(tmp_path, 'a')['label'], mask)


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
  def full(path, array):
    raise OSError('100 requested and 12 written')  # as NumPy puts it

  monkeypatch.setattr(np, 'save', full)
  with pytest.raises(OSError, match='No space left') as caught:
    memmap_arrays.write_arrays(tmp_path / 'a', {'image': np.zeros(100)})
  assert caught.value.errno == errno.ENOSPC
  assert [*tmp_path.iterdir()] == []


def test_a_folder_may_have_the_longest_name(tmp_path):
  memmap_arrays.write_arrays(tmp_path / ('n' * 255), {'image': np.arange(3)})
  assert memmap_arrays.read_arrays(tmp_path / ('n' * 255))['image'].tolist() == [0, 1, 2]
