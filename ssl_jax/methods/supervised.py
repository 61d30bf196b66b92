"""Learning from labels: cross-entropy, with soft Dice beside it where asked."""

from ssl_jax import losses
from ssl_jax.types import LossTransform, Term


def method(weight: float = 1.0, dice: float = 0.0, view: str = 'labeled') -> LossTransform:
  """Cross-entropy over labelled pixels plus `dice` times the soft Dice loss."""

  def ask(teacher, views, key, step):
    seen = views[view]

    def loss(logits):
      total = losses.cross_entropy(logits, seen.label)
      return total + dice * losses.dice(logits, seen.label) if dice else total

    return {view: Term(seen.image, loss, weight)}, {}

  return ask
