"""Pseudo-labels while training: the teacher's class is the truth where it is sure.

Lee 2013, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method".
"""

from ssl_jax import losses
from ssl_jax.types import LossTransform, Term


def method(threshold: float = 0.95, weight: float = 1.0, ramp: int = 0) -> LossTransform:
  """FixMatch without a strong view: cross-entropy of the weak view with the teacher's own class."""

  def ask(teacher, views, key, step):
    weak = views['weak']
    probs = teacher(weak.image)
    target, sure = probs.argmax(-1), probs.max(-1) >= threshold

    def loss(logits):
      return losses.cross_entropy(logits, target, weak.valid, weight=sure)

    trusted = losses.valid_mean(sure.astype('float32'), weak.valid)
    term = Term(weak.image, loss, weight * losses.ramp_up(step, ramp))
    return {'unlabeled': term}, {'trusted': trusted}

  return ask
