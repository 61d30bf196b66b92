"""Pseudo-labels while training: the teacher's class is the label where the teacher is confident.

Lee 2013, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method".
"""

from collections.abc import Mapping

from jaxtyping import Array

from ssl_jax import losses
from ssl_jax.types import Key, LossTransform, Metrics, Outputs, Step, Teacher, Term, Views


def method(threshold: float = 0.95, weight: float = 1.0, ramp_up_steps: int = 0) -> LossTransform:
  """Returns FixMatch without a strong view: the weak view is taught, and learned from.

  Args:
    threshold: smallest probability of a class that is learned.
    weight: weight of the cross-entropy, mean over all valid pixels (confident or not).
    ramp_up_steps: steps over which the weight rises; 0: it is there from the start.
  """

  def ask(
    teacher: Teacher, views: Views, key: Key, step: Step
  ) -> tuple[Mapping[str, Term], Metrics]:
    weak = views['weak']
    probs = teacher(weak.image)
    # Teacher and student see the same pixels, so nothing has to be warped.
    target = probs.argmax(-1)
    confident = probs.max(-1) >= threshold

    def loss(logits: Outputs) -> Array:
      return losses.cross_entropy(logits, target, weak.valid, weight=confident)

    # The fraction of pixels that teach, to be logged.
    mask_rate = losses.valid_mean(confident.astype('float32'), weak.valid)
    ramped_weight = weight * losses.ramp_up(step, ramp_up_steps)
    term = Term(weak.image, loss, ramped_weight, view='weak', unlabeled=True)
    return {'unlabeled': term}, {'mask_rate': mask_rate}

  return ask
