"""Which pseudo-labels are trusted, and what they teach."""

import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax import confidence

# [1 image, 1 row, 6 columns, 2 classes]: four pixels of class 0, two of class 1.
SURE = jnp.array([0.99, 0.97, 0.8, 0.6, 0.3, 0.4])
PROBS = jnp.stack([SURE, 1 - SURE], -1)[None, None]
VALID = jnp.ones((1, 1, 6), bool)


def _trusted(**kwargs):
  return np.asarray(confidence.confident_pixels(PROBS, VALID, 0.95, **kwargs))[0, 0].tolist()


def test_one_threshold_for_all():
  assert _trusted() == [True, True, False, False, False, False]


def test_at_least_a_part_of_each_class_the_surest_first():
  # Half of class 0 is above the threshold anyway; of class 1 (0.7 and 0.6) the surer one comes in.
  assert _trusted(class_share=0.5) == [True, True, False, False, True, False]
  assert _trusted(class_share=0.75) == [True, True, True, False, True, True]
  assert all(_trusted(class_share=1.0))


def test_padding_is_not_counted():
  valid = VALID.at[0, 0, 4].set(False)
  trusted = confidence.confident_pixels(PROBS, valid, 0.95, class_share=0.5)
  # The last pixel is all that class 1 has.
  assert bool(trusted[0, 0, 5])


def test_rates_are_told_by_class():
  trusted = confidence.confident_pixels(PROBS, VALID, 0.95)
  rates = confidence.mask_rates(PROBS, trusted, VALID)
  assert {name: pytest.approx(float(rate)) for name, rate in rates.items()} == {
    'mask_rate': 2 / 6,
    'mask_rate/0': 0.5,
    'mask_rate/1': 0.0,
  }
  only = confidence.mask_rates(PROBS[:, :, :4], trusted[:, :, :4], VALID[:, :, :4])
  assert only['mask_rate/1'] == 1  # a class that is predicted nowhere lacks nothing


def test_losses_of_pseudo_labels_by_hand():
  logits = jnp.log(PROBS)
  labels = jnp.array([[[0, 0, 0, 0, 1, 1]]])
  trusted = jnp.array([[[True, True, False, False, True, False]]])
  cross_entropy = -(np.log(0.99) + np.log(0.97) + np.log(0.7)) / 6
  got = confidence.confident_loss(logits, labels, VALID, trusted, 1.0, 0.0)
  assert got == pytest.approx(cross_entropy, rel=1e-5)
  # Over the confident pixels of the batch: 2 sum(p q) / (sum p^2 + sum q^2) of each class.
  p, q = np.array([0.99, 0.97, 0.3]), np.array([1.0, 1.0, 0.0])
  ratios = []
  for predicted, truth in ((p, q), (1 - p, 1 - q)):
    ratios.append(2 * (predicted * truth).sum() / ((predicted**2).sum() + (truth**2).sum()))
  dice = 1 - np.mean(ratios)
  assert confidence.confident_loss(logits, labels, VALID, trusted, 0.0, 1.0) == pytest.approx(
    dice, rel=1e-4
  )
  assert confidence.confident_loss(logits, labels, VALID, trusted, 0.5, 2.0) == pytest.approx(
    0.5 * cross_entropy + 2 * dice, rel=1e-4
  )
