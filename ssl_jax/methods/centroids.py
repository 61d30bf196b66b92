"""Learning from labels where in a patch its cell is: two numbers, beside the class.

The regression of HydraMix-Net (Bashir et al. 2020), for networks with heads 'x' and 'y'.
"""

from collections.abc import Sequence

from ssl_jax import losses
from ssl_jax.types import CELLS, LossTransform, Term
from ssl_jax.views import geometry

TASKS = (CELLS,)


def method(weight: float = 1.0, shown: Sequence[str] = ('labeled',)) -> LossTransform:
  """Squared errors of x and y in parts of the patch, mean over patches and over `shown`."""

  def ask(teacher, views, key, step):
    def term(view):
      target, known = geometry.centroids(view)

      def loss(heads):
        return losses.centroid_error(heads, target, known)

      return Term(view.image, loss, weight / len(shown), head=None)

    return {name: term(views[name]) for name in shown}, {}

  return ask
