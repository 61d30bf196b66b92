"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597) with an EfficientNet-Lite and a light decoder.

Made for few labels and small machines: the encoder ends at stride 16 and begins with ImageNet's
weights, the decoder has a tenth of the parameters.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssl_jax.models.efficientnet_lite import Backbone
from ssl_jax.models.layers import Conv, ConvNormAct, crop_to, pad_to_multiple, resize_linear
from ssl_jax.models.operations.initializers import lecun_normal
from ssl_jax.types import FeatureDropout

LAST_STRIDE = 16
"""At which the encoder ends."""


class Model(nn.Module):
  """Images [B, H, W, C] of any size -> float32 logits [B, H, W, num_classes].

  An image whose sides are not multiples of `size_multiple()` is reflected at the bottom and right,
  so that images of similar sizes share a compiled program. `widths` are those of the decoder at the
  strides 8, 4 and 2; the logits are made at stride 2 and resized. `frozen` keeps the statistics of
  the backbone's batch normalization as they are, in training as well (None: where its weights are
  pretrained); `fixed` is the stride up to which the backbone learns nothing (0: all of it learns).
  With Lite0 it has 798,931 parameters for three channels and three classes.
  """

  num_classes: int
  backbone: str = 'efficientnet_lite0'
  widths: Sequence[int] = (64, 32, 16)
  frozen: bool | None = None
  fixed: int = 0
  dtype: Any = jnp.float32

  def size_multiple(self) -> int:
    """Returns what the sides of images are multiples of inside the network."""
    return LAST_STRIDE

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
    x = pad_to_multiple(x, self.size_multiple())
    size = x.shape[1:3]
    backbone = Backbone(
      self.backbone,
      32,
      dtype,
      bool(self.frozen),
      self.fixed,
      last_stride=LAST_STRIDE,
      name='backbone',
    )
    # Skips of strides 2, 4 and 8; x has stride 16.
    *skips, x = backbone(x, train, feature_dropout)

    def block(x: Array, width: int, kernel: int, name: str) -> Array:
      # Group normalization, because it does not depend on who else is in the batch.
      return ConvNormAct(width, kernel, norm='group', dtype=dtype, name=name)(x, train)

    for level, width in enumerate(self.widths):
      # The backbone's features have deviations of 7 to 9 and unlike ones at each stride, so that
      # each is normalized on its way; 1 x 1, because it is cheap.
      skip = block(skips.pop(), width, 1, f'skip{level}')
      # Before the resizing, where there are a quarter of the pixels.
      x = block(x, width, 1, f'narrow{level}')
      x = resize_linear(x, skip.shape[1:3])
      x = block(x + skip, width, 3, f'up{level}')
    # Float32 even where the layers before it are in half precision.
    logits = Conv(self.num_classes, 3, kernel_init=lecun_normal, name='head')(x)
    return crop_to(resize_linear(logits, size), space)
