"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597) whose contracting path is a ResNet."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssl_jax.models import backbones
from ssl_jax.models.layers import Conv, ConvNormAct, crop_to, pad_to_multiple
from ssl_jax.models.operations.initializers import lecun_normal
from ssl_jax.types import FeatureDropout


class Model(nn.Module):
  """Images [B, H, W, C] of any size -> float32 logits [B, H, W, num_classes].

  An image whose sides are not multiples of `size_multiple()` is reflected at the bottom and right,
  and the logits are cut to its own size.

  `widths` are those of the expanding path, from stride 16 to stride 1. With a ResNet-34 it has
  24,436,369 parameters for three channels and one class, as the usual PyTorch one.
  """

  num_classes: int
  backbone: str = 'resnet50'
  widths: Sequence[int] = (256, 128, 64, 32, 16)
  frozen: bool | None = None
  fixed: int = 0
  dtype: Any = jnp.float32

  def size_multiple(self) -> int:
    """Returns what the sides of images are multiples of inside the network."""
    return 32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b h w c'],
    train: bool = False,
    feature_dropout: FeatureDropout | None = None,
  ) -> Float[Array, 'b h w classes']:
    """Returns the logits of a batch; `feature_dropout` is explained in layers.DropChannels.

    Raises:
      UserError: if the backbone is unknown.
    """
    space, dtype = x.shape[1:3], jnp.dtype(self.dtype)
    # The last stage has stride 32.
    x = pad_to_multiple(x, self.size_multiple())
    backbone = backbones.make(self.backbone, 32, dtype, self.frozen, self.fixed)
    # Skips of strides 2, 4, 8 and 16; x has stride 32.
    *skips, x = backbone(x, train, feature_dropout)
    for level, width in enumerate(self.widths):
      # Nearest-neighbor upsampling: each pixel becomes a 2 x 2 block.
      x = x.repeat(2, axis=1).repeat(2, axis=2)
      # The last level, at full size, has no skip.
      if skips:
        x = jnp.concatenate([x, skips.pop()], axis=-1)
      for i in (1, 2):
        x = ConvNormAct(width, dtype=dtype, name=f'up{level}_{i}')(x, train)
    # Float32 even where the layers before it are in half precision.
    logits = Conv(self.num_classes, 3, kernel_init=lecun_normal, name='head')(x)
    return crop_to(logits, space)
