"""Losses against values worked out by hand."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax import losses
from ssl_jax.types import IGNORE

pytestmark = pytest.mark.gpu

PROBS = np.float32([[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]], [[0.3, 0.3, 0.4], [0.25, 0.25, 0.5]]])
LOGITS = jnp.log(PROBS)[None]  # [1, 2, 2, 3]
SOFT = jnp.asarray(PROBS)
LABELS = jnp.array([[[0, 1], [2, IGNORE]]])


def test_cross_entropy_is_the_mean_over_known_pixels():
  expected = -(np.log(0.7) + np.log(0.8) + np.log(0.4)) / 3
  assert losses.cross_entropy(LOGITS, LABELS) == pytest.approx(expected, rel=1e-6)


def test_a_pixel_of_weight_zero_still_counts_in_the_mean():
  weight = jnp.array([[[True, False], [False, True]]])
  assert losses.cross_entropy(LOGITS, LABELS, weight=weight) == pytest.approx(
    -np.log(0.7) / 3, rel=1e-6
  )


def test_pixels_that_are_not_valid_leave_the_mean():
  valid = jnp.array([[[True, True], [False, True]]])
  expected = -(np.log(0.7) + np.log(0.8)) / 2
  assert losses.cross_entropy(LOGITS, LABELS, valid) == pytest.approx(expected, rel=1e-6)


def test_nothing_valid_gives_zero_with_a_finite_gradient():
  nothing = jnp.full_like(LABELS, IGNORE)
  value, gradient = jax.value_and_grad(losses.cross_entropy)(LOGITS, nothing)
  assert value == 0
  assert (gradient == 0).all()


@pytest.mark.parametrize('squared', [False, True])
def test_dice_by_hand(squared):
  known = PROBS.reshape(4, 3)[:3]
  truth = np.eye(3)
  power = 2 if squared else 1
  overlap = 2 * (known * truth).sum(0) + 1
  expected = (1 - overlap / ((known**power).sum(0) + truth.sum(0) + 1)).mean()
  assert losses.dice(LOGITS, LABELS, squared=squared) == pytest.approx(expected, rel=1e-5)


def test_dice_over_the_batch_by_hand():
  # Two images of two pixels. The first shows both classes, the second class 0 alone.
  probs = jnp.array([[[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.7, 0.3]]])
  labels = jnp.array([[0, 1], [0, 0]])
  # Class 0: 2 (0.9 + 0.6 + 0.7) / (2.4 + 3) = 0.814815; class 1: 2 * 0.8 / (1.6 + 1) = 0.615385.
  found = losses.dice(jnp.log(probs), labels, smooth=0.0, over='batch')
  assert found == pytest.approx(1 - (0.814815 + 0.615385) / 2, abs=1e-5)
  # Squared and smoothed by 1: class 0 (4.4 + 1) / (0.81 + 0.04 + 0.36 + 0.49 + 3 + 1) = 0.947368;
  # class 1 (1.6 + 1) / (0.01 + 0.64 + 0.16 + 0.09 + 1 + 1) = 0.896552.
  found = losses.dice(jnp.log(probs), labels, smooth=1.0, squared=True, over='batch')
  assert found == pytest.approx(1 - (0.947368 + 0.896552) / 2, abs=1e-5)
  # Image by image, class 1 of the second has nothing to overlap with:
  # (2 * 0.9 / 2.1 + 2 * 0.8 / 1.9 + 2 * 1.3 / 3.3 + 0) / 4 = 0.621782.
  found = losses.dice(jnp.log(probs), labels, smooth=0.0)
  assert found == pytest.approx(1 - 0.621782, abs=1e-5)


def test_dice_of_a_class_that_is_nowhere():
  # Without smoothing 0 / 0: the class counts as found, and has no gradient.
  logits = jnp.array([[[50.0, -200.0], [50.0, -200.0]]])
  value, gradient = jax.value_and_grad(losses.dice)(logits, jnp.zeros((1, 2), int), 0.0)
  assert value == pytest.approx(0.0, abs=1e-6)
  assert jnp.isfinite(gradient).all()


def test_dice_is_per_example():
  flat = jnp.zeros_like(LOGITS)
  both = jnp.concatenate([LOGITS, flat])
  labels = jnp.concatenate([LABELS, LABELS])
  apart = [losses.dice(x, LABELS) for x in (LOGITS, flat)]
  assert losses.dice(both, labels) == pytest.approx(np.mean(apart), rel=1e-6)


def test_squared_error_is_a_mean_over_classes_too():
  target = jnp.zeros_like(LOGITS).at[..., 0].set(1.0)
  valid = jnp.array([[[True, False], [False, False]]])
  expected = (0.3**2 + 0.2**2 + 0.1**2) / 3
  assert losses.squared_error(LOGITS, target, valid) == pytest.approx(expected, rel=1e-5)


class RampUpTest(chex.TestCase):
  """The step is a traced array in training, and may be a number elsewhere."""

  @chex.variants(with_jit=True, without_jit=True)
  def test_by_hand(self):
    ramp_up = self.variant(functools.partial(losses.ramp_up, steps=10))
    weights = [ramp_up(step) for step in (0, 5, 10, 20)]
    assert weights == pytest.approx([np.exp(-5), np.exp(-1.25), 1, 1], rel=1e-5)

  @chex.variants(with_jit=True, without_jit=True)
  def test_linear_by_hand(self):
    ramp_up = self.variant(functools.partial(losses.linear_ramp_up, steps=10))
    assert [ramp_up(step) for step in (0, 5, 10, 20)] == pytest.approx([0, 0.5, 1, 1])

  def test_no_steps_are_no_ramp(self):
    assert losses.ramp_up(0, 0) == losses.linear_ramp_up(0, 0) == 1


def test_sharpen_by_hand():
  expected = PROBS**2 / (PROBS**2).sum(-1, keepdims=True)
  np.testing.assert_allclose(losses.sharpen(SOFT, 0.5), expected, rtol=1e-5)
  np.testing.assert_array_equal(losses.sharpen(SOFT, 1.0), PROBS)
  certain = losses.sharpen(jnp.array([1.0, 0.0]), 0.5)
  np.testing.assert_allclose(certain, [1, 0], atol=1e-6)


def test_kl_divergence_by_hand():
  target = np.float32([0.5, 0.5, 0.0])
  valid = jnp.array([[[True, True], [False, True]]])
  weight = jnp.array([[[1.0, 0.0], [1.0, 1.0]]])

  def one(q):
    return 0.5 * np.log(0.5 / q[0]) + 0.5 * np.log(0.5 / q[1])

  expected = (one(PROBS[0, 0]) + one(PROBS[1, 1])) / 3  # the second counts in the mean, as a 0
  loss = losses.kl_divergence(LOGITS, jnp.broadcast_to(target, LOGITS.shape), valid, weight)
  assert loss == pytest.approx(expected, rel=1e-5)
  assert losses.kl_divergence(LOGITS, SOFT[None], valid) == pytest.approx(0, abs=1e-6)


def test_entropy_and_soft_cross_entropy_by_hand():
  valid = jnp.array([[[True, False], [False, True]]])
  chosen = PROBS[[0, 1], [0, 1]]
  expected = -(chosen * np.log(chosen)).sum(-1).mean()
  assert losses.entropy(LOGITS, valid) == pytest.approx(expected, rel=1e-5)
  assert losses.soft_cross_entropy(LOGITS, SOFT[None], valid) == pytest.approx(expected, rel=1e-5)


def _mutual_information(one, two, valid, radius, marginal):
  b, h, w, k = one.shape
  total, met = 0.0, 0
  for dy in range(-radius, radius + 1):
    for dx in range(-radius, radius + 1):
      joint = np.zeros((k, k))
      for n, y, x in np.ndindex(b, h, w):
        if 0 <= y + dy < h and 0 <= x + dx < w and valid[n, y, x] and valid[n, y + dy, x + dx]:
          joint += np.outer(one[n, y + dy, x + dx], two[n, y, x])
      if not joint.any():
        continue  # no two valid pixels are this far apart
      met += 1
      joint /= joint.sum()
      joint = (joint + joint.T) / 2
      rows, columns = joint.sum(1, keepdims=True), joint.sum(0, keepdims=True)
      total -= (joint * (np.log(joint) - marginal * (np.log(rows) + np.log(columns)))).sum()
  return total / max(met, 1)


@pytest.mark.parametrize(('radius', 'marginal'), [(0, 1.0), (2, 1.5)])
def test_mutual_information_by_hand(radius, marginal):
  rng = np.random.default_rng(0)
  one, two = rng.dirichlet(np.ones(3), (2, 2, 5, 4)).astype(np.float32)
  valid = rng.random((2, 5, 4)) < 0.8
  given = [jnp.asarray(x) for x in (one, two, valid)]
  loss = losses.mutual_information(*given, radius, marginal)
  assert loss == pytest.approx(_mutual_information(one, two, valid, radius, marginal), rel=1e-4)
  swapped = losses.mutual_information(
    given[0][..., ::-1], given[1][..., ::-1], given[2], radius, marginal
  )
  assert swapped == pytest.approx(float(loss), abs=1e-5)  # clusters have no order


@pytest.mark.parametrize('count', [0, 1, 6])
def test_mutual_information_of_few_valid_pixels(count):
  """Displacements under which none of them meet are left out, and so is their rounding."""
  rng = np.random.default_rng(count)
  one, two = rng.dirichlet(np.ones(3), (2, 1, 8, 8)).astype(np.float32)
  valid = np.zeros(64, bool)
  valid[rng.permutation(64)[:count]] = True
  valid = valid.reshape(1, 8, 8)

  def loss_of(probs):
    return losses.mutual_information(probs, jnp.asarray(two), jnp.asarray(valid), 3)

  loss, slope = jax.value_and_grad(loss_of)(jnp.asarray(one))
  expected = _mutual_information(one, two, valid, 3, 1.0)
  assert loss == pytest.approx(expected, rel=1e-3, abs=1e-6)
  assert np.abs(slope).max() < 10


def test_mutual_information_of_crops_smaller_than_the_window():
  same = jnp.broadcast_to(jnp.array([0.9, 0.1]), (1, 8, 8, 2))
  loss = losses.mutual_information(same, same, jnp.ones((1, 8, 8), bool), 10)
  assert loss == pytest.approx(0, abs=1e-5)


def test_mutual_information_of_what_is_certain_and_of_what_is_independent():
  certain = jnp.eye(2)[jnp.arange(16).reshape(1, 4, 4) % 2]
  valid = jnp.ones((1, 4, 4), bool)
  assert losses.mutual_information(certain, certain, valid) == pytest.approx(-np.log(2), rel=1e-5)
  same = jnp.full((1, 4, 4, 2), 0.5)
  assert losses.mutual_information(certain, same, valid) == pytest.approx(0, abs=1e-6)
  collapsed = jnp.broadcast_to(jnp.array([1.0, 0.0]), (1, 4, 4, 2))
  assert losses.mutual_information(collapsed, collapsed, valid) == pytest.approx(0, abs=1e-6)


def test_mutual_information_over_a_large_window_and_in_three_dimensions():
  """The joint distribution by Fourier transforms is that of the sums."""
  rng = np.random.default_rng(0)
  for space, radius in (((24, 17), 6), ((5, 6, 7), 2)):
    one, two = (jax.nn.softmax(jnp.asarray(rng.normal(size=(2, *space, 3)))) for _ in range(2))
    joint = losses._joint(one, two, radius)
    chex.assert_shape(joint, (3, 3, (2 * radius + 1) ** len(space)))
    padded = np.pad(one, [(0, 0)] + [(radius, radius)] * len(space) + [(0, 0)])
    sides = np.array(space)
    starts = np.array([*np.ndindex(*[2 * radius + 1] * len(space))])  # displacement + radius
    at = [(slice(None), *map(slice, start, start + sides)) for start in starts]
    flat = np.reshape(two, (-1, 3))
    sums = [padded[window].reshape(-1, 3).T @ flat for window in at]
    np.testing.assert_allclose(np.moveaxis(np.array(sums), 0, -1), joint, rtol=1e-4, atol=1e-4)
