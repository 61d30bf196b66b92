"""Losses against values worked out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax import losses
from ssl_jax.types import IGNORE

PROBS = np.float32([[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]], [[0.3, 0.3, 0.4], [0.25, 0.25, 0.5]]])
LOGITS = jnp.log(PROBS)[None]  # [1, 2, 2, 3]
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
  import jax

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


def test_ramp_up_by_hand():
  found = [losses.ramp_up(step, 10) for step in (0, 5, 10, 20)]
  assert found == pytest.approx([np.exp(-5), np.exp(-1.25), 1, 1], rel=1e-5)
  assert losses.ramp_up(0, 0) == 1
