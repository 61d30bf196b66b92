"""The replay buffer: what is in it at each draw, and that a draw depends on its index alone."""

import numpy as np
from PIL import Image

from ssl_jax.data.replay_buffer import CANDIDATES, ReplayBuffer, StoredPairs


def _pairs(count):
  return [{'image': np.full((1, 1, 1), i, np.uint8), 'name': str(i)} for i in range(count)]


def test_one_comes_and_the_oldest_leaves():
  replay = ReplayBuffer(_pairs(50), size=10, renew=0.3, draws=100, seed=0)
  oldest = 0
  arrivals = 0
  for index in range(100):
    drawn = int(replay[index]['name'])
    if drawn == oldest + 10 and arrivals < 40:  # only a new one can be beyond the buffer
      oldest, arrivals = oldest + 1, arrivals + 1
    assert oldest <= drawn < oldest + 10
  assert 15 <= arrivals <= 40


def test_without_renewal_the_first_are_drawn_equally():
  replay = ReplayBuffer(_pairs(50), size=5, renew=0.0, draws=5000, seed=0)
  counts = np.bincount(replay.drawn, minlength=50)
  assert not counts[5:].any()
  assert counts[:5].min() > 900


def test_every_pair_comes_in_turn_and_the_buffer_then_stays():
  replay = ReplayBuffer(_pairs(8), size=3, renew=1.0, draws=20, seed=0)
  assert replay.drawn[:5].tolist() == [3, 4, 5, 6, 7]
  assert set(replay.drawn[5:]) == {5, 6, 7}


def test_a_buffer_larger_than_the_pairs_holds_them_all():
  replay = ReplayBuffer(_pairs(3), size=10, renew=0.5, draws=200, seed=0)
  assert set(replay.drawn) == {0, 1, 2}


def test_draws_follow_from_the_seed_alone():
  first, again, other = (
    ReplayBuffer(_pairs(50), size=10, renew=0.2, draws=60, seed=s).drawn for s in (4, 4, 5)
  )
  np.testing.assert_array_equal(first, again)
  assert (first != other).any()
  assert len(ReplayBuffer(_pairs(50), 10, 0.2, 60, 4)) == 60


def test_pairs_are_the_accepted_ones_in_their_order(tmp_path):
  for kind in ('images', 'masks'):
    (tmp_path / kind).mkdir()
    for i in range(4):
      Image.fromarray(np.full((4, 4), i, np.uint8)).save(tmp_path / kind / f'{i:06d}.png')
  (tmp_path / CANDIDATES).write_text('candidate,accepted\n000002,1\n000000,0\n000001,1\n')
  pairs = StoredPairs(tmp_path)
  assert [pairs[i]['name'] for i in range(len(pairs))] == ['000002', '000001']
  assert pairs[0]['image'].shape == (4, 4, 1)
  assert (pairs[0]['label'] == 2).all()
  (tmp_path / CANDIDATES).unlink()
  (tmp_path / 'masks' / '000003.png').unlink()
  assert 'label' not in StoredPairs(tmp_path)[3]
