"""Learning from labels: cross-entropy, and the soft Dice loss if wanted."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from jaxtyping import Array

from ssl_jax import losses
from ssl_jax.errors import UserError
from ssl_jax.types import (
  CELLS,
  MASKS,
  Key,
  LossTransform,
  Metrics,
  Outputs,
  Step,
  Teacher,
  Term,
  View,
  Views,
)
from ssl_jax.views import labels

TASKS = (MASKS, CELLS)
LABELED = True


def method(
  weight: float = 1.0,
  dice: float = 0.0,
  shown: Sequence[str] = ('labeled',),
  cross_entropy: float = 1.0,
  annealing: str = '',
  tsa_steps: int = 0,
  dice_smooth: float = 1.0,
  dice_squared: bool = False,
  dice_over: str = 'image',
) -> LossTransform:
  """Returns a method that learns from the labels of the views `shown`.

  Their labels may be drawn by people, or written by an earlier stage (self-training, Yang et al.
  2022, arXiv:2106.05095).

  Args:
    weight: weight of the sum of all losses, shared equally by the views.
    dice: weight of the soft Dice loss.
    shown: names of views with labels.
    cross_entropy: weight of the cross-entropy.
    annealing: schedule of training-signal annealing, 'linear', 'log' or 'exp': pixels that the
      student classifies well already are left out of the cross-entropy (UDA, Xie et al. 2020).
    tsa_steps: number of steps after which all pixels count again.
    dice_smooth: added to numerator and denominator of the Dice loss.
    dice_squared: whether probabilities and labels are squared in its denominator (V-Net).
    dice_over: what it is summed over, the pixels of each 'image' or of the whole 'batch'.

  Raises:
    UserError: if the schedule is unknown, has no steps, if `dice` is asked of cells, or if
      `dice_over` is unknown.
  """
  # Checked when the method is built, before the first step.
  if annealing not in ('', *losses.ANNEALINGS):
    raise UserError(
      f'methods.supervised.annealing={annealing!r} is not one of {", ".join(losses.ANNEALINGS)}.'
    )
  if annealing and not tsa_steps:
    raise UserError(
      'methods.supervised.annealing needs the number of steps that it takes; set tsa_steps.'
    )
  dice_loss = losses.dice_fields('supervised', dice_smooth, dice_squared, dice_over)

  def ask(
    teacher: Teacher, views: Views, key: Key, step: Step
  ) -> tuple[Mapping[str, Term], Metrics]:
    def term(name: str, view: View) -> Term:
      label = labels.labels_of(view)
      # Known only here: [B, *space] ids of pixels, or [B] of patches, which have no overlap.
      if dice and label.ndim == 1:
        raise UserError('methods.supervised.dice is for masks, and these are cells; set it to 0.')

      def loss(logits: Outputs) -> Array:
        total = jnp.zeros(())
        # A weight of 0 leaves the loss out of the compiled program.
        if cross_entropy:
          # Without annealing every pixel with a label counts.
          counted = None
          if annealing:
            counted = losses.tsa_mask(logits, label, annealing, step, tsa_steps)
          total += cross_entropy * losses.cross_entropy(logits, label, counted)
        # Dice has all pixels with a label, also while the cross-entropy is annealed.
        if dice:
          total += dice * losses.dice(logits, label, **dice_loss)
        return total

      # Views have equal shares, whatever the sizes of their batches.
      return Term(view.image, loss, weight / len(shown), view=name)

    return {name: term(name, views[name]) for name in shown}, {}

  return ask
