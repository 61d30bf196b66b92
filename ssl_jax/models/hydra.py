"""HydraMix-Net's network (Bashir et al. 2020): a wide residual network with three heads."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssl_jax.models.wideresnet import Backbone
from ssl_jax.types import CELLS

TASKS = (CELLS,)


class Model(nn.Module):
  """Patches [B, H, W, C] -> {'class': logits [B, num_classes], 'x': [B], 'y': [B]}, float32.

  x (column) and y (row) are where the nucleus is, 0 at the left or top edge of the patch and 1 at
  the other. `classify` and `locate` are the widths of the dense layers between the features and the
  answers. All patches have one size: the layers that locate see every pixel's features.
  """

  num_classes: int
  depth: int = 28
  width: int = 2
  classify: Sequence[int] = (128, 64, 32)
  locate: Sequence[int] = (128, 32)
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], train: bool = False, drop: Array | None = None
  ) -> dict[str, Array]:
    x = Backbone(self.depth, self.width, self.dtype, name='backbone')(x, train, drop)
    features = x.astype(jnp.float32)

    def head(name: str, y: Array, widths: Sequence[int], last: nn.Module) -> Array:
      for i, width in enumerate(widths):
        y = jax.nn.relu(nn.Dense(width, name=f'{name}_{i}')(y))
      return last(y)

    flat, pooled = features.reshape(len(features), -1), features.mean((1, 2))
    answers = {
      'class': head('class', pooled, self.classify, nn.Dense(self.num_classes, name='class'))
    }
    for axis in ('x', 'y'):
      # It begins in the middle: so wide a layer would begin anywhere, and learn long to come back.
      middle = dict(kernel_init=nn.initializers.zeros, bias_init=nn.initializers.constant(0.5))
      answers[axis] = head(axis, flat, self.locate, nn.Dense(1, name=axis, **middle))[:, 0]
    return answers
