"""Batches as functions of seed and step; stats found in the data."""

import numpy as np
import pytest

from ssl_jax import parallel
from ssl_jax.data import dataset_stats
from ssl_jax.data import stream as data
from ssl_jax.types import IGNORE, Splits


class Pictures:
  """Images of given sizes whose every pixel says which image it is of."""

  def __init__(self, sizes, with_label=True, channels=3):
    self.sizes, self.with_label, self.channels = sizes, with_label, channels

  def __len__(self):
    return len(self.sizes)

  def __getitem__(self, index):
    shape = self.sizes[index]
    record = {'image': np.full((*shape, self.channels), index, np.uint8), 'name': f'cell{index}'}
    return record | ({'label': np.full(shape, 1, np.uint8)} if self.with_label else {})


def _stream(seed=0, batch=4, count=6):
  return data.Stream(Pictures([(8, 8)] * count), batch, (8, 8), seed)


def _whose(batch):
  return batch['image'][:, 0, 0, 0].tolist()


def test_an_epoch_shows_every_image_once_in_another_order_each_time():
  stream = _stream(batch=3)
  epochs = [_whose(stream[2 * e]) + _whose(stream[2 * e + 1]) for e in range(3)]
  assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
  assert epochs[0] != epochs[1] or epochs[1] != epochs[2]


def test_a_stream_may_keep_the_order_of_its_source():
  stream = data.Stream(Pictures([(8, 8)] * 5), 3, (8, 8), 0, shuffle=False)
  assert [_whose(stream[step]) for step in range(3)] == [[0, 1, 2], [3, 4, 0], [1, 2, 3]]


def test_a_batch_is_a_function_of_seed_and_step():
  assert _whose(_stream(seed=1)[5]) == _whose(_stream(seed=1)[5])
  assert [_whose(_stream(seed=1)[s]) for s in range(4)] != [
    _whose(_stream(seed=2)[s]) for s in range(4)
  ]


def test_reading_ahead_from_any_step_gives_the_same_batches():
  streams = {'labeled': _stream(), 'unlabeled': _stream(seed=9)}
  all_of_them = list(data.batches([streams], 0, 7))
  rest = list(data.batches([streams], 4, 7))
  assert [_whose(b['labeled']) for b in all_of_them[4:]] == [_whose(b['labeled']) for b in rest]
  assert len(rest) == 3
  assert not list(data.batches([streams], 7, 7))


def test_seeds_that_train_together_see_what_each_would_alone():
  each = [{'labeled': _stream(seed)} for seed in (3, 4)]
  (both,) = data.batches(each, 2, 3)
  for own, streams in zip(both['labeled']['image'], each, strict=True):
    np.testing.assert_array_equal(own, streams['labeled'][2]['image'])


def test_seeds_whose_draws_have_other_sizes_share_a_canvas():
  """Otherwise their batches could not be one array."""
  each = []
  for side in (6, 9):
    each.append({'labeled': data.Stream(Pictures([(8, side)] * 3), 2, (8, side), 0)})
  data.share_canvases(each)
  (both,) = data.batches(each, 0, 1)
  assert both['labeled']['image'].shape == (2, 2, 8, 9, 3)
  np.testing.assert_array_equal(both['labeled']['extent'][:, :, 1], [[6, 6], [9, 9]])


def test_processes_share_the_batch_that_one_would_see(monkeypatch):
  alone = _whose(_stream()[3])
  shares = []
  for process in range(2):
    monkeypatch.setattr(parallel.jax, 'process_count', lambda: 2)
    monkeypatch.setattr(parallel.jax, 'process_index', lambda process=process: process)
    shares += _whose(_stream()[3])
  assert shares == alone


def test_streams_have_seeds_of_their_own():
  seeds = {data.stream_seed(seed, name) for seed in range(5) for name in ('labeled', 'unlabeled')}
  assert len(seeds) == 10
  assert data.stream_seed(3, 'labeled') == 1852691892  # the same on every machine


def test_small_images_lie_at_the_top_left_of_the_canvas():
  record = Pictures([(3, 5)])[0]
  record['image'] += 7
  placed = data.place_on_canvas(record, (6, 6), np.random.default_rng(0))
  assert placed['extent'].tolist() == [3, 5]
  assert (placed['image'][:3, :5] == 7).all()
  assert placed['image'].sum() == 7 * 3 * 5 * 3
  assert (placed['label'][:3, :5] == 1).all()
  assert (placed['label'][3:] == IGNORE).all()


def test_large_images_are_cut_at_a_place_that_varies():
  ramp = np.arange(20, dtype=np.uint8)[:, None, None] + np.zeros((20, 9, 1), np.uint8)
  record = {'image': ramp, 'label': ramp[..., 0]}
  tops = set()
  for seed in range(20):
    placed = data.place_on_canvas(record, (6, 9), np.random.default_rng(seed))
    assert (placed['image'][..., 0] == placed['label']).all()
    assert placed['extent'].tolist() == [6, 9]
    tops.add(int(placed['label'][0, 0]))
  assert len(tops) > 5
  assert max(tops) <= 14


def test_the_canvas_holds_the_largest_image_up_to_a_limit():
  source = Pictures([(8, 30), (20, 10)])
  assert data.canvas_size(source, None) == (20, 30)
  assert data.canvas_size(source, 16) == (16, 16)


def test_a_patch_keeps_its_label_and_its_point_moves_with_the_piece():
  image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
  point = np.array([4.0, 3.0], np.float32)
  for seed in range(5):
    record = dict(image=image, label=np.int32(2), point=point, name='a', of='b')
    placed = data.place_on_canvas(record, (6, 6), np.random.default_rng(seed))
    assert placed['label'] == 2
    assert placed['image'][tuple(placed['point'].astype(int))] == image[4, 3]


def _splits(**changes):
  sources = {'labeled': Pictures([(4, 4)] * 3), 'unlabeled': None, 'val': None, 'test': None}
  return Splits(**(sources | changes), classes=('a', 'b'))


def test_facts_come_from_training_images_alone():
  before = dataset_stats.compute_stats(_splits())
  after = dataset_stats.compute_stats(_splits(test=Pictures([(4, 4)] * 50)))
  assert before.mean == after.mean == tuple([round(float(np.mean([0, 1, 2]) / 255), 6)] * 3)
  assert (before.counts, after.counts) == ({'labeled': 3}, {'labeled': 3, 'test': 50})
  assert before.fingerprint != after.fingerprint


def test_standardize_gives_zero_mean_and_unit_variance():
  stats = dataset_stats.compute_stats(_splits())
  pixels = np.concatenate(
    [dataset_stats.to_float(Pictures([(4, 4)] * 3)[i]['image']) for i in range(3)]
  )
  found = stats.normalization().standardize(pixels)
  assert found.mean() == pytest.approx(0, abs=1e-2)
  assert found.std() == pytest.approx(1, rel=1e-2)


def test_imagenet_statistics_are_for_color_images():
  assert dataset_stats.compute_stats(_splits(), 'imagenet').mean == dataset_stats.IMAGENET_MEAN
  gray = _splits(labeled=Pictures([(4, 4)], channels=1))
  assert len(dataset_stats.compute_stats(gray, 'imagenet').mean) == 1


def test_a_new_image_is_brought_to_what_training_saw():
  stats = dataset_stats.compute_stats(_splits())._replace(intensity=(100.0, 300.0))
  deep = np.full((2, 2, 1), 200, np.uint16)
  assert dataset_stats.preprocess_image(deep, stats, 'x.png') == pytest.approx(
    np.full((2, 2, 3), 0.5)
  )
  plain = dataset_stats.preprocess_image(np.full((2, 2, 3), 255, np.uint8), stats, 'x.png')
  assert plain.dtype == np.float32
  assert (plain == 1).all()


@pytest.mark.parametrize('share', [0.0, 0.5, 1.0])
def test_pieces_of_a_volume_are_balanced_between_organ_and_rest(share):
  label = np.zeros((20, 30, 40), np.uint8)
  label[14:16, 5:8, 30:33] = 2
  label[:, :, 0] = IGNORE
  record = {'image': np.zeros((20, 30, 40, 1), np.float32), 'label': label}
  rng, hits = np.random.default_rng(0), []
  for _ in range(200):
    placed = data.place_on_canvas(record, (6, 8, 8), rng, share)
    assert placed['label'].shape == (6, 8, 8)
    hits.append(placed['label'][3, 4, 4] == 2)  # the middle, which no border is near to
  assert np.mean(hits) == pytest.approx(share, abs=0.08)


def test_a_volume_of_one_class_or_smaller_than_the_piece_is_no_fault():
  for filled in (0, 1):
    label = np.full((6, 6, 6), filled, np.uint8)
    record = {'image': np.zeros((6, 6, 6, 1), np.float32), 'label': label}
    for canvas in ((4, 4, 4), (8, 8, 8), (4, 8, 4)):
      placed = data.place_on_canvas(record, canvas, np.random.default_rng(0), 0.5)
      assert placed['label'].shape == canvas
