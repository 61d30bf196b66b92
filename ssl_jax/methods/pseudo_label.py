"""Pseudo-labels while training: the teacher's class is the label where the teacher is confident.

Lee 2013, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method".
"""

from collections.abc import Mapping

from jaxtyping import Array

from ssl_jax import losses
from ssl_jax.methods import confidence
from ssl_jax.types import Key, LossTransform, Metrics, Outputs, Step, Teacher, Term, Views


def method(
  threshold: float = 0.95,
  weight: float = 1.0,
  ramp_up_steps: int = 0,
  class_share: float = 0.0,
  weighting: str = 'threshold',
  hold_back: bool = False,
) -> LossTransform:
  """Returns FixMatch without a strong view: the weak view is taught, and learned from.

  Args:
    threshold: smallest probability of a class that is learned.
    weight: weight of the cross-entropy, mean over all valid pixels (confident or not).
    ramp_up_steps: steps over which the weight rises; 0: it is there from the start.
    class_share: part of the pixels of each class that teaches at least, however unsure the teacher.
    weighting: how far each pixel is trusted, by confidence.WEIGHTINGS.
    hold_back: whether nothing is learned while a class that the teacher predicts has no confident
      pixel.

  Raises:
    UserError: if `weighting` is unknown.
  """
  confidence.check_weighting('pseudo_label', weighting)

  def ask(
    teacher: Teacher, views: Views, key: Key, step: Step
  ) -> tuple[Mapping[str, Term], Metrics]:
    weak = views['weak']
    probs = teacher(weak.image)
    # Teacher and student see the same pixels, so nothing has to be warped.
    target = probs.argmax(-1)
    confident = confidence.pixel_weights(
      probs, weak.valid, threshold, class_share, weighting, hold_back
    )

    def loss(logits: Outputs) -> Array:
      return losses.cross_entropy(logits, target, weak.valid, weight=confident)

    ramped_weight = weight * losses.ramp_up(step, ramp_up_steps)
    term = Term(weak.image, loss, ramped_weight, view='weak', unlabeled=True)
    return {'unlabeled': term}, confidence.mask_rates(probs, confident, weak.valid)

  return ask
