"""Made-up smears are reproducible, varied, and say that they are made up."""

import time

import numpy as np
import pytest

from ssl_jax.datasets import synthetic
from ssl_jax.errors import UserError


def test_shapes_and_counts():
  splits = synthetic.load(labeled=3, unlabeled=5, val=2, test=4, size=48)
  assert [len(s) for s in splits[:4]] == [3, 5, 2, 4]
  record = splits.labeled[0]
  assert record['image'].shape == (48, 48, 3)
  assert record['image'].dtype == np.uint8
  assert record['label'].shape == (48, 48)
  assert record['label'].dtype == np.uint8
  assert 'label' not in splits.unlabeled[0]
  assert any('synthetic' in note for note in splits.notes)
  assert synthetic.load(val=0).val is None
  with pytest.raises(IndexError):
    splits.test[4]


def test_a_record_follows_from_seed_split_and_index_alone():
  one, other = synthetic.load(size=48), synthetic.load(size=48, labeled=3, test=9)
  other.test[1]  # the order of asking does not matter
  np.testing.assert_array_equal(one.test[5]['image'], other.test[5]['image'])
  np.testing.assert_array_equal(one.labeled[2]['label'], other.labeled[2]['label'])
  assert one.test[-1]['name'] == 'test_0063'
  images = [one.labeled[0], one.labeled[1], one.unlabeled[0], one.test[0]]
  images.append(synthetic.load(size=48, seed=1).labeled[0])
  assert len({r['image'].tobytes() for r in images}) == 5


def test_every_image_has_a_cell_and_shares_are_like_blood():
  source = synthetic.load(test=40).test
  shares = np.stack([np.bincount(source[i]['label'].ravel(), minlength=3) for i in range(40)])
  assert (shares[:, 1] > 0).all()
  assert (shares[:, 2] > 0).all()
  share = shares.sum(0) / shares.sum()
  assert 0.6 < share[0] < 0.9
  assert share[2] > 0.03


def test_no_one_color_rule_settles_it():
  """The best linear rule on color, fitted on eight images, confuses cytoplasm on others."""
  splits = synthetic.load()
  pixels = [splits.labeled[i] for i in range(8)]
  features = lambda x: np.c_[x.reshape(-1, 3) / 255, np.ones(x.size // 3)]  # noqa: E731
  truth = np.concatenate([np.eye(3)[r['label'].ravel()] for r in pixels])
  weights = np.linalg.lstsq(np.concatenate([features(r['image']) for r in pixels]), truth)[0]
  tests = [splits.test[i] for i in range(16)]
  guess = np.concatenate([(features(r['image']) @ weights).argmax(-1) for r in tests])
  truth = np.concatenate([r['label'].ravel() for r in tests])
  iou = [((guess == k) & (truth == k)).sum() / ((guess == k) | (truth == k)).sum() for k in (1, 2)]
  assert iou[0] < 0.3  # cytoplasm looks like other slides' red cells
  assert iou[1] > 0.1  # but nuclei are dark: there is something to learn


def test_it_is_fast():
  synthetic.smear(96, np.random.default_rng(0))
  start = time.process_time()
  for i in range(20):
    synthetic.smear(96, np.random.default_rng(i))
  assert (time.process_time() - start) / 20 < 0.04  # 7 ms on an idle core


def test_wrong_knobs_are_refused():
  with pytest.raises(UserError, match='at least 1 labeled image'):
    synthetic.load(labeled=0)
  with pytest.raises(UserError, match='no negative counts'):
    synthetic.load(test=-1)
  with pytest.raises(UserError, match='size=16 leaves no room'):
    synthetic.load(size=16)
