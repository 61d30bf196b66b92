"""DeepLabV2 (Chen et al. 2017, arXiv:1606.00915): a ResNet and a sum of dilated classifiers."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssl_jax.models.layers import Conv, resize_linear
from ssl_jax.models.resnet import Backbone


class Model(nn.Module):
  """Images [B, H, W, C] of any size -> float32 logits [B, H, W, num_classes].

  The logits are the sum of one 3 x 3 convolution per dilation of `rates`.
  """

  num_classes: int
  backbone: str = 'resnet101'
  output_stride: int = 8
  rates: Sequence[int] = (6, 12, 18, 24)
  align_corners: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], train: bool = False, drop: Array | None = None
  ) -> Float[Array, 'b h w classes']:
    size, dtype = x.shape[1:3], jnp.dtype(self.dtype)
    x = Backbone(self.backbone, self.output_stride, dtype, name='backbone')(x, train, drop)[-1]
    small = nn.initializers.normal(0.01)
    logits = sum(
      Conv(self.num_classes, 3, dilation=rate, kernel_init=small, name=f'head_{i}')(x)
      for i, rate in enumerate(self.rates)
    )
    return resize_linear(logits, size, self.align_corners)
