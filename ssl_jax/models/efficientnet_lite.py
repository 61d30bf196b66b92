"""EfficientNet-Lite backbones: EfficientNet (Tan & Le 2019, arXiv:1905.11946) for small devices.

Without squeeze-and-excitation and with ReLU6, as published by its authors in 2020; strided
convolutions are padded as TensorFlow's 'SAME'. Parameters are named after the PyTorch port, so that
its weights can be loaded: `_blocks.0._bn1.weight` is `blocks_0/bn1/scale`.
"""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ssl_jax.errors import UserError
from ssl_jax.models.layers import DropChannels, batch_norm, hold
from ssl_jax.models.operations.convolution import conv
from ssl_jax.models.operations.depthwise import conv_same, depthwise_conv
from ssl_jax.models.operations.initializers import Initializer, he_normal, normal
from ssl_jax.types import FeatureDropout

COEFFICIENTS = {
  'efficientnet_lite0': (1.0, 1.0),
  'efficientnet_lite1': (1.0, 1.1),
  'efficientnet_lite2': (1.1, 1.2),
  'efficientnet_lite3': (1.2, 1.4),
  'efficientnet_lite4': (1.4, 1.8),
}
"""Name -> what multiplies the widths and the numbers of blocks of Lite0."""

EPSILON = 1e-3
"""Added to the variances of batch normalization, as in TensorFlow."""

STEM_WIDTH = 32
"""Channels of the first convolution; the same in all sizes."""


class Stage(NamedTuple):
  """Blocks of one width; the first may change the size."""

  repeats: int
  kernel: int
  stride: int
  expansion: int
  width: int


STAGES = (
  Stage(1, 3, 1, 1, 16),
  Stage(2, 3, 2, 6, 24),
  Stage(2, 5, 2, 6, 40),
  Stage(3, 3, 2, 6, 80),
  Stage(3, 5, 1, 6, 112),
  Stage(4, 5, 2, 6, 192),
  Stage(1, 3, 1, 6, 320),
)
"""The stages of Lite0 (Table 1 of the paper); the stem before them has stride 2."""


def scaled_stages(name: str) -> list[Stage]:
  """Returns the stages of a size; widths are multiples of 8, and the ends are not repeated more.

  Raises:
    UserError: if there is no such size.
  """
  if name not in COEFFICIENTS:
    raise UserError(f'model.backbone={name!r} is not one of {", ".join(COEFFICIENTS)}.')
  width_factor, depth_factor = COEFFICIENTS[name]
  scaled = []
  for i, stage in enumerate(STAGES):
    wanted = stage.width * width_factor
    width = max(8, int(wanted + 4) // 8 * 8)
    # Rounding down must not take away more than a tenth.
    if width < 0.9 * wanted:
      width += 8
    at_an_end = i in (0, len(STAGES) - 1)
    repeats = stage.repeats if at_an_end else math.ceil(depth_factor * stage.repeats)
    scaled.append(stage._replace(width=width, repeats=repeats))
  return scaled


def stride_of(name: str, module: str) -> int:
  """Returns the stride of the features that a module of a backbone takes part in first.

  The module is one of the first level, such as 'conv_stem' or 'blocks_3'.
  """
  if not module.startswith('blocks_'):
    return 2
  index = int(module.removeprefix('blocks_'))
  stride = 2
  for stage in scaled_stages(name):
    stride *= stage.stride
    if index < stage.repeats:
      break
    index -= stage.repeats
  return stride


def relu6(x: Float[Array, '*n']) -> Float[Array, '*n']:
  """Returns x cut off at 0 and 6."""
  return jnp.clip(x, 0, 6)


class _Kernel(nn.Module):
  """The weights of a convolution, without the convolution."""

  shape: tuple[int, ...]
  init_fn: Initializer

  @nn.compact
  def __call__(self) -> Array:
    return self.param('kernel', self.init_fn, self.shape)


class _FrozenNorm(nn.Module):
  """A batch normalization whose statistics stay, as the factor and the shift of each channel."""

  features: int

  @nn.compact
  def __call__(self) -> tuple[Array, Array]:
    shape = (self.features,)
    scale = self.param('scale', nn.initializers.ones, shape)
    bias = self.param('bias', nn.initializers.zeros, shape)
    mean = self.variable('batch_stats', 'mean', jnp.zeros, shape).value
    var = self.variable('batch_stats', 'var', jnp.ones, shape).value
    factor = scale * lax.rsqrt(var + EPSILON)
    return factor, bias - mean * factor


class _Layer(NamedTuple):
  """A convolution with its normalization, as a block has three of them."""

  conv_name: str
  norm_name: str
  features: int
  kernel: int = 1
  stride: int = 1
  dilation: int = 1
  depthwise: bool = False


def _conv_norm(x: Array, layer: _Layer, frozen: bool, dtype: Any, train: bool) -> Array:
  """Convolves and normalizes; its parameters belong to the module that calls it.

  With frozen statistics the normalization becomes a part of the kernel: no pass over the pixels,
  and a gradient that is as cheap.
  """
  size = layer.kernel
  if layer.depthwise:
    shape = (size, size, 1, x.shape[-1])
    # Each output sums up one channel only, so the fan out has no channels.
    init_fn = normal(math.sqrt(2 / size**2))
  else:
    shape = (size, size, x.shape[-1], layer.features)
    init_fn = he_normal
  kernel = _Kernel(shape, init_fn, name=layer.conv_name)()
  shift = None
  if frozen:
    factor, shift = _FrozenNorm(layer.features, name=layer.norm_name)()
    kernel = kernel * factor
  x, kernel = x.astype(dtype), kernel.astype(dtype)
  if layer.depthwise:
    x = depthwise_conv(x, kernel, layer.stride, layer.dilation)
  elif layer.stride == 1:
    # Of size 1, which needs no padding.
    x = conv(x, kernel)
  else:
    x = conv_same(x, kernel, layer.stride)
  if shift is not None:
    return x + shift.astype(dtype)
  return batch_norm(train, dtype, layer.norm_name, EPSILON)(x)


class Block(nn.Module):
  """An inverted residual block (Sandler et al. 2018, arXiv:1801.04381): wide, depthwise, narrow."""

  width: int
  kernel: int
  stride: int
  dilation: int
  expansion: int
  frozen: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w i'], train: bool = False) -> Float[Array, 'b k l o']:
    """Returns the features of a batch."""
    wide = x.shape[-1] * self.expansion
    layers = [
      _Layer('expand_conv', 'bn0', wide),
      _Layer('depthwise_conv', 'bn1', wide, self.kernel, self.stride, self.dilation, True),
      _Layer('project_conv', 'bn2', self.width),
    ]
    if self.expansion == 1:
      layers = layers[1:]
    y = x
    for layer in layers:
      y = _conv_norm(y, layer, self.frozen, self.dtype, train)
      # The narrow features stay linear.
      if layer.conv_name != 'project_conv':
        y = relu6(y)
    if self.stride == 1 and x.shape == y.shape:
      y = y + x
    return y


class Backbone(nn.Module):
  """Images [B, H, W, C] of any size -> features of strides 2, 4, 8, 16 and 32.

  `last_stride` ends the network at a smaller stride, with fewer features. With an `output_stride`
  of 8 or 16 later stages keep that stride and have dilated convolutions instead. With `frozen` the
  statistics of batch normalization stay as they are, in training as well; `fixed` is the stride up
  to which nothing learns (0: everything does). Lite0 has 2,958,848 parameters for three channels,
  700,768 of them up to stride 16.

  There is no stochastic depth, which the authors had when they trained on ImageNet.
  """

  name_of_net: str = 'efficientnet_lite0'
  output_stride: int = 32
  dtype: Any = jnp.float32
  frozen: bool = False
  fixed: int = 0
  last_stride: int = 32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b h w c'],
    train: bool = False,
    feature_dropout: FeatureDropout | None = None,
  ) -> list[Array]:
    """Returns the features [B, h, w, c], all with `feature_dropout` (layers.DropChannels).

    Raises:
      UserError: if `name_of_net` is unknown.
    """
    dtype = jnp.dtype(self.dtype)
    stages = scaled_stages(self.name_of_net)
    stem = _Layer('conv_stem', 'bn0', STEM_WIDTH, 3, 2)
    # Layers that do not learn keep their statistics, too.
    x = relu6(_conv_norm(x, stem, self.frozen or self.fixed >= 2, dtype, train))
    # The nominal stride goes on growing where a dilation takes the place of a stride.
    stride, dilation, index = 2, 1, 0
    features: dict[int, Array] = {}
    for stage in stages:
      # The features of a stride are those of the last block that has it.
      if stage.stride > 1:
        features[stride] = x = hold(x, stride, self.fixed)
      stride *= stage.stride
      if stride > self.last_stride:
        break
      dilated = stride > self.output_stride and stage.stride > 1
      for i in range(stage.repeats):
        first = i == 0
        block = Block(
          width=stage.width,
          kernel=stage.kernel,
          stride=stage.stride if first and not dilated else 1,
          dilation=dilation,
          expansion=stage.expansion,
          frozen=self.frozen or self.fixed >= stride,
          dtype=dtype,
          name=f'blocks_{index}',
        )
        x = block(x, train)
        index += 1
        # From the second block on, the dilation skips what the stride would have skipped, so that
        # pretrained kernels see the same distances.
        if first and dilated:
          dilation *= stage.stride
    if stride <= self.last_stride:
      features[stride] = hold(x, stride, self.fixed)
    return [DropChannels()(x, feature_dropout) for x in features.values()]
