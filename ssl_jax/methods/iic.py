"""IIC: clusters that an image and its transformed copy agree on, without a label.

Ji et al. 2019, "Invariant Information Clustering for Unsupervised Image Classification and
Segmentation"; the uncollapsed form.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ssl_jax import losses, parallel
from ssl_jax.types import Key, LossTransform, Metrics, Outputs, Step, Teacher, Term, Views
from ssl_jax.views import geometry


def method(
  weight: float = 1.0, radius: int = 10, marginal: float = 1.0, over: str = ''
) -> LossTransform:
  """Returns a method that maximizes the mutual information of predictions for two views.

  The prediction for 'strong' is warped to the pixels of 'weak' and compared with the one there.

  Args:
    weight: weight of minus the mutual information in nats.
    radius: half side in pixels of the window of displacements.
    marginal: weight of the entropies of the marginals.
    over: a head with more clusters than classes (a key of `config.heads`), which learns beside the
      main one in the same way; '': none.
  """

  def ask(
    teacher: Teacher, views: Views, key: Key, step: Step
  ) -> tuple[Mapping[str, Term], Metrics]:
    weak, strong = views['weak'], views['strong']
    # One loss needs both predictions, so both views are shown in one term.
    images = parallel.interleave([weak.image, strong.image])

    def loss(heads: Outputs) -> Array:
      total = jnp.zeros(())
      # Each head has a loss of its own; they share the network below.
      for name in ('class', over) if over else ('class',):
        counts = [len(weak.image), len(strong.image)]
        weak_logits, strong_logits = parallel.separate(heads[name], counts)
        # Back through the rotation, so that both predictions are about the same pixels. It is the
        # probabilities that are interpolated: the softmax of a mixture of logits is not the mixture
        # of their probabilities.
        weak_probs, strong_probs = jax.nn.softmax(weak_logits), jax.nn.softmax(strong_logits)
        strong_probs, seen = geometry.warp(strong_probs, strong, weak)
        # The corners that a rotation loses must not enter the joint distribution.
        valid = seen & weak.valid
        total += losses.mutual_information(weak_probs, strong_probs, valid, radius, marginal)
      return total

    # No label is read, even where the views are made of a labeled stream.
    return {'unlabeled': Term(images, loss, weight, head=None, unlabeled=True)}, {}

  return ask
