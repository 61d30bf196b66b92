"""UDA: the student's prediction for a strong view must be the teacher's for the weak one.

Xie et al. 2020, "Unsupervised Data Augmentation for Consistency Training"; per pixel, with the KL
divergence or with mutual information.
"""

from collections.abc import Mapping

import jax
from jaxtyping import Array

from ssl_jax import losses
from ssl_jax.errors import UserError
from ssl_jax.types import Key, LossTransform, Metrics, Outputs, Step, Teacher, Term, Views
from ssl_jax.views import geometry


def method(
  divergence: str = 'kl',
  temperature: float = 1.0,
  threshold: float = 0.0,
  weight: float = 1.0,
  ramp_up_steps: int = 0,
  radius: int = 0,
  marginal: float = 1.0,
) -> LossTransform:
  """Returns a method that warps the strong view's prediction to the weak view and compares there.

  Args:
    divergence: 'kl', the divergence of the prediction from the teacher's; or 'iid', minus the
      mutual information of the two.
    temperature: 'kl': sharpens the teacher's probabilities; 1 leaves them as they are.
    threshold: pixels count where the teacher's confidence is above it.
    weight: weight of the divergence.
    ramp_up_steps: steps over which the weight rises; 0: it is there from the start.
    radius: 'iid': as in iic.py.
    marginal: 'iid': as in iic.py.

  Raises:
    UserError: if the divergence is unknown.
  """
  if divergence not in ('kl', 'iid'):
    raise UserError(f"methods.uda.divergence={divergence!r} is neither 'kl' nor 'iid'.")

  def ask(
    teacher: Teacher, views: Views, key: Key, step: Step
  ) -> tuple[Mapping[str, Term], Metrics]:
    weak, strong = views['weak'], views['strong']
    # The targets stay on the weak view; what moves is the student's prediction.
    probs = teacher(weak.image)
    target = losses.sharpen(probs, temperature)
    confident = probs.max(-1) > threshold

    def loss(logits: Outputs) -> Array:
      # Back through the strong view's rotation. Pixels that left the image do not count.
      if divergence == 'kl':
        aligned, seen = geometry.warp(logits, strong, weak)
        # Unconfident pixels count as 0 in the mean.
        return losses.kl_divergence(aligned, target, seen & weak.valid, weight=confident)
      # Probabilities are warped, not logits, as in iic.py.
      student_probs, seen = geometry.warp(jax.nn.softmax(logits), strong, weak)
      # The joint distribution has no weights: unconfident pixels are left out.
      valid = seen & weak.valid & confident
      return losses.mutual_information(probs, student_probs, valid, radius, marginal)

    # The fraction of pixels that teach, to be logged.
    mask_rate = losses.valid_mean(confident.astype('float32'), weak.valid)
    ramped_weight = weight * losses.ramp_up(step, ramp_up_steps)
    term = Term(strong.image, loss, ramped_weight, view='strong', unlabeled=True)
    return {'unlabeled': term}, {'mask_rate': mask_rate}

  return ask
