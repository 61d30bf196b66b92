"""Learning from labels: cross-entropy, with soft Dice beside it where asked."""

from collections.abc import Sequence

from ssl_jax import losses
from ssl_jax.errors import UserError
from ssl_jax.types import CELLS, MASKS, LossTransform, Term

TASKS = (MASKS, CELLS)


def method(
  weight: float = 1.0,
  dice: float = 0.0,
  shown: Sequence[str] = ('labeled',),
  cross_entropy: float = 1.0,
  annealing: str = '',
  annealed: int = 0,
) -> LossTransform:
  """Cross-entropy over what is labelled plus `dice` times the soft Dice loss, mean over `shown`.

  Those views may hold masks that people drew, or that an earlier stage wrote (self-training, Yang
  et al. 2022, arXiv:2106.05095). `annealing` ('linear', 'log' or 'exp', over the first `annealed`
  steps) leaves out of the cross-entropy what the student knows already (UDA's training-signal
  annealing, Xie et al. 2020).
  """
  if annealing not in ('', *losses.ANNEALINGS):
    raise UserError(
      f'methods.supervised.annealing={annealing!r} is not one of {", ".join(losses.ANNEALINGS)}.'
    )
  if annealing and not annealed:
    raise UserError('methods.supervised.annealing needs the number of steps it takes: annealed.')

  def ask(teacher, views, key, step):
    def term(view):
      if dice and view.label.ndim == 1:
        raise UserError('methods.supervised.dice is for masks, and these are cells; set it to 0.')

      def loss(logits):
        total = 0.0
        if cross_entropy:
          due = losses.unknown(logits, view.label, annealing, step, annealed) if annealing else None
          total += cross_entropy * losses.cross_entropy(logits, view.label, due)
        return total + dice * losses.dice(logits, view.label) if dice else total

      return Term(view.image, loss, weight / len(shown))

    return {name: term(views[name]) for name in shown}, {}

  return ask
