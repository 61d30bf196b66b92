"""DeepLabV3+ (Chen et al. 2018, arXiv:1802.02611) on a ResNet with a plain 7 x 7 stem."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssl_jax.models import backbones
from ssl_jax.models.layers import Conv, ConvNormAct, resize_linear
from ssl_jax.models.operations.initializers import lecun_normal
from ssl_jax.types import FeatureDropout

RATES = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}
"""The dilations of the pyramid for each output stride; those for 8 and 16 are the paper's."""


class Model(nn.Module):
  """Images [B, H, W, C] of any size -> float32 logits [B, H, W, num_classes].

  `rates` are the dilations of the pyramid, by default RATES; `dropout` drops whole channels after
  the pyramid and single values before the classifier. With a ResNet-50 it has 40,347,555
  parameters, with a ResNet-101 59,339,683 (three channels and three classes).
  """

  num_classes: int
  backbone: str = 'resnet50'
  output_stride: int = 8
  rates: Sequence[int] | None = None
  align_corners: bool = True
  dropout: Sequence[float] = (0.5, 0.1)
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
    dtype = jnp.dtype(self.dtype)

    def layer(x: Array, name: str, features: int = 256, kernel: int = 3, rate: int = 1) -> Array:
      # Every layer but the last has this form.
      return ConvNormAct(features, kernel, dilation=rate, dtype=dtype, name=name)(x, train)

    def dropout(x: Array, rate: float, whole: bool) -> Array:
      # As ST++'s code: whole channels after the pyramid, single values before the classifier.
      axes = (1, 2) if whole else ()
      return nn.Dropout(rate, broadcast_dims=axes, deterministic=not train)(x)

    size = x.shape[1:3]
    backbone = backbones.make(self.backbone, self.output_stride, dtype, self.frozen, self.fixed)
    # `low` has stride 4 and shows fine borders; `high` has the output stride and tells the classes.
    _, low, *_, high = backbone(x, train, feature_dropout)

    rates = RATES[self.output_stride] if self.rates is None else self.rates
    # Atrous spatial pyramid pooling (ASPP): the same features seen at several scales.
    pyramid = [layer(high, 'aspp_0', kernel=1)]
    pyramid += [layer(high, f'aspp_{i}', rate=rate) for i, rate in enumerate(rates, start=1)]
    # The mean over the image, given to every pixel, tells it what kind of image it is in.
    pooled = layer(high.mean((1, 2), keepdims=True), 'aspp_pool', kernel=1)
    pyramid.append(jnp.broadcast_to(pooled, pyramid[0].shape))
    high = layer(jnp.concatenate(pyramid, axis=-1), 'aspp_project', kernel=1)
    high = dropout(high, self.dropout[0], whole=True)

    # The decoder: coarse features are brought to the size of the fine ones.
    high = resize_linear(high, low.shape[1:3], self.align_corners)
    # Few channels, so that the fine features do not outweigh the others (section 3.1 of the paper).
    low = layer(low, 'low_level', features=48, kernel=1)
    x = layer(jnp.concatenate([low, high], axis=-1), 'fuse_1')
    x = dropout(layer(x, 'fuse_2'), self.dropout[1], whole=False)
    # Float32 even where the layers before it are in half precision.
    logits = Conv(self.num_classes, 1, kernel_init=lecun_normal, name='head')(x)
    return resize_linear(logits, size, self.align_corners)
