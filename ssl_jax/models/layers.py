"""The layers of the models, each once, in the form that is fast and equal in result.

XLA's generic lowering is slow in a few places, on a CPU above all: the backward of
`reduce_window`, convolutions with a dilated input, and those that convolution.py names.
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
from ssl_jax.io.interpolation import interpolation
from ssl_jax.models.convolution import conv, matmul

he_normal = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
"""He et al. 2015 as torchvision's ResNet uses it: fan out, ReLU, normal."""


def max_pool2(x: Float[Array, 'b *space c']) -> Float[Array, 'b *half c']:
  """Maximum over 2 x 2 (x 2) blocks, stride 2; an odd last row or column is dropped (VALID)."""
  halves = [n // 2 for n in x.shape[1:-1]]
  x = x[(slice(None), *(slice(2 * n) for n in halves))]
  blocks = x.reshape(x.shape[0], *(k for n in halves for k in (n, 2)), x.shape[-1])
  return _block_max(blocks)


@jax.custom_vjp
def _block_max(blocks: Float[Array, 'b ...']) -> Float[Array, 'b ...']:
  return blocks.max(axis=_within(blocks))


def _within(blocks: Array) -> tuple[int, ...]:
  return tuple(range(2, blocks.ndim - 1, 2))


def _block_max_forward(blocks: Array) -> tuple[Array, tuple[Array, Array]]:
  top = _block_max(blocks)
  return top, (blocks, top)


def _block_max_backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array]:
  # jnp.max divides by how many pixels equal the maximum. A compiler may compute `blocks` twice,
  # rounded otherwise the second time; then none does, and 0 / 0 is NaN.
  blocks, top = saved
  axes = _within(blocks)
  hits = (blocks == jnp.expand_dims(top, axes)).astype(grad.dtype)
  count = jnp.maximum(hits.sum(axes, keepdims=True), 1)
  return (hits * jnp.expand_dims(grad, axes) / count,)


_block_max.defvjp(_block_max_forward, _block_max_backward)


def max_pool3(x: Float[Array, 'b *space c']) -> Float[Array, 'b *half c']:
  """Maximum over 3 x 3 (x 3) windows, stride 2, padding 1: the pool of the ResNet stem."""
  for axis in range(1, x.ndim - 1):  # a maximum over a box is a maximum over each axis in turn
    half = -(-x.shape[axis] // 2)
    pad = [(0, 0)] * x.ndim
    pad[axis] = (1, 2 * half - x.shape[axis])
    padded = jnp.pad(x, pad, constant_values=-jnp.inf)
    taps = [lax.slice_in_dim(padded, k, k + 2 * half - 1, 2, axis) for k in range(3)]
    x = functools.reduce(jnp.maximum, taps)
  return x


def resize_linear(
  x: Float[Array, 'b *space c'], size: Sequence[int], align_corners: bool = False
) -> Float[Array, 'b *size c']:
  """Bi- or trilinear resize to `size` (no antialiasing), as `torch.nn.functional.interpolate`."""
  if len(size) != x.ndim - 2:
    raise ValueError(f'resize_linear: size {tuple(size)} does not fit the shape {x.shape}')
  for axis, new in enumerate(size, start=1):
    if new != x.shape[axis]:
      matrix = jnp.asarray(interpolation(x.shape[axis], new, align_corners), x.dtype)
      x = jnp.moveaxis(jnp.tensordot(matrix, x, (1, axis), precision='highest'), 0, axis)
  return x


def adaptive_mean(x: Float[Array, 'b *space c'], grid: int) -> Float[Array, 'b *grid c']:
  """Means over a grid of `grid` cells an axis, as `torch.nn.AdaptiveAvgPool`.

  Cell i covers the pixels from floor(i n / grid) to ceil((i + 1) n / grid), so cells may overlap.
  """
  for axis in range(1, x.ndim - 1):
    n, cells = x.shape[axis], np.arange(grid)
    low, high = cells * n // grid, -(-(cells + 1) * n // grid)
    pixel = np.arange(n)
    inside = (pixel >= low[:, None]) & (pixel < high[:, None])
    matrix = jnp.asarray(inside / (high - low)[:, None], x.dtype)
    x = jnp.moveaxis(jnp.tensordot(matrix, x, (1, axis), precision='highest'), 0, axis)
  return x


def pad_to_multiple(x: Float[Array, 'b *space c'], multiple: int) -> Float[Array, 'b *more c']:
  """Pads at the bottom/right; the edge goes on, which a network sees as less foreign than black."""
  missing = [-n % multiple for n in x.shape[1:-1]]
  return jnp.pad(x, [(0, 0), *((0, n) for n in missing), (0, 0)], mode='edge')


class Conv(nn.Module):
  """`conv` with its parameters: named, shaped and meant as those of `nn.Conv`."""

  features: int
  kernel_size: int = 3
  stride: int = 1
  dilation: int = 1
  use_bias: bool = True
  dtype: Any = jnp.float32
  kernel_init: Any = he_normal

  @nn.compact
  def __call__(self, x: Float[Array, 'b *space i']) -> Float[Array, 'b *out o']:
    shape = (self.kernel_size,) * (x.ndim - 2) + (x.shape[-1], self.features)
    kernel = self.param('kernel', self.kernel_init, shape)
    x = conv(x.astype(self.dtype), kernel.astype(self.dtype), self.stride, self.dilation)
    if self.use_bias:
      x = x + self.param('bias', nn.initializers.zeros, (self.features,)).astype(self.dtype)
    return x


class UpConv2(nn.Module):
  """2 x 2 (x 2) transposed convolution of stride 2: every pixel paints its own block.

  `kernel[a, b]` paints the pixel (2 i + a, 2 j + b), as in torch; `nn.ConvTranspose` mirrors it.
  """

  features: int
  dtype: Any = jnp.float32
  use_bias: bool = True

  @nn.compact
  def __call__(self, x: Float[Array, 'b *space i']) -> Float[Array, 'b *twice o']:
    rank, space = x.ndim - 2, x.shape[1:-1]
    kernel = self.param('kernel', he_normal, (2,) * rank + (x.shape[-1], self.features))
    columns = jnp.moveaxis(kernel.astype(self.dtype), -2, 0).reshape(x.shape[-1], -1)
    blocks = matmul(x.astype(self.dtype), columns)
    blocks = blocks.reshape(x.shape[0], *space, *(2,) * rank, self.features)
    order = [axis for pair in zip(range(rank), range(rank, 2 * rank), strict=True) for axis in pair]
    blocks = blocks.transpose(0, *(1 + axis for axis in order), 2 * rank + 1)
    out = blocks.reshape(x.shape[0], *(2 * n for n in space), self.features)
    if self.use_bias:
      out = out + self.param('bias', nn.initializers.zeros, (self.features,)).astype(self.dtype)
    return out


def batch_norm(train: bool, dtype: Any, name: str | None = None) -> nn.BatchNorm:
  """Batch normalisation as every model here uses it; statistics are float32 throughout."""
  return nn.BatchNorm(
    use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, name=name
  )


class DropChannels(nn.Module):
  """Drops a share of each example's channels, its own share for each; the others grow to make up.

  Outside training, where there is no share, it does nothing.
  """

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b *space c'], share: Float[Array, ' b'] | None
  ) -> Float[Array, 'b *space c']:
    if share is None:
      return x
    share = share[:, None]
    drawn = jax.random.uniform(self.make_rng('dropout'), (x.shape[0], x.shape[-1]))
    factor = (drawn >= share) / jnp.maximum(1 - share, 1e-6)
    return x * jnp.expand_dims(factor, range(1, x.ndim - 1)).astype(x.dtype)


class GroupNorm(nn.Module):
  """`nn.GroupNorm` with `size` channels a group: sums over space first, then over the few channels.

  Statistics are float32; the answer has the dtype of `x`.
  """

  size: int

  @nn.compact
  def __call__(self, x: Float[Array, 'b *space c']) -> Float[Array, 'b *space c']:
    scale = self.param('scale', nn.initializers.ones, (x.shape[-1],))
    bias = self.param('bias', nn.initializers.zeros, (x.shape[-1],))
    wide, space = x.astype(jnp.float32), tuple(range(1, x.ndim - 1))

    def of_group(values: Array) -> Array:
      groups = values.mean(space).reshape(len(x), -1, self.size).mean(-1)
      return jnp.repeat(groups, self.size, axis=1)

    mean = of_group(wide)
    factor = scale * lax.rsqrt(jnp.maximum(of_group(wide * wide) - mean * mean, 0) + 1e-5)
    shift = bias - mean * factor
    factor, shift = (jnp.expand_dims(v, space) for v in (factor, shift))
    return (wide * factor + shift).astype(x.dtype)


NORMS = ('batch', 'group', 'instance', 'none')


class ConvNormAct(nn.Module):
  """Convolution, normalisation (one of `NORMS`; but for 'none' the convolution has no bias), ReLU.

  'group' (Wu and He 2018) has up to 16 channels a group, 'instance' (Ulyanov et al. 2016) one: both
  look at one image only, so that they do the same in training and in prediction.
  """

  features: int
  kernel_size: int = 3
  dilation: int = 1
  norm: str = 'batch'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b *space i'], train: bool = False) -> Array:
    if self.norm not in NORMS:
      raise UserError(f'model.norm is one of {", ".join(NORMS)}, not {self.norm!r}.')
    plain = self.norm == 'none'
    x = Conv(
      self.features,
      self.kernel_size,
      dilation=self.dilation,
      use_bias=plain,
      dtype=self.dtype,
      name='conv',
    )(x)
    if self.norm == 'batch':
      x = batch_norm(train, self.dtype, 'norm')(x)
    elif not plain:
      x = GroupNorm(math.gcd(self.features, 16) if self.norm == 'group' else 1, name='norm')(x)
    return jax.nn.relu(x)
