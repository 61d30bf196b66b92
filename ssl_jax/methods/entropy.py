"""Entropy minimization: predictions for unlabeled pixels should be certain.

Grandvalet & Bengio 2004, "Semi-supervised Learning by Entropy Minimization".
"""

from collections.abc import Mapping

from jaxtyping import Array

from ssl_jax import losses
from ssl_jax.types import Key, LossTransform, Metrics, Outputs, Step, Teacher, Term, Views


def method(weight: float = 0.1, ramp_up_steps: int = 0) -> LossTransform:
  """Returns a method that lowers the entropy of the student's predictions for the weak view.

  Args:
    weight: weight of the entropy in nats, mean over valid pixels.
    ramp_up_steps: steps over which the weight rises; 0: it is there from the start.
  """

  def ask(
    teacher: Teacher, views: Views, key: Key, step: Step
  ) -> tuple[Mapping[str, Term], Metrics]:
    weak = views['weak']

    # No target: the gradient goes through the whole prediction. One class everywhere would be a
    # minimum too, which the supervised loss beside it has to prevent.
    def loss(logits: Outputs) -> Array:
      return losses.entropy(logits, weak.valid)

    ramped_weight = weight * losses.ramp_up(step, ramp_up_steps)
    term = Term(weak.image, loss, ramped_weight, view='weak', unlabeled=True)
    return {'unlabeled': term}, {}

  return ask
