"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597) whose contracting path is a ResNet."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssl_jax.models.layers import Conv, ConvNormAct, pad_to_multiple
from ssl_jax.models.resnet import Backbone


class Model(nn.Module):
  """Images [B, H, W, C] of any size -> float32 logits [B, H, W, num_classes].

  `widths` are those of the expanding path, from stride 16 to stride 1.
  """

  num_classes: int
  backbone: str = 'resnet50'
  widths: Sequence[int] = (256, 128, 64, 32, 16)
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], train: bool = False, drop: Array | None = None
  ) -> Float[Array, 'b h w classes']:
    size, dtype = x.shape[1:3], jnp.dtype(self.dtype)
    x = pad_to_multiple(x, 32)
    *skips, x = Backbone(self.backbone, 32, dtype, name='backbone')(x, train, drop)
    for level, width in enumerate(self.widths):
      x = x.repeat(2, axis=1).repeat(2, axis=2)
      if skips:
        x = jnp.concatenate([x, skips.pop()], axis=-1)
      for i in (1, 2):
        x = ConvNormAct(width, dtype=dtype, name=f'up{level}_{i}')(x, train)
    lecun = nn.initializers.lecun_normal()
    logits = Conv(self.num_classes, 3, kernel_init=lecun, name='head')(x)
    return logits[:, : size[0], : size[1]]
