"""Wide residual networks (Zagoruyko & Komodakis 2016, arXiv:1605.07146) for whole small images."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssl_jax.errors import UserError
from ssl_jax.models.layers import Conv, DropChannels, batch_norm
from ssl_jax.types import CELLS

TASKS = (CELLS,)


class Block(nn.Module):
  """Two 3 x 3 convolutions, each after its normalisation and ReLU, and a way around them."""

  width: int
  stride: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w i'], train: bool = False) -> Float[Array, 'b k l o']:
    y = jax.nn.relu(batch_norm(train, self.dtype, 'bn1')(x))
    # Where the shape changes, the way around begins behind the activation, as published.
    around = x
    if self.stride > 1 or x.shape[-1] != self.width:
      around = Conv(self.width, 1, self.stride, dtype=self.dtype, name='shortcut')(y)
    y = Conv(self.width, 3, self.stride, dtype=self.dtype, name='conv1')(y)
    y = jax.nn.relu(batch_norm(train, self.dtype, 'bn2')(y))
    return around + Conv(self.width, 3, dtype=self.dtype, name='conv2')(y)


class Backbone(nn.Module):
  """Images [B, H, W, C] -> features [B, H / 4, W / 4, 64 width]."""

  depth: int = 28
  width: int = 2
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], train: bool = False, drop: Array | None = None
  ) -> Float[Array, 'b k l o']:
    if self.depth < 10 or (self.depth - 4) % 6:
      raise UserError(f'model.depth is 10, 16, 22, 28, ... (6 n + 4), not {self.depth}.')
    dtype = jnp.dtype(self.dtype)
    x = Conv(16, 3, dtype=dtype, name='conv')(x)
    for stage, width in enumerate((16, 32, 64)):
      for i in range((self.depth - 4) // 6):
        stride = 2 if stage and not i else 1
        x = Block(width * self.width, stride, dtype, name=f'stage{stage}_{i}')(x, train)
    x = jax.nn.relu(batch_norm(train, dtype, 'bn')(x))
    return DropChannels()(x, drop)


class Model(nn.Module):
  """Images [B, H, W, C] -> float32 logits [B, num_classes] of the whole image.

  28-2 has 1,469,642 parameters for three channels and ten classes.
  """

  num_classes: int
  depth: int = 28
  width: int = 2
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], train: bool = False, drop: Array | None = None
  ) -> Float[Array, 'b classes']:
    x = Backbone(self.depth, self.width, self.dtype, name='backbone')(x, train, drop)
    pooled = x.astype(jnp.float32).mean((1, 2))
    return nn.Dense(self.num_classes, name='head')(pooled)
