"""HydraMix-Net's network (Bashir et al. 2020): a wide residual network with three heads."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssl_jax.models.layers import Dense
from ssl_jax.models.wideresnet import Backbone
from ssl_jax.types import CELLS, FeatureDropout

TASKS = (CELLS,)


class Model(nn.Module):
  """Patches [B, H, W, C] -> {'class': logits [B, num_classes], 'x': [B], 'y': [B]}, float32.

  x (column) and y (row) are the position of the nucleus, 0 at the left or top edge of the patch and
  1 at the opposite edge. `classify` and `locate` are the widths of the dense layers between the
  features and the outputs. All patches must have one size, because the layers that locate see the
  features of every pixel. There are 3,601,029 parameters for patches of 32 x 32 pixels with three
  channels, and three classes.
  """

  num_classes: int
  depth: int = 28
  width: int = 2
  classify: Sequence[int] = (128, 64, 32)
  locate: Sequence[int] = (128, 32)
  dtype: Any = jnp.float32
  variant: str = 'zagoruyko'

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b h w c'],
    train: bool = False,
    feature_dropout: FeatureDropout | None = None,
  ) -> dict[str, Array]:
    """Returns the outputs of a batch by head; `feature_dropout` as in layers.DropChannels.

    Raises:
      UserError: if `depth` is not 6 n + 4, or `variant` is unknown.
    """
    backbone = Backbone(self.depth, self.width, self.dtype, self.variant, name='backbone')
    # [B, H / 4, W / 4, C], in float32 for the small dense layers.
    features = backbone(x, train, feature_dropout).astype(jnp.float32)

    # Dense layers with ReLU, then `last`, whose outputs may be negative.
    def head(name: str, y: Array, widths: Sequence[int], last: nn.Module) -> Array:
      for i, width in enumerate(widths):
        y = jax.nn.relu(Dense(width, name=f'{name}_{i}')(y))
      return last(y)

    # The class does not depend on where the cell is, so its features are averaged over space; the
    # position does, so all pixels are kept.
    flat, pooled = features.reshape(features.shape[0], -1), features.mean((1, 2))
    # Heads share the features and nothing else.
    outputs = {'class': head('class', pooled, self.classify, Dense(self.num_classes, name='class'))}
    for axis in ('x', 'y'):
      # Without training it points at the middle of the patch: random weights of so wide a layer
      # would point far outside, and training would take long to bring the position back.
      last = nn.Dense(
        1,
        kernel_init=nn.initializers.zeros,
        bias_init=nn.initializers.constant(0.5),
        name=axis,
      )
      outputs[axis] = head(axis, flat, self.locate, last)[:, 0]
    return outputs
