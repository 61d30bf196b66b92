"""Pseudo-labels of a teacher: which pixels are trusted, and what they teach."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ssl_jax import losses
from ssl_jax.errors import UserError
from ssl_jax.types import View

WEIGHTINGS = ('threshold', 'soft', 'entropy')
"""How much a pixel's label counts; see `pixel_weights`."""

CONFIDENCE_BINS = 200
"""Bins of probability by which `confident_pixels` finds a class's threshold."""

ALIGN_LIMIT = 2.0
"""By how much `align_classes` multiplies or divides a class at most."""


def confident_loss(
  logits: Float[Array, 'b *space k'],
  labels: Int[Array, 'b *space'],
  valid: Bool[Array, 'b *space'],
  trust: Bool[Array, 'b *space'] | Float[Array, 'b *space'],
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
    trust: how far each pixel's label is trusted, 0 to 1.
    cross_entropy_weight: weight of the cross-entropy; 0 leaves it out.
    dice: weight of the Dice loss; 0 leaves it out.
  """
  total = jnp.zeros(())
  if cross_entropy_weight:
    total += cross_entropy_weight * losses.cross_entropy(logits, labels, valid, weight=trust)
  if dice:
    target = jax.nn.one_hot(labels, logits.shape[-1])
    # Almost no smoothing: a class that is rare must count as much as one that is not.
    total += dice * losses.soft_dice(
      logits, target, valid * trust, smooth=1e-5, squared=True, over='batch'
    )
  return total


def check_weighting(method: str, weighting: str) -> None:
  """Checks the field `weighting` of a method.

  Raises:
    UserError: if it is none of WEIGHTINGS.
  """
  if weighting not in WEIGHTINGS:
    raise UserError(
      f'methods.{method}.weighting={weighting!r} is not one of {", ".join(WEIGHTINGS)}.'
    )


def align_classes(
  probs: Float[Array, 'b *space k'], valid: Bool[Array, 'b *space'], labeled: View
) -> Float[Array, 'b *space k']:
  """Returns probabilities whose classes are about as frequent as among the labels of this step.

  Distribution alignment (Berthelot et al. 2020, "ReMixMatch", arXiv:1911.09785): with few labels a
  network confuses two classes in images unlike the labeled ones, always in the same direction, and
  would teach itself to. The paper's frequencies are running means over many small images; here
  they are those of the pixels of the batch, and no class is multiplied or divided by more than
  ALIGN_LIMIT, since a few crops are a small sample of images.

  Args:
    probs: the teacher's probabilities.
    valid: pixels that are no padding; only these are counted.
    labeled: the labeled view; pixels without a label are not counted.
  """
  classes = probs.shape[-1]
  axes = tuple(range(valid.ndim))
  known = labeled.valid & (labeled.label < classes)
  of_labels = (jax.nn.one_hot(labeled.label, classes) * known[..., None]).sum(axes)
  of_labels = of_labels / jnp.maximum(known.sum(), 1)
  of_teacher = (probs * valid[..., None]).sum(axes) / jnp.maximum(valid.sum(), 1)
  ratio = of_labels / jnp.maximum(of_teacher, losses.TINY)
  aligned = probs * jnp.clip(ratio, 1 / ALIGN_LIMIT, ALIGN_LIMIT)
  return aligned / aligned.sum(-1, keepdims=True)


def pixel_weights(
  probs: Float[Array, 'b *space k'],
  valid: Bool[Array, 'b *space'],
  threshold: float,
  class_share: float = 0.0,
  weighting: str = 'threshold',
  hold_back: bool = False,
) -> Bool[Array, 'b *space'] | Float[Array, 'b *space']:
  """Returns how far the teacher's class is trusted at each pixel, 0 to 1.

  'threshold' trusts confident pixels wholly and no others (`confident_pixels`). 'soft' trusts those
  of at least the mean confidence wholly, and others by a Gaussian of their distance to it, whose
  deviation is half that of the confidences (SoftMatch, Chen et al. 2023, arXiv:2301.10921; its
  mean and variance are those of the batch here, which has many pixels). 'entropy' trusts all by
  1 - H / log K, where H is the entropy of the K probabilities.

  Args:
    probs: the teacher's probabilities.
    valid: pixels that are no padding; only these are counted.
    threshold: smallest probability of 'threshold'.
    class_share: see `confident_pixels`.
    weighting: one of WEIGHTINGS.
    hold_back: whether no pixel is trusted while a class that the teacher predicts somewhere has no
      pixel of at least `threshold`: the class would be unlearned, because only others teach.
  """
  confident = confident_pixels(probs, valid, threshold, class_share)
  trust = confident
  confidence = probs.max(-1)
  if weighting == 'soft':
    mean = losses.valid_mean(confidence, valid)
    variance = losses.valid_mean((confidence - mean) ** 2, valid)
    below = jnp.minimum(confidence - mean, 0)
    # Two deviations of the confidences are one of the Gaussian: sigma^2 is variance / 4.
    trust = jnp.exp(-(below**2) / jnp.maximum(2 * variance / 4, losses.TINY))
  if weighting == 'entropy':
    entropy = -(probs * jnp.log(jnp.maximum(probs, losses.TINY))).sum(-1)
    trust = 1 - entropy / math.log(probs.shape[-1])
  if hold_back:
    trust = trust * _every_class_confident(probs, confidence >= threshold, valid)
  return trust


def _every_class_confident(probs: Array, confident: Array, valid: Array) -> Array:
  """Whether each class that is predicted at a valid pixel has a confident one."""
  of_class = jax.nn.one_hot(probs.argmax(-1), probs.shape[-1], dtype=bool) & valid[..., None]
  axes = tuple(range(valid.ndim))
  return (~of_class.any(axes) | (of_class & confident[..., None]).any(axes)).all()


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
  trust: Bool[Array, 'b *space'] | Float[Array, 'b *space'],
  valid: Bool[Array, 'b *space'],
) -> dict[str, Array]:
  """Returns the mean trust in pixels, over all valid ones and by class, to be logged.

  Where pixels are trusted wholly or not at all, it is the part of them that teach.
  At 0 nothing is learned from the unlabeled images, at 1 nothing is filtered. A class that is
  predicted nowhere counts as 1: nothing is missing.
  """
  taught = trust.astype(jnp.float32)
  rates = {'mask_rate': losses.valid_mean(taught, valid)}
  of_class = jax.nn.one_hot(probs.argmax(-1), probs.shape[-1]) * valid[..., None]
  axes = tuple(range(valid.ndim))
  counts = of_class.sum(axes)
  by_class = jnp.where(counts > 0, (of_class * taught[..., None]).sum(axes) / counts, 1.0)
  return rates | {f'mask_rate/{number}': rate for number, rate in enumerate(by_class)}
