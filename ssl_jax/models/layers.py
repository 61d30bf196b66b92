"""The layers of all models, each written once, in a form that is fast and equal in result.

XLA's generic lowering is slow in a few places, above all on a CPU: the gradient of `reduce_window`,
convolutions with a dilated input, and those that convolution.py lists.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ssl_jax.errors import UserError
from ssl_jax.io.interpolation import interpolation_matrix
from ssl_jax.models.operations import symbolic
from ssl_jax.models.operations.convolution import conv, matmul
from ssl_jax.models.operations.initializers import Initializer, he_normal, lecun_normal
from ssl_jax.models.operations.symbolic import Size, is_symbolic
from ssl_jax.types import FeatureDropout


def max_pool2(x: Float[Array, 'b *space c']) -> Float[Array, 'b *half c']:
  """Returns the maximum of each 2 x 2 (x 2) block; an odd last row or column is dropped."""
  halves = [n // 2 for n in x.shape[1:-1]]
  x = x[(slice(None), *(slice(2 * n) for n in halves))]
  # [B, H, W, C] -> [B, H / 2, 2, W / 2, 2, C]: each block gets axes of its own.
  blocks = x.reshape(x.shape[0], *(k for n in halves for k in (n, 2)), x.shape[-1])
  return _block_max(blocks)


@jax.custom_vjp
def _block_max(blocks: Float[Array, 'b ...']) -> Float[Array, 'b ...']:
  """Returns the maxima of blocks [B, n, 2, m, 2, C], as [B, n, m, C]."""
  return blocks.max(axis=_axes_within_block(blocks))


def _axes_within_block(blocks: Array) -> tuple[int, ...]:
  # The axes of length 2, every second one between batch and channels.
  return tuple(range(2, blocks.ndim - 1, 2))


def _block_max_forward(blocks: Array) -> tuple[Array, tuple[Array, Array]]:
  top = _block_max(blocks)
  # Kept for the gradient, which goes to the pixels that were the maximum.
  return top, (blocks, top)


def _block_max_backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array]:
  # jnp.max divides by how many pixels equal the maximum. A compiler may compute `blocks` twice and
  # round differently the second time; then no pixel equals the maximum, and 0 / 0 is NaN.
  blocks, top = saved
  axes = _axes_within_block(blocks)
  hits = (blocks == jnp.expand_dims(top, axes)).astype(grad.dtype)
  count = jnp.maximum(hits.sum(axes, keepdims=True), 1)
  return (hits * jnp.expand_dims(grad, axes) / count,)


_block_max.defvjp(_block_max_forward, _block_max_backward)


def max_pool3(x: Float[Array, 'b *space c']) -> Float[Array, 'b *half c']:
  """Returns the maximum over 3 x 3 (x 3) windows, stride 2, padding 1, as in a ResNet's stem."""
  # The maximum over a box is the maximum over each axis in turn.
  for axis in range(1, x.ndim - 1):
    # Rounded up: an odd last pixel has a window, too.
    half = -(-x.shape[axis] // 2)
    pad = [(0, 0)] * x.ndim
    pad[axis] = (1, 2 * half - x.shape[axis])
    # Minus infinity is never the maximum.
    padded = jnp.pad(x, pad, constant_values=-jnp.inf)
    taps = [lax.slice_in_dim(padded, k, k + 2 * half - 1, 2, axis) for k in range(3)]
    x = functools.reduce(jnp.maximum, taps)
  return x


def _apply_matrix(x: Array, matrix: np.ndarray | Array, axis: int) -> Array:
  """Multiplies one axis of `x` by a matrix [new size, size]."""
  # Without 'highest', accelerators would round the factors to fewer bits (TF32, bfloat16).
  product = jnp.tensordot(jnp.asarray(matrix, x.dtype), x, (1, axis), precision='highest')
  return jnp.moveaxis(product, 0, axis)


def resize_linear(
  x: Float[Array, 'b *space c'], size: Sequence[Size], align_corners: bool = False
) -> Float[Array, 'b *size c']:
  """Resizes bi- or trilinearly, without antialiasing, as `torch.nn.functional.interpolate` does.

  Raises:
    ValueError: if `size` has not one number for each axis of space.
  """
  if len(size) != x.ndim - 2:
    raise ValueError(f'resize_linear: size {tuple(size)} does not fit the shape {x.shape}')
  for axis, new in enumerate(size, start=1):
    if is_symbolic((new, x.shape[axis])):
      matrix = symbolic.interpolation_matrix(x.shape[axis], new, align_corners)
      x = _apply_matrix(x, matrix, axis)
    elif new != x.shape[axis]:
      # Linear interpolation is separable: one small matrix for each axis.
      x = _apply_matrix(x, interpolation_matrix(x.shape[axis], new, align_corners), axis)
  return x


def adaptive_mean(x: Float[Array, 'b *space c'], grid: int) -> Float[Array, 'b *grid c']:
  """Averages over `grid` cells along each axis, as `torch.nn.AdaptiveAvgPool2d` does.

  Cell i covers the pixels from floor(i n / grid) to ceil((i + 1) n / grid), so cells may overlap.
  """
  for axis in range(1, x.ndim - 1):
    n, cells = x.shape[axis], np.arange(grid)
    # An open size can be computed with on the device alone.
    numbers = jnp if is_symbolic((n,)) else np
    low, high = cells * n // grid, ((cells + 1) * n + grid - 1) // grid
    # [grid, n]: which pixels each cell covers.
    pixel = numbers.arange(n)
    inside = (pixel >= low[:, None]) & (pixel < high[:, None])
    x = _apply_matrix(x, inside / (high - low)[:, None], axis)
  return x


def pad_to_multiple(x: Float[Array, 'b *space c'], multiple: int) -> Float[Array, 'b *more c']:
  """Pads at the bottom and right so that all sides are multiples; `crop_to` undoes it.

  The image is reflected: to a network that looks less foreign than black, or than streaks.
  """
  missing = [-n % multiple for n in x.shape[1:-1]]
  return jnp.pad(x, [(0, 0), *((0, n) for n in missing), (0, 0)], mode='reflect')


def crop_to(x: Float[Array, 'b *more c'], space: Sequence[Size]) -> Float[Array, 'b *space c']:
  """Cuts off at the bottom and right what `pad_to_multiple` added to an image of size `space`."""
  return x[(slice(None), *(slice(n) for n in space))]


def hold(x: Float[Array, '...'], stride: int, fixed: int) -> Float[Array, '...']:
  """Returns the features of a stride; up to the stride `fixed` no gradient goes back through them.

  So the gradient of layers that do not learn is not computed either.
  """
  return lax.stop_gradient(x) if stride <= fixed else x


Dense = functools.partial(nn.Dense, kernel_init=lecun_normal)
"""A dense layer as in Flax."""


class Conv(nn.Module):
  """A convolution; its parameters have the names, shapes and meaning of those of `nn.Conv`.

  Odd `kernel_size` along all axes, zero-padded so that stride 1 keeps the size; 2-D or 3-D as its
  input is. The output has the dtype `dtype`; the parameters are float32.
  """

  features: int
  kernel_size: int = 3
  stride: int = 1
  dilation: int = 1
  use_bias: bool = True
  dtype: Any = jnp.float32
  kernel_init: Initializer = he_normal

  @nn.compact
  def __call__(self, x: Float[Array, 'b *space i']) -> Float[Array, 'b *out o']:
    """Convolves a batch."""
    # [*window, inputs, outputs], as in Flax.
    shape = (self.kernel_size,) * (x.ndim - 2) + (x.shape[-1], self.features)
    kernel = self.param('kernel', self.kernel_init, shape)
    # Parameters stay float32 and are rounded for each use: small updates would be lost in half
    # precision.
    x = conv(x.astype(self.dtype), kernel.astype(self.dtype), self.stride, self.dilation)
    if self.use_bias:
      x = x + self.param('bias', nn.initializers.zeros, (self.features,)).astype(self.dtype)
    return x


class UpConv2(nn.Module):
  """A 2 x 2 (x 2) transposed convolution of stride 2: each input pixel maps to a block of its own.

  `kernel[a, b]` maps the pixel (i, j) to (2 i + a, 2 j + b), as in torch; `nn.ConvTranspose`
  mirrors the kernel.
  """

  features: int
  dtype: Any = jnp.float32
  use_bias: bool = True
  kernel_init: Initializer = he_normal

  @nn.compact
  def __call__(self, x: Float[Array, 'b *space i']) -> Float[Array, 'b *twice o']:
    """Returns features of twice the size."""
    rank, space = x.ndim - 2, x.shape[1:-1]
    kernel = self.param('kernel', self.kernel_init, (2,) * rank + (x.shape[-1], self.features))
    # A matrix product makes all pixels of a block as channels; a transposition puts them in place.
    # [i, 2 * 2 * o]
    columns = jnp.moveaxis(kernel.astype(self.dtype), -2, 0).reshape(x.shape[-1], -1)
    blocks = matmul(x.astype(self.dtype), columns)
    # [B, H, W, 2, 2, o]
    blocks = blocks.reshape(x.shape[0], *space, *(2,) * rank, self.features)
    # -> [B, H, 2, W, 2, o]: each axis of space is followed by its axis within the block.
    order = [axis for pair in zip(range(rank), range(rank, 2 * rank), strict=True) for axis in pair]
    blocks = blocks.transpose(0, *(1 + axis for axis in order), 2 * rank + 1)
    out = blocks.reshape(x.shape[0], *(2 * n for n in space), self.features)
    if self.use_bias:
      out = out + self.param('bias', nn.initializers.zeros, (self.features,)).astype(self.dtype)
    return out


def batch_norm(
  train: bool, dtype: Any, name: str | None = None, epsilon: float = 1e-5
) -> nn.BatchNorm:
  """Returns a batch normalization; all models here share its settings, most of them `epsilon`.

  Its statistics are float32 whatever `dtype` is.
  """
  # Flax's momentum is the fraction that is kept: 0.9 is torch's 0.1.
  return nn.BatchNorm(
    use_running_average=not train, momentum=0.9, epsilon=epsilon, dtype=dtype, name=name
  )


class DropChannels(nn.Module):
  """Drops whole channels of each example, as the terms of a batch ask for, and rescales the rest.

  Terms differ in it within one batch, which is why this is no `nn.Dropout`. Where nothing is asked
  for (outside training) the layer does nothing.
  """

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b *space c'], dropout: FeatureDropout | None
  ) -> Float[Array, 'b *space c']:
    """Returns the features with channels dropped; `rates` are drawn from the key 'dropout'."""
    if dropout is None:
      return x
    factor = jnp.ones((x.shape[0], x.shape[-1]))
    if dropout.rates is not None:
      # [B, 1], against [B, C] random numbers.
      fraction = dropout.rates[:, None]
      drawn = jax.random.uniform(self.make_rng('dropout'), factor.shape)
      # Rescaled, so that the expected sum over channels stays the same; the maximum guards against
      # a fraction of 1.
      factor = (drawn >= fraction) / jnp.maximum(1 - fraction, 1e-6)
    if dropout.mask is not None:
      factor = factor * dropout.mask(x.shape[-1])
    # The same for all pixels of a channel.
    return x * jnp.expand_dims(factor, range(1, x.ndim - 1)).astype(x.dtype)


class GroupNorm(nn.Module):
  """`nn.GroupNorm` with `size` channels a group, in the order of sums that is fast.

  It sums over space first and then over the few channels. The statistics are float32; the output
  has the dtype of the input.
  """

  size: int

  @nn.compact
  def __call__(self, x: Float[Array, 'b *space c']) -> Float[Array, 'b *space c']:
    """Normalizes each image's groups of channels to mean 0 and variance 1, then scales them."""
    scale = self.param('scale', nn.initializers.ones, (x.shape[-1],))
    bias = self.param('bias', nn.initializers.zeros, (x.shape[-1],))
    wide, space = x.astype(jnp.float32), tuple(range(1, x.ndim - 1))

    def group_mean(values: Array) -> Array:
      # [B, *space, C] -> [B, C] -> [B, groups]
      groups = values.mean(space).reshape(x.shape[0], -1, self.size).mean(-1)
      # Back to [B, C]: every channel gets the mean of its group.
      return jnp.repeat(groups, self.size, axis=1)

    mean = group_mean(wide)
    # E[x^2] - E[x]^2 needs one pass over the pixels; rounding may leave it just below 0.
    variance = jnp.maximum(group_mean(wide * wide) - mean * mean, 0)
    # Mean, deviation, scale and bias become one multiplication and one addition for each pixel.
    factor = scale * lax.rsqrt(variance + 1e-5)
    shift = bias - mean * factor
    factor, shift = (jnp.expand_dims(v, space) for v in (factor, shift))
    return (wide * factor + shift).astype(x.dtype)


NORMS = ('batch', 'group', 'instance', 'none')
"""What `model.norm` may be."""


class ConvNormAct(nn.Module):
  """A convolution, a normalization and a ReLU.

  `norm` is one of NORMS; the convolution has a bias only with 'none'. 'group' (Wu & He 2018,
  arXiv:1803.08494) has up to 16 channels a group, 'instance' (Ulyanov et al. 2016,
  arXiv:1607.08022) one. Both look at one image alone, so that training and prediction agree.
  """

  features: int
  kernel_size: int = 3
  dilation: int = 1
  norm: str = 'batch'
  dtype: Any = jnp.float32
  kernel_init: Initializer = he_normal
  negative_slope: float = 0.0

  @nn.compact
  def __call__(self, x: Float[Array, 'b *space i'], train: bool = False) -> Array:
    """Returns features of the same size, [B, *space, features].

    Raises:
      UserError: if `norm` is not one of NORMS.
    """
    if self.norm not in NORMS:
      raise UserError(f'model.norm={self.norm!r} is not one of {", ".join(NORMS)}.')
    x = Conv(
      self.features,
      self.kernel_size,
      dilation=self.dilation,
      # A normalization would subtract the bias again.
      use_bias=self.norm == 'none',
      dtype=self.dtype,
      kernel_init=self.kernel_init,
      name='conv',
    )(x)
    if self.norm == 'batch':
      x = batch_norm(train, self.dtype, 'norm')(x)
    elif self.norm != 'none':
      # The largest group of up to 16 channels (a power of two) that divides the width evenly.
      size = math.gcd(self.features, 16) if self.norm == 'group' else 1
      x = GroupNorm(size, name='norm')(x)
    return jax.nn.leaky_relu(x, self.negative_slope) if self.negative_slope else jax.nn.relu(x)
