"""The U-Net of the ensemble study of system 4: each block scales by four and sees the image again.

Its first stage and its last have no normalisation; a skip is the strided convolution of its block,
and is joined twice on the way up.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssl_jax.models.layers import (
  Conv,
  DropChannels,
  UpConv2,
  batch_norm,
  max_pool2,
  pad_to_multiple,
  resize_linear,
)


class Model(nn.Module):
  """Images [B, *space, C] of any size -> float32 logits [B, *space, num_classes].

  `widths` are those of the blocks, each of which makes sides a quarter as long; `stem` is that of
  the stages before the first and after the last; `dropout` ends each block on the way down.
  """

  num_classes: int
  widths: Sequence[int] = (32, 64, 128)
  stem: int = 16
  dropout: float = 0.1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b *space c'], train: bool = False, drop: Array | None = None
  ) -> Float[Array, 'b *space classes']:
    dtype = jnp.dtype(self.dtype)

    def conv(x: Array, width: int, name: str, norm: bool = True, stride: int = 1) -> Array:
      x = Conv(width, 3, stride, use_bias=not norm, dtype=dtype, name=name)(x)
      x = batch_norm(train, dtype, f'{name}_norm')(x) if norm else x
      return jax.nn.gelu(x)

    space = x.shape[1:-1]
    image = pad_to_multiple(x, 4 ** len(self.widths)).astype(dtype)
    x = conv(conv(image, self.stem, 'in_1', norm=False), self.stem, 'in_2', norm=False)
    skips = []
    for level, width in enumerate(self.widths):
      if not level:
        x = jnp.concatenate([x, image], -1)
      for i in (1, 2):
        x = conv(x, width, f'down{level}_{i}')
      skips.append(conv(x, width, f'down{level}_stride', stride=2))
      x = nn.Dropout(self.dropout, deterministic=not train)(max_pool2(skips[-1]))
    x, *skips = (DropChannels()(y, drop) for y in (x, *skips))
    for level, width in reversed([*enumerate(self.widths)]):
      skip = skips[level]
      x = jnp.concatenate([resize_linear(x, skip.shape[1:-1]), skip], -1)
      for i in (1, 2):
        x = conv(x, width, f'up{level}_{i}')
      x = UpConv2(width, dtype=dtype, name=f'grow{level}')(jnp.concatenate([x, skip], -1))
      x = jax.nn.gelu(batch_norm(train, dtype, f'grow{level}_norm')(x))
    for i in (1, 2):
      x = conv(jnp.concatenate([x, image], -1), self.stem, f'out_{i}', norm=False)
    logits = Conv(self.num_classes, 1, kernel_init=nn.initializers.lecun_normal(), name='head')(x)
    return logits[(slice(None), *(slice(n) for n in space))]
