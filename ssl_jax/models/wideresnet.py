"""Wide residual networks (Zagoruyko & Komodakis 2016, arXiv:1605.07146) that classify patches."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssl_jax.errors import UserError
from ssl_jax.models.layers import Conv, Dense, DropChannels, batch_norm
from ssl_jax.types import CELLS

TASKS = (CELLS,)


class Block(nn.Module):
  """A residual block of two 3 x 3 convolutions, each after its normalization and ReLU."""

  width: int
  stride: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w i'], train: bool = False) -> Float[Array, 'b k l o']:
    """Returns the features of a batch."""
    # Normalization and ReLU come before each convolution ("pre-activation").
    y = jax.nn.relu(batch_norm(train, self.dtype, 'bn1')(x))
    # Where the shape changes, the shortcut starts after the activation, as published.
    shortcut = x
    if self.stride > 1 or x.shape[-1] != self.width:
      shortcut = Conv(self.width, 1, self.stride, dtype=self.dtype, name='shortcut')(y)
    y = Conv(self.width, 3, self.stride, dtype=self.dtype, name='conv1')(y)
    y = jax.nn.relu(batch_norm(train, self.dtype, 'bn2')(y))
    # Nothing after the addition, so that an identity runs through all blocks of a stage.
    return shortcut + Conv(self.width, 3, dtype=self.dtype, name='conv2')(y)


class Backbone(nn.Module):
  """Images [B, H, W, C] -> features [B, H / 4, W / 4, 64 width].

  28-2 has 1,468,352 parameters for three channels.
  """

  depth: int = 28
  width: int = 2
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b h w c'],
    train: bool = False,
    feature_dropout: Float[Array, ' b'] | None = None,
  ) -> Float[Array, 'b k l o']:
    """Returns the features of a batch; `feature_dropout` is explained in layers.DropChannels.

    Raises:
      UserError: if `depth` is not 6 n + 4.
    """
    if self.depth < 10 or (self.depth - 4) % 6:
      raise UserError(f'model.depth={self.depth} is not 10, 16, 22, 28, ... (6 n + 4).')
    dtype = jnp.dtype(self.dtype)
    # No ReLU here: the first block begins with one.
    x = Conv(16, 3, dtype=dtype, name='conv')(x)
    for stage, width in enumerate((16, 32, 64)):
      # Three stages of n blocks of two convolutions, and four more layers: depth = 6 n + 4.
      for i in range((self.depth - 4) // 6):
        # The first block of the second and third stages halves the sides.
        stride = 2 if stage and not i else 1
        x = Block(width * self.width, stride, dtype, name=f'stage{stage}_{i}')(x, train)
    # Blocks end without normalization and ReLU, so that the last one needs them here.
    x = jax.nn.relu(batch_norm(train, dtype, 'bn')(x))
    return DropChannels()(x, feature_dropout)


class Model(nn.Module):
  """Patches [B, H, W, C] -> float32 logits [B, num_classes], one class for the whole patch.

  28-2 has 1,469,642 parameters for three channels and ten classes.
  """

  num_classes: int
  depth: int = 28
  width: int = 2
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b h w c'],
    train: bool = False,
    feature_dropout: Float[Array, ' b'] | None = None,
  ) -> Float[Array, 'b classes']:
    """Returns the logits of a batch; `feature_dropout` is explained in layers.DropChannels.

    Raises:
      UserError: if `depth` is not 6 n + 4.
    """
    backbone = Backbone(self.depth, self.width, self.dtype, name='backbone')
    x = backbone(x, train, feature_dropout)
    # [B, 64 width]: the mean over space, in float32 so that the loss is as well.
    pooled = x.astype(jnp.float32).mean((1, 2))
    return Dense(self.num_classes, name='head')(pooled)
