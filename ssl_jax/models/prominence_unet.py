"""The U-Net of Hann's study of self-training with ensembles and generated images.

Each level of it scales by four, its outer stages have no normalization, the image is shown to it
again at both ends, and a skip, the strided convolution of its level, is joined twice on the way up.
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
  crop_to,
  max_pool2,
  pad_to_multiple,
  resize_linear,
)
from ssl_jax.models.operations.initializers import lecun_normal
from ssl_jax.types import FeatureDropout


class Model(nn.Module):
  """Images [B, *space, C] of any size -> float32 logits [B, *space, num_classes].

  An image whose sides are not multiples of `size_multiple()` is reflected at the bottom and right,
  and the logits are cut to its own size.

  `widths` are those of the levels, each of which makes the sides a quarter as long; `stem` is the
  width of the stages before the first level and after the last; `dropout` ends each level on the
  way down. `widths=(64, 128, 256)` with `stem=32` has 5,174,562 parameters (one channel, two
  classes).
  """

  num_classes: int
  widths: Sequence[int] = (32, 64, 128)
  stem: int = 16
  dropout: float = 0.1
  dtype: Any = jnp.float32

  def size_multiple(self) -> int:
    """Returns what the sides of images are multiples of inside the network."""
    return 4 ** len(self.widths)

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b *space c'],
    train: bool = False,
    feature_dropout: FeatureDropout | None = None,
  ) -> Float[Array, 'b *space classes']:
    """Returns the logits of a batch; `feature_dropout` is explained in layers.DropChannels."""
    dtype = jnp.dtype(self.dtype)

    def conv(x: Array, width: int, name: str, norm: bool = True, stride: int = 1) -> Array:
      # A bias only where no normalization would subtract it again.
      x = Conv(width, 3, stride, use_bias=not norm, dtype=dtype, name=name)(x)
      x = batch_norm(train, dtype, f'{name}_norm')(x) if norm else x
      return jax.nn.gelu(x, approximate=False)

    space = x.shape[1:-1]
    # Each level halves the sides twice, by a strided convolution and by pooling.
    image = pad_to_multiple(x, self.size_multiple()).astype(dtype)
    x = conv(conv(image, self.stem, 'in_1', norm=False), self.stem, 'in_2', norm=False)
    skips = []
    for level, width in enumerate(self.widths):
      # The image itself beside its first features.
      if level == 0:
        x = jnp.concatenate([x, image], -1)
      for i in (1, 2):
        x = conv(x, width, f'down{level}_{i}')
      # The skip has half the sides of its level: it lies between the two halvings.
      skips.append(conv(x, width, f'down{level}_stride', stride=2))
      # A quarter of the level's sides.
      x = nn.Dropout(self.dropout, deterministic=not train)(max_pool2(skips[-1]))

    # Between encoder and decoder, in the lowest features and in every skip.
    x, *skips = (DropChannels()(features, feature_dropout) for features in (x, *skips))
    for level in reversed(range(len(self.widths))):
      width, skip = self.widths[level], skips[level]
      # Up to the size of the skip, without weights.
      x = jnp.concatenate([resize_linear(x, skip.shape[1:-1]), skip], -1)
      for i in (1, 2):
        x = conv(x, width, f'up{level}_{i}')
      # The skip a second time, and up to the size of the level.
      x = UpConv2(width, dtype=dtype, name=f'grow{level}')(jnp.concatenate([x, skip], -1))
      x = jax.nn.gelu(batch_norm(train, dtype, f'grow{level}_norm')(x), approximate=False)
    # At full size the image is shown again, so that borders can follow its pixels.
    for i in (1, 2):
      x = conv(jnp.concatenate([x, image], -1), self.stem, f'out_{i}', norm=False)
    # One logit for each class, for a softmax; the paper has a sigmoid, for cells alone.
    logits = Conv(self.num_classes, 1, kernel_init=lecun_normal, name='head')(x)
    return crop_to(logits, space)
