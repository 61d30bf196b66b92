"""PSPNet (Zhao et al. 2017, arXiv:1612.01105) on a ResNet with a plain 7 x 7 stem."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssl_jax.models import backbones
from ssl_jax.models.layers import Conv, ConvNormAct, adaptive_mean, resize_linear
from ssl_jax.models.operations.initializers import lecun_normal
from ssl_jax.types import FeatureDropout


class Model(nn.Module):
  """Images [B, H, W, C] of any size -> float32 logits [B, H, W, num_classes].

  `bins` are the grids over which the pyramid averages; `dropout` drops single values before the
  classifier. With a ResNet-50 it has 46,583,363 parameters, with a ResNet-101 65,575,491 (three
  channels and three classes).
  """

  num_classes: int
  backbone: str = 'resnet50'
  output_stride: int = 8
  bins: Sequence[int] = (1, 2, 3, 6)
  align_corners: bool = True
  dropout: float = 0.1
  frozen: bool | None = None
  fixed: int = 0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b h w c'],
    train: bool = False,
    feature_dropout: FeatureDropout | None = None,
  ) -> Float[Array, 'b h w classes']:
    """Returns the logits of a batch; `feature_dropout` is explained in layers.DropChannels.

    Raises:
      UserError: if the backbone is unknown or cannot have this output stride.
    """
    size, dtype = x.shape[1:3], jnp.dtype(self.dtype)
    backbone = backbones.make(self.backbone, self.output_stride, dtype, self.frozen, self.fixed)
    # [B, H / 8, W / 8, channels] with the default output stride.
    x = backbone(x, train, feature_dropout)[-1]
    # All levels of the pyramid together have as many channels as the features beside them.
    width = x.shape[-1] // len(self.bins)
    pyramid = [x]
    # Means over 1 x 1 to 6 x 6 cells: the context of a pixel, from the whole image to a part of it.
    for grid in self.bins:
      level = ConvNormAct(width, 1, dtype=dtype, name=f'pool_{grid}')(adaptive_mean(x, grid), train)
      # Back to the size of the features, so that they can be joined.
      pyramid.append(resize_linear(level, x.shape[1:3], self.align_corners))
    x = jnp.concatenate(pyramid, axis=-1)
    x = ConvNormAct(width, 3, dtype=dtype, name='fuse')(x, train)
    # Single values, as in the authors' code of both papers that use this network.
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    logits = Conv(self.num_classes, 1, kernel_init=lecun_normal, name='head')(x)
    return resize_linear(logits, size, self.align_corners)
