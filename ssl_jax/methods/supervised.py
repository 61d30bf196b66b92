"""Learning from labels: cross-entropy, with soft Dice beside it where asked."""

from collections.abc import Sequence

from ssl_jax import losses
from ssl_jax.types import LossTransform, Term


def method(
  weight: float = 1.0, dice: float = 0.0, shown: Sequence[str] = ('labeled',)
) -> LossTransform:
  """Cross-entropy over labelled pixels plus `dice` times the soft Dice loss, mean over `shown`.

  Those views may hold masks that people drew, or that an earlier stage wrote (self-training, Yang
  et al. 2022, arXiv:2106.05095).
  """

  def ask(teacher, views, key, step):
    def term(view):
      def loss(logits):
        total = losses.cross_entropy(logits, view.label)
        return total + dice * losses.dice(logits, view.label) if dice else total

      return Term(view.image, loss, weight / len(shown))

    return {name: term(views[name]) for name in shown}, {}

  return ask
