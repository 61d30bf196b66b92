"""Intervals against tables and against what must hold."""

import numpy as np
import pytest

from ssl_jax.evaluation import confusion, statistics


def test_t_interval_of_three_seeds():
  difference = statistics.difference_over_seeds(
    np.array([81.0, 83.0, 85.0]), np.array([80.0, 80.0, 80.0])
  )
  half = 4.302653 * 2 / np.sqrt(3)  # Student's t, 2 degrees of freedom
  assert difference.mean == pytest.approx(3)
  assert (difference.low, difference.high) == (pytest.approx(3 - half), pytest.approx(3 + half))


def test_seeds_are_paired():
  luck = np.array([0.0, 10.0, 20.0])
  difference = statistics.difference_over_seeds(70 + luck + [1, 1.1, 0.9], 70 + luck)
  assert difference.low > 0.5


def _images(hits: np.ndarray) -> np.ndarray:
  return np.stack([np.array([[50, 0], [50 - h, h]]) for h in hits])


def test_bootstrap_holds_the_difference_and_narrows_with_more_images():
  rng = np.random.default_rng(0)
  few, many = rng.integers(20, 40, 10), rng.integers(20, 40, 160)
  spans = []
  for hits in (few, many):
    difference = statistics.difference_over_images(
      _images(hits + 5), _images(hits), confusion.mean_iou
    )
    assert difference.low < difference.mean < difference.high
    spans.append(difference.high - difference.low)
  assert spans[1] < spans[0]


def test_the_same_network_twice_shows_no_difference():
  images = _images(np.arange(10, 30))
  difference = statistics.difference_over_images(images, images, confusion.mean_iou)
  assert tuple(difference[:3]) == (0, 0, 0)


@pytest.mark.parametrize(
  ('low', 'high', 'says'),
  [(0.1, 2, 'helps'), (-2, -0.1, 'HURTS'), (-1, 2, 'No difference shown')],
)
def test_verdict_follows_the_interval(low, high, says):
  difference = statistics.Difference((low + high) / 2, low, high, '3 seeds, paired')
  assert says in statistics.verdict('fixmatch', difference)


def test_verdict_names_what_it_compares_with():
  difference = statistics.Difference(1.0, 0.5, 1.5, '3 seeds, paired')
  assert 'mIoU against the supervised control (3' in statistics.verdict('a', difference)
  assert 'mIoU against b (3' in statistics.verdict('a', difference, against='b')


def test_a_few_images_of_one_seed_decide_nothing():
  """Two images that agree are no more than a coin that fell twice on one side."""
  for n, says in ((2, 'Too few test images to say whether a helps'), (6, 'a helps')):
    hits = np.arange(20, 20 + n)
    difference = statistics.difference_over_images(
      _images(hits + 5), _images(hits), confusion.mean_iou
    )
    assert difference.low > 0
    assert statistics.verdict('a', difference).startswith(says)
    assert f'{n} test images redrawn' in statistics.verdict('a', difference)
