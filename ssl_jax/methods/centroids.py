"""Learning from labels where in a patch the centroid of its cell is.

The regression of HydraMix-Net (Bashir et al. 2020), for networks with heads 'x' and 'y'.
"""

from collections.abc import Mapping, Sequence

from jaxtyping import Array

from ssl_jax import losses
from ssl_jax.types import (
  CELLS,
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

TASKS = (CELLS,)
LABELED = True


def method(weight: float = 1.0, shown: Sequence[str] = ('labeled',)) -> LossTransform:
  """Returns a method that regresses x and y, as fractions of the sides of a patch.

  Args:
    weight: weight of the mean squared error, shared equally by the views.
    shown: names of views with labels.
  """

  def ask(
    teacher: Teacher, views: Views, key: Key, step: Step
  ) -> tuple[Mapping[str, Term], Metrics]:
    def term(name: str, view: View) -> Term:
      # [B, 2] as (row, column), and [B]: False where the cell lies outside the view.
      target, known = labels.centroids(view)

      def loss(heads: Outputs) -> Array:
        return losses.centroid_error(heads, target, known)

      # All heads: beside x and y the loss uses the probability that there is a cell.
      return Term(view.image, loss, weight / len(shown), head=None, view=name)

    return {name: term(name, views[name]) for name in shown}, {}

  return ask
