"""A U-Net as in nnU-Net (Isensee et al. 2021), with residual blocks in its encoder; 2-D and 3-D."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssl_jax.errors import UserError
from ssl_jax.models.layers import (
  Conv,
  DropChannels,
  GroupNorm,
  UpConv2,
  crop_to,
  pad_to_multiple,
)
from ssl_jax.models.operations.initializers import lecun_normal
from ssl_jax.types import FeatureDropout

SLOPE = 0.01
"""The slope of the leaky ReLU for negative values."""


class Block(nn.Module):
  """Two 3 x 3 (x 3) convolutions with instance normalization; `residual` adds the block's input.

  A 1 x 1 convolution brings the input to the size and width of the output where they differ.
  """

  width: int
  stride: int = 1
  residual: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b *space i']) -> Float[Array, 'b *out o']:
    """Returns the features of a batch."""

    def layer(y: Array, size: int, stride: int, name: str) -> Array:
      # No bias: the normalization that follows would subtract it again.
      y = Conv(self.width, size, stride, use_bias=False, dtype=self.dtype, name=name)(y)
      # One channel a group is instance normalization.
      return GroupNorm(1, name=f'{name}_norm')(y)

    y = nn.leaky_relu(layer(x, 3, self.stride, 'conv1'), SLOPE)
    # Without an activation, which comes after the addition.
    y = layer(y, 3, 1, 'conv2')
    if self.residual:
      # Only then can the input be added as it is.
      same_shape = self.stride == 1 and x.shape[-1] == self.width
      y = y + (x.astype(y.dtype) if same_shape else layer(x, 1, self.stride, 'skip'))
    return nn.leaky_relu(y, SLOPE)


class Model(nn.Module):
  """Images [B, *space, C] of any size -> float32 logits [B, *space, num_classes].

  An image whose sides are not multiples of `size_multiple()` is reflected at the bottom and right,
  and the logits are cut to its own size.

  Each of `widths` is a level, half as large as the one before. With `residual=True` and the widths
  below it has 31,419,406 parameters for one channel and 14 classes in 3-D (as for FLARE22).
  """

  num_classes: int
  widths: Sequence[int] = (32, 64, 128, 256, 320, 320)
  residual: bool = True
  dropout: float = 0.0
  dtype: Any = jnp.float32

  def size_multiple(self) -> int:
    """Returns what the sides of images are multiples of inside the network."""
    # Each level but the first halves the sides. (Without any the network is refused later.)
    return 2 ** max(len(self.widths) - 1, 0)

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b *space c'],
    train: bool = False,
    feature_dropout: FeatureDropout | None = None,
  ) -> Float[Array, 'b *space classes']:
    """Returns the logits of a batch; `feature_dropout` is explained in layers.DropChannels.

    Raises:
      UserError: if `widths` is empty.
    """
    if not self.widths:
      raise UserError('model.widths is empty; give one width for each level.')
    dtype, space = jnp.dtype(self.dtype), x.shape[1:-1]
    x = pad_to_multiple(x, self.size_multiple())
    skips = []
    for level, width in enumerate(self.widths):
      # Strided convolutions instead of pooling, as in nnU-Net.
      stride = 2 if level else 1
      x = Block(width, stride, self.residual, dtype, name=f'down{level}')(x)
      skips.append(x)
    skips.pop()  # the lowest level is `x` itself
    x = nn.Dropout(self.dropout, deterministic=not train)(x)

    # Between encoder and decoder, in the lowest features and in every skip.
    x, *skips = (DropChannels()(features, feature_dropout) for features in (x, *skips))
    for level in reversed(range(len(skips))):
      width = self.widths[level]
      x = UpConv2(width, dtype=dtype, use_bias=False, name=f'grow{level}')(x)
      # Only the encoder has residual blocks.
      x = Block(width, dtype=dtype, name=f'up{level}')(jnp.concatenate([x, skips[level]], -1))
    # Float32 logits, so that the loss is, in half precision as well.
    head = Conv(self.num_classes, 1, kernel_init=lecun_normal, name='head')
    return crop_to(head(x).astype(jnp.float32), space)
