"""Which pseudo-labels are trusted, and what they teach."""

import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax import registry
from ssl_jax.errors import UserError
from ssl_jax.methods import confidence
from ssl_jax.types import View

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


def _weights(**kwargs):
  return np.asarray(confidence.pixel_weights(PROBS, VALID, 0.95, **kwargs))[0, 0]


def test_soft_weights_fall_off_below_the_mean_confidence():
  sure = np.array([0.99, 0.97, 0.8, 0.6, 0.7, 0.6])
  mean, variance = sure.mean(), sure.var()
  expected = np.where(sure < mean, np.exp(-((sure - mean) ** 2) / (2 * variance / 4)), 1.0)
  np.testing.assert_allclose(_weights(weighting='soft'), expected, rtol=1e-4)
  # Padding has no part in the mean: with the unsure pixels gone, the third is below it.
  valid = VALID.at[0, 0, 3:].set(False)
  weights = confidence.pixel_weights(PROBS, valid, 0.95, weighting='soft')
  assert weights[0, 0, 2] < 0.2
  assert expected[2] == 1


def test_entropy_weights_are_1_for_the_certain_and_0_for_the_clueless():
  probs = jnp.array([[[[1.0, 0.0], [0.5, 0.5], [0.9, 0.1]]]])
  weights = confidence.pixel_weights(probs, VALID[..., :3], 0.95, weighting='entropy')
  entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1)) / np.log(2)
  np.testing.assert_allclose(weights[0, 0], [1, 0, 1 - entropy], atol=1e-5)


@pytest.mark.parametrize('weighting', confidence.WEIGHTINGS)
def test_nothing_teaches_while_a_predicted_class_has_no_confident_pixel(weighting):
  # Class 1 is predicted twice, at 0.7 and 0.6.
  assert not _weights(weighting=weighting, hold_back=True).any()
  surer = PROBS.at[0, 0, 4].set(jnp.array([0.02, 0.98]))
  weights = confidence.pixel_weights(surer, VALID, 0.95, 0.0, weighting, True)
  plain = confidence.pixel_weights(surer, VALID, 0.95, 0.0, weighting)
  np.testing.assert_array_equal(weights, plain)
  # A class that is predicted in padding alone holds nothing back.
  valid = VALID.at[0, 0, 4:].set(False)
  assert np.asarray(confidence.pixel_weights(PROBS, valid, 0.95, 0.0, weighting, True)).any()


@pytest.mark.parametrize('method', ['fixmatch', 'unimatch', 'unimatch_v2', 'pseudo_label'])
def test_an_unknown_weighting_is_refused(method):
  with pytest.raises(UserError, match=f'methods.{method}.weighting=.hard. is not one of thresh'):
    registry.build('methods', method, {'weighting': 'hard'})


def test_weights_count_in_both_losses():
  logits = jnp.log(PROBS)
  labels = jnp.array([[[0, 0, 0, 0, 1, 1]]])
  trust = jnp.array([[[1.0, 0.5, 0.0, 0.25, 0.0, 0.0]]])
  cross_entropy = -(np.log(0.99) + 0.5 * np.log(0.97) + 0.25 * np.log(0.6)) / 6
  got = confidence.confident_loss(logits, labels, VALID, trust, 1.0, 0.0)
  assert got == pytest.approx(cross_entropy, rel=1e-5)
  p, w = np.array([0.99, 0.97, 0.6]), np.array([1.0, 0.5, 0.25])
  first = 2 * (w * p).sum() / ((w * p**2).sum() + w.sum())
  # Class 1 is nowhere the label, so it has no overlap.
  got = confidence.confident_loss(logits, labels, VALID, trust, 0.0, 1.0)
  assert got == pytest.approx(1 - first / 2, rel=1e-3)


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


def _labels(ids):
  label = jnp.array(ids)[None, None]
  valid = jnp.ones(label.shape, bool).at[0, 0, -1].set(False)
  return View(jnp.zeros((*label.shape, 1)), valid, jnp.zeros((1, 2, 3)), label)


def test_classes_of_the_teacher_become_as_frequent_as_those_of_the_labels():
  # Of six pixels one is padding and one has no label: class 1 is 3 of 4. The teacher's class 0 is
  # 4.06 / 6 and class 1 1.94 / 6, so these are multiplied by 0.5 (0.369 is below the limit) and 2.
  aligned = confidence.align_classes(PROBS, VALID, _labels([0, 1, 1, 1, 255, 0]))
  expected = 0.5 * SURE / (0.5 * SURE + 2 * (1 - SURE))
  np.testing.assert_allclose(aligned[0, 0, :, 0], expected, rtol=1e-6)
  np.testing.assert_allclose(aligned.sum(-1), 1, rtol=1e-6)


def test_where_frequencies_agree_nothing_is_aligned():
  half = jnp.stack([jnp.array([0.9, 0.1, 0.6, 0.4]), jnp.array([0.1, 0.9, 0.4, 0.6])], -1)
  label = jnp.array([0, 1, 0, 1])[None, None]
  labeled = View(jnp.zeros((1, 1, 4, 1)), jnp.ones((1, 1, 4), bool), jnp.zeros((1, 2, 3)), label)
  aligned = confidence.align_classes(half[None, None], jnp.ones((1, 1, 4), bool), labeled)
  np.testing.assert_allclose(aligned[0, 0], half, rtol=1e-6)


def test_padding_of_the_teacher_is_not_counted_when_classes_are_aligned():
  valid = VALID.at[0, 0, 0].set(False)
  labels = _labels([0, 1, 0, 1, 255, 0])
  aligned = confidence.align_classes(PROBS, valid, labels)
  share = float(SURE[1:].mean())
  odds = 0.5 / share / (0.5 / (1 - share))
  expected = odds * SURE / (odds * SURE + 1 - SURE)
  np.testing.assert_allclose(aligned[0, 0, :, 0], expected, rtol=1e-6)
