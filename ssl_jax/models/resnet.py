"""ResNet backbones (He et al. 2015, arXiv:1512.03385; stride in the 3 x 3 as in torchvision).

Parameters are named after torchvision's, so that its weights can be loaded:
`layer1.0.downsample.0.weight` is `layer1_0/downsample_0/kernel`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssl_jax.errors import UserError
from ssl_jax.models.layers import Conv, DropChannels, batch_norm, hold, max_pool3
from ssl_jax.types import FeatureDropout

DEPTHS = {
  'resnet18': ((2, 2, 2, 2), False),
  'resnet34': ((3, 4, 6, 3), False),
  'resnet50': ((3, 4, 6, 3), True),
  'resnet101': ((3, 4, 23, 3), True),
}
"""Name -> number of blocks of each stage, and whether they are bottlenecks."""

DILATED = {8: (False, False, True, True), 16: (False, False, False, True), 32: (False,) * 4}
"""Output stride -> whether each stage is dilated instead of strided."""


def stride_of(module: str) -> int:
  """Returns the stride of the features that a module of a backbone takes part in first.

  The module is one of the first level, such as 'conv1' or 'layer2_0'.
  """
  if not module.startswith('layer'):
    return 2
  return 2 ** (1 + int(module[len('layer')]))


class Block(nn.Module):
  """A residual block: two 3 x 3 convolutions, or as a bottleneck 1 x 1, 3 x 3, 1 x 1.

  A bottleneck has four times as many channels at its end.
  """

  width: int
  stride: int
  dilation: int
  bottleneck: bool
  dtype: Any = jnp.float32
  frozen: bool = False

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w i'], train: bool = False) -> Float[Array, 'b k l o']:
    """Returns the features of a batch."""

    def conv_norm(
      x: Array, features: int, kernel: int, stride: int, conv_name: str, norm_name: str
    ) -> Array:
      # A 1 x 1 kernel has no taps to move apart.
      dilation = self.dilation if kernel > 1 else 1
      # `False`: no bias, because the normalization would subtract it again.
      conv = Conv(features, kernel, stride, dilation, False, self.dtype, name=conv_name)
      return batch_norm(train and not self.frozen, self.dtype, norm_name)(conv(x))

    # (features, kernel, stride) of each convolution
    layers = [(self.width, 3, self.stride), (self.width, 3, 1)]
    if self.bottleneck:
      layers = [(self.width, 1, 1), (self.width, 3, self.stride), (4 * self.width, 1, 1)]
    y = x
    for i, (features, kernel, stride) in enumerate(layers, start=1):
      y = conv_norm(y, features, kernel, stride, f'conv{i}', f'bn{i}')
      # The last activation comes after the addition.
      if i < len(layers):
        y = jax.nn.relu(y)
    # Where the shape changes, the shortcut needs a projection to match.
    if self.stride > 1 or x.shape[-1] != y.shape[-1]:
      x = conv_norm(x, y.shape[-1], 1, self.stride, 'downsample_0', 'downsample_1')
    return jax.nn.relu(x + y)


class Backbone(nn.Module):
  """Images [B, H, W, C] -> features of the stem (stride 2) and of the stages (4, 8, 16 and 32).

  With an `output_stride` of 16 or 8 the later stages keep that stride and have dilated convolutions
  instead; the first block of a dilated stage keeps the dilation of the stage before, as in
  torchvision. With `frozen` the statistics of batch normalization stay as they are, in training as
  well; `fixed` is the stride up to which nothing learns (0: everything does).

  For three channels there are 11,176,512 parameters (resnet18), 21,284,672 (resnet34),
  23,508,032 (resnet50) or 42,500,160 (resnet101).
  """

  name_of_net: str = 'resnet50'
  output_stride: int = 32
  dtype: Any = jnp.float32
  frozen: bool = False
  fixed: int = 0

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b h w c'],
    train: bool = False,
    feature_dropout: FeatureDropout | None = None,
  ) -> list[Array]:
    """Returns the five features [B, h, w, c], all with `feature_dropout` (layers.DropChannels).

    Raises:
      UserError: if `name_of_net` or `output_stride` is unknown.
    """
    if self.name_of_net not in DEPTHS:
      raise UserError(f'model.backbone={self.name_of_net!r} is not one of {", ".join(DEPTHS)}.')
    if self.output_stride not in DILATED:
      raise UserError(f'model.output_stride={self.output_stride} is not 8, 16 or 32.')
    dtype = jnp.dtype(self.dtype)
    depths, bottleneck = DEPTHS[self.name_of_net]
    # [B, H / 2, W / 2, 64]
    x = Conv(64, 7, stride=2, use_bias=False, dtype=dtype, name='conv1')(x)
    # Layers that do not learn keep their statistics, too.
    stem_train = train and not self.frozen and self.fixed < 2
    x = hold(jax.nn.relu(batch_norm(stem_train, dtype, 'bn1')(x)), 2, self.fixed)
    # The stem's features are taken before the pooling: a U-Net's decoder needs stride 2.
    dilation, features = 1, [x]
    # [B, H / 4, W / 4, 64]
    x = max_pool3(x)
    for stage, (depth, dilated) in enumerate(zip(depths, DILATED[self.output_stride], strict=True)):
      # The pooling has already halved the sides for the first stage.
      stride = 1 if stage == 0 else 2
      for i in range(depth):
        block = Block(
          width=64 * 2**stage,
          # Only the first block of a stage changes the size.
          stride=stride if i == 0 and not dilated else 1,
          dilation=dilation,
          bottleneck=bottleneck,
          dtype=dtype,
          frozen=self.frozen or self.fixed >= 4 * 2**stage,
          name=f'layer{stage + 1}_{i}',
        )
        x = block(x, train)
        # From the second block on, the dilation skips what the stride would have skipped, so that
        # pretrained kernels see the same distances.
        if i == 0 and dilated:
          dilation *= stride
      x = hold(x, 4 * 2**stage, self.fixed)
      features.append(x)
    # All of them, because decoders use different ones.
    return [DropChannels()(x, feature_dropout) for x in features]
