"""DeepLabV2 (Chen et al. 2017, arXiv:1606.00915): a ResNet and a sum of dilated classifiers."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssl_jax.models import backbones
from ssl_jax.models.layers import Conv, resize_linear
from ssl_jax.models.operations.initializers import normal
from ssl_jax.types import FeatureDropout


class Model(nn.Module):
  """Images [B, H, W, C] of any size -> float32 logits [B, H, W, num_classes].

  The logits are the sum of one 3 x 3 convolution for each dilation of `rates`. With a ResNet-101 it
  has 42,721,356 parameters for three channels and three classes.
  """

  num_classes: int
  backbone: str = 'resnet101'
  output_stride: int = 8
  rates: Sequence[int] = (6, 12, 18, 24)
  align_corners: bool = True
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
    # [B, H / 8, W / 8, channels] with the default output stride; there is no decoder.
    x = backbone(x, train, feature_dropout)[-1]
    # Small logits at the start: all classes are about equally probable.
    small = normal(0.01)
    logits: Any = sum(
      # Each rate looks at another scale. Without a dtype the layer, and so the loss, is in float32.
      Conv(self.num_classes, 3, dilation=rate, kernel_init=small, name=f'head_{i}')(x)
      for i, rate in enumerate(self.rates)
    )
    # Resized as logits: the softmax comes later, at full size.
    return resize_linear(logits, size, self.align_corners)
