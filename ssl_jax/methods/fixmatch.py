"""FixMatch: the teacher's confident classes for the weak view are labels of the strong view.

Sohn et al. 2020, "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence".
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array

from ssl_jax import losses
from ssl_jax.methods import confidence
from ssl_jax.types import Key, LossTransform, Metrics, Outputs, Step, Teacher, Term, Views
from ssl_jax.views import geometry


def method(
  threshold: float = 0.95,
  weight: float = 1.0,
  ramp_up_steps: int = 0,
  all_pixels: bool = False,
  cross_entropy: float = 1.0,
  dice: float = 0.0,
  own_statistics: bool = False,
  class_share: float = 0.0,
  weighting: str = 'threshold',
  hold_back: bool = False,
  align_classes: bool = False,
) -> LossTransform:
  """Returns a method that learns the teacher's class wherever the teacher is confident.

  Args:
    threshold: smallest probability of a class that is learned.
    weight: weight of the losses together.
    ramp_up_steps: steps over which the weight rises; 0, as in the paper: it is there at once.
    all_pixels: learn from padding as well, and divide by all pixels, as some implementations do.
    cross_entropy: weight of the cross-entropy, mean over all valid pixels (confident or not).
    dice: weight of the Dice loss over confident pixels; the paper has none.
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
  confidence.check_weighting('fixmatch', weighting)

  def ask(
    teacher: Teacher, views: Views, key: Key, step: Step
  ) -> tuple[Mapping[str, Term], Metrics]:
    weak, strong = views['weak'], views['strong']
    # [B, *space, classes]; no gradient flows into the teacher.
    probs = teacher(weak.image)
    if align_classes:
      probs = confidence.align_classes(probs, weak.valid, views['labeled'])
    # Pseudo-labels, brought to the pixels of the strong view. Probabilities are not interpolated:
    # each pixel takes the class and the confidence of one teacher pixel.
    trusted = confidence.pixel_weights(
      probs, weak.valid, threshold, class_share, weighting, hold_back
    )
    target, seen = geometry.warp(probs.argmax(-1), weak, strong)
    confident, _ = geometry.warp(trusted, weak, strong, nearest=True)
    valid = seen & strong.valid
    if all_pixels:
      valid = jnp.ones_like(valid)
      # The noise of a cut-out still teaches nothing, on padding as little as on the image.
      if strong.cut is not None:
        confident = confident * ~strong.cut

    def loss(logits: Outputs) -> Array:
      return confidence.confident_loss(logits, target, valid, confident, cross_entropy, dice)

    # To be logged: how many pixels of the strong view teach, and of each class.
    rates = confidence.mask_rates(probs, trusted, weak.valid)
    rates['mask_rate'] = losses.valid_mean(confident.astype('float32'), valid)
    ramped_weight = weight * losses.ramp_up(step, ramp_up_steps)
    term = Term(
      strong.image,
      loss,
      ramped_weight,
      view='strong',
      unlabeled=True,
      own_statistics=own_statistics,
    )
    return {'unlabeled': term}, rates

  return ask
