"""IIC: clusters that an image and its turned copy agree on, without a label.

Ji et al. 2019, "Invariant Information Clustering for Unsupervised Image Classification and
Segmentation"; the uncollapsed form.
"""

import jax
import jax.numpy as jnp

from ssl_jax import losses, parallel
from ssl_jax.types import LossTransform, Term
from ssl_jax.views import geometry


def method(
  weight: float = 1.0, radius: int = 10, marginal: float = 1.0, over: str = ''
) -> LossTransform:
  """Minus the mutual information of the answers to 'weak' and 'strong', on the pixels of 'weak'.

  `radius` (pixels) is the half side of the window of displacements, `marginal` the weight of the
  marginals' entropies. `over` names a head with more clusters than classes (`model.heads`), which
  learns beside the main one in the same way.
  """

  def ask(teacher, views, key, step):
    weak, strong = views['weak'], views['strong']
    images = parallel.interleave([weak.image, strong.image])

    def loss(heads):
      total = jnp.zeros(())
      for name in ('class', over) if over else ('class',):
        one, two = parallel.separate(heads[name], [len(weak.image), len(strong.image)])
        back, seen = geometry.warp(two, strong, weak)
        probs = jax.nn.softmax(one), jax.nn.softmax(back)
        total += losses.mutual_information(*probs, seen & weak.valid, radius, marginal)
      return total

    return {'unlabeled': Term(images, loss, weight, head=None)}, {}

  return ask
