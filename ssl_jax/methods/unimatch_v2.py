"""UniMatch V2: two strong views, each with the half of the features that the other one drops.

Yang et al. 2024, "UniMatch V2: Pushing the Limit of Semi-Supervised Semantic Segmentation"
(arXiv:2410.10777); meant for `teacher='ema'`.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssl_jax import losses
from ssl_jax.methods import confidence
from ssl_jax.types import (
  FeatureMask,
  Key,
  LossTransform,
  Metrics,
  Outputs,
  Step,
  Teacher,
  Term,
  Views,
)
from ssl_jax.views import geometry


def method(
  threshold: float = 0.95,
  weight: float = 1.0,
  ramp_up_steps: int = 0,
  dropped_images: float = 0.5,
  cross_entropy: float = 1.0,
  dice: float = 0.0,
  own_statistics: bool = False,
  class_share: float = 0.0,
  weighting: str = 'threshold',
  hold_back: bool = False,
  align_classes: bool = False,
) -> LossTransform:
  """Returns a method that learns the teacher's confident classes from two strong views.

  Half of the weight is on each of 'strong' and 'strong2'. There is no third view: the features of
  these two are dropped, complementarily.

  Args:
    threshold: smallest probability of a class that is learned.
    weight: weight of both losses together.
    ramp_up_steps: steps over which the weight rises; 0: it is there from the start.
    dropped_images: fraction of the images whose features are dropped; the others keep all, in both
      views (half of them in the authors' code).
    cross_entropy: weight of the cross-entropy in each loss.
    dice: weight of the Dice loss in each; the paper has none.
    own_statistics: whether strong views have statistics of their own in batch normalization, and
      leave those for prediction alone.
    class_share: part of the pixels of each class that teaches at least, however unsure the teacher.
    weighting: how far each pixel is trusted, by confidence.WEIGHTINGS.
    hold_back: whether nothing is learned while a class that the teacher predicts has no confident
      pixel.
    align_classes: whether the teacher's classes are made about as frequent as the labels' first.

  Raises:
    UserError: if `weighting` is unknown.
  """
  confidence.check_weighting('unimatch_v2', weighting)

  def ask(
    teacher: Teacher, views: Views, key: Key, step: Step
  ) -> tuple[Mapping[str, Term], Metrics]:
    weak = views['weak']
    probs = teacher(weak.image)
    if align_classes:
      probs = confidence.align_classes(probs, weak.valid, views['labeled'])
    # Warped later, each pixel from one of the teacher's: neither is interpolated.
    confident = confidence.pixel_weights(
      probs, weak.valid, threshold, class_share, weighting, hold_back
    )
    target = probs.argmax(-1)
    ramped_weight = weight * losses.ramp_up(step, ramp_up_steps)
    masks = complementary_masks(key, len(weak.image), dropped_images)

    def term(name: str, mask: FeatureMask) -> Term:
      view = views[name]
      # Each view has its own CutMix, and so its own targets.
      warped_target, seen = geometry.warp(target, weak, view)
      warped_confident, _ = geometry.warp(confident, weak, view, nearest=True)
      valid = seen & view.valid

      def loss(logits: Outputs) -> Array:
        return confidence.confident_loss(
          logits, warped_target, valid, warped_confident, cross_entropy, dice
        )

      return Term(
        view.image,
        loss,
        0.5 * ramped_weight,
        feature_mask=mask,
        view=name,
        unlabeled=True,
        own_statistics=own_statistics,
      )

    terms = {'strong': term('strong', masks[0]), 'strong2': term('strong2', masks[1])}
    return terms, confidence.mask_rates(probs, confident, weak.valid)

  return ask


def complementary_masks(
  key: Key, batch: int, dropped_images: float
) -> tuple[FeatureMask, FeatureMask]:
  """Returns two masks of features, each with the channels that the other one drops.

  A channel is in the one or the other with equal probability, and doubled there. Features with
  equally many channels have the same mask, as all layers of the paper's encoder do.

  Args:
    key: what both masks are drawn from.
    batch: number of images.
    dropped_images: fraction of them, drawn at random, whose features are dropped.
  """
  image_key, channel_key = jax.random.split(key)
  # As many of each batch, not each image by chance.
  num_kept = int(batch * (1 - dropped_images))
  dropped = jax.random.permutation(image_key, batch) >= num_kept

  def first(channels: int) -> Float[Array, 'b channels']:
    drawn = jax.random.bernoulli(channel_key, 0.5, (batch, channels))
    return jnp.where(dropped[:, None], 2.0 * drawn, 1.0)

  def second(channels: int) -> Float[Array, 'b channels']:
    # What is 2 becomes 0, what is 0 becomes 2, and 1 stays.
    return 2.0 - first(channels)

  return first, second
