"""Entropy minimisation: be sure of unlabeled pixels, whatever they are.

Grandvalet & Bengio 2004, "Semi-supervised Learning by Entropy Minimization".
"""

from ssl_jax import losses
from ssl_jax.types import LossTransform, Term


def method(weight: float = 0.1, ramp: int = 0) -> LossTransform:
  """The entropy of the student's answer to the weak view, mean over valid pixels."""

  def ask(teacher, views, key, step):
    weak = views['weak']

    def loss(logits):
      return losses.entropy(logits, weak.valid)

    return {'unlabeled': Term(weak.image, loss, weight * losses.ramp_up(step, ramp))}, {}

  return ask
