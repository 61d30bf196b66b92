"""Two networks of one design and different initial weights, which teach each other."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.core import FrozenDict
from jaxtyping import Array, Float

from ssl_jax.registry import build
from ssl_jax.types import FeatureDropout


class Model(nn.Module):
  """Images [B, *space, C] -> {'class': logits of the first, 'second': logits of the second}.

  `of` is the file name of a network in models/, `kwargs` its keyword arguments.
  """

  num_classes: int
  of: str = 'unet'
  # Frozen: a mutable dict may not be the default of a field.
  kwargs: Mapping[str, Any] = FrozenDict()
  dtype: Any = jnp.float32

  def size_multiple(self) -> int:
    """Returns what the sides of images are multiples of inside the two networks; 1: any size."""
    # Without a parent: it is asked outside of `init` and `apply`.
    network = self._build(parent=None)
    return network.size_multiple() if hasattr(network, 'size_multiple') else 1

  def _build(self, **given: Any) -> nn.Module:
    given |= dict(num_classes=self.num_classes, dtype=self.dtype)
    return build('models', self.of, self.kwargs, **given)

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b *space c'],
    train: bool = False,
    feature_dropout: FeatureDropout | None = None,
  ) -> dict[str, Array]:
    """Returns the logits of both networks; `feature_dropout` as in layers.DropChannels.

    Raises:
      UserError: if there is no such network, or it takes no such parameter.
    """
    # Flax gives the two modules different names, so each draws initial weights of its own.
    first, second = self._build(), self._build()
    return {
      # The first is the one that predicts: metrics look at the head 'class'.
      'class': first(x, train, feature_dropout),
      'second': second(x, train, feature_dropout),
    }
