"""Pseudo-labels of a teacher: which pixels are trusted, and what they teach."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ssl_jax import losses

CONFIDENCE_BINS = 200
"""Bins of probability by which `confident_pixels` finds a class's threshold."""


def confident_loss(
  logits: Float[Array, 'b *space k'],
  labels: Int[Array, 'b *space'],
  valid: Bool[Array, 'b *space'],
  confident: Bool[Array, 'b *space'],
  cross_entropy_weight: float = 1.0,
  dice: float = 0.0,
) -> Float[Array, '']:
  """Returns what pseudo-labels teach: cross-entropy, and the Dice loss where it has a weight.

  The cross-entropy is a mean over all valid pixels, confident or not, so that an uncertain teacher
  gives a small loss. The Dice loss is that of V-Net over the confident pixels of the whole batch
  (Yang et al. 2023, "UniMatch", for medical images).

  Args:
    logits: predictions.
    labels: class ids that the teacher is most sure of.
    valid: pixels that are no padding.
    confident: pixels whose label is trusted.
    cross_entropy_weight: weight of the cross-entropy; 0 leaves it out.
    dice: weight of the Dice loss; 0 leaves it out.
  """
  total = jnp.zeros(())
  if cross_entropy_weight:
    total += cross_entropy_weight * losses.cross_entropy(logits, labels, valid, weight=confident)
  if dice:
    target = jax.nn.one_hot(labels, logits.shape[-1])
    # Almost no smoothing: a class that is rare must count as much as one that is not.
    total += dice * losses.soft_dice(
      logits, target, valid & confident, smooth=1e-5, squared=True, over='batch'
    )
  return total


def confident_pixels(
  probs: Float[Array, 'b *space k'],
  valid: Bool[Array, 'b *space'],
  threshold: float,
  class_share: float = 0.0,
) -> Bool[Array, 'b *space']:
  """Returns which pixels teach their most probable class: those of at least `threshold`.

  With `class_share`, at least that part of the pixels of each such class teaches, the surest first:
  a class that the network is less sure of would otherwise have no teacher, and be taught away
  (class-balanced self-training, Zou et al. 2018, arXiv:1810.07911).

  Args:
    probs: the teacher's probabilities.
    valid: pixels that are no padding; only these are counted.
    threshold: smallest probability.
    class_share: the part of each class in [0, 1]; 0 has one threshold for all.
  """
  confidence, target = probs.max(-1), probs.argmax(-1)
  confident = confidence >= threshold
  if not class_share:
    return confident
  # How many pixels of each class fall into each bin of confidence: sorting would take far longer.
  classes = probs.shape[-1]
  bins = jnp.clip((confidence * CONFIDENCE_BINS).astype(jnp.int32), 0, CONFIDENCE_BINS - 1)
  counts = jnp.zeros((classes, CONFIDENCE_BINS), jnp.int32).at[target, bins].add(valid)
  # [classes, bins]: the part of a class in this bin and those above it.
  above = jnp.flip(jnp.cumsum(jnp.flip(counts, 1), 1), 1)
  share = above / jnp.maximum(above[:, :1], 1)
  # The highest bin at which the part is large enough; the lowest holds all of the class.
  lowest = (share >= class_share).sum(1) - 1
  return confident | (bins >= lowest[target])


def mask_rates(
  probs: Float[Array, 'b *space k'],
  confident: Bool[Array, 'b *space'],
  valid: Bool[Array, 'b *space'],
) -> dict[str, Array]:
  """Returns the part of the pixels that teach, of all valid ones and by class, to be logged.

  At 0 nothing is learned from the unlabeled images, at 1 nothing is filtered. A class that is
  predicted nowhere counts as 1: nothing is missing.
  """
  taught = confident.astype(jnp.float32)
  rates = {'mask_rate': losses.valid_mean(taught, valid)}
  of_class = jax.nn.one_hot(probs.argmax(-1), probs.shape[-1]) * valid[..., None]
  axes = tuple(range(valid.ndim))
  counts = of_class.sum(axes)
  by_class = jnp.where(counts > 0, (of_class * taught[..., None]).sum(axes) / counts, 1.0)
  return rates | {f'mask_rate/{number}': rate for number, rate in enumerate(by_class)}
