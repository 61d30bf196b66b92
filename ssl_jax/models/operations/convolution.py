"""Convolutions, each computed in the form that is fastest for its shape; the results are equal.

XLA on a CPU is slow at a few forms: a 1 x 1 convolution that is not written as a matrix product, a
dilated convolution most of whose taps see padding, one with fewer pixels than channels, one of
volumes, and the gradient by the kernel wherever the image is large. `conv` chooses.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ssl_jax.models.operations.symbolic import is_symbolic

MIN_LIVE_FRACTION = 0.75
"""A dilated convolution that uses less of its multiplications is computed as a sum of taps."""

ROW_BLOCK_PIXELS = 2048
"""Pixels of a batch whose patches fit a CPU's cache (measured on two cores)."""


@jax.custom_vjp
def _product(x: Float[Array, 'n i'], kernel: Float[Array, 'i o']) -> Float[Array, 'n o']:
  """A matrix product whose gradient by the kernel transposes the smaller of its operands."""
  return x @ kernel


def _product_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
  # Without the barrier XLA fuses everything that made `g` into a transposing copy, which it then
  # walks column by column: slower than the product itself.
  x, kernel = saved
  g = lax.optimization_barrier(g)
  # Sums over the rows of both operands: x^T g without writing out a transposed x.
  contract_rows = (((0,), (0,)), ((), ()))
  dx = g @ kernel.T
  if x.shape[1] <= g.shape[1]:
    return dx, lax.dot_general(x, g, contract_rows)
  return dx, lax.dot_general(g, x, contract_rows).T


_product.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _product_backward)


def matmul(x: Float[Array, '*n i'], kernel: Float[Array, 'i o']) -> Float[Array, '*n o']:
  """Returns `x @ kernel` over the last axis, with a gradient that is fast on a CPU."""
  return _product(x.reshape(-1, x.shape[-1]), kernel).reshape(*x.shape[:-1], -1)


def _patches(x: Array, sides: Sequence[int], dilation: int, space: Sequence[int]) -> Array:
  """Returns what every tap of a kernel sees, [B, *space, taps * C], of an image already padded."""
  # One copy of the image for each tap, shifted by the tap's offset.
  windows = []
  for tap in np.ndindex(*sides):
    starts = [dilation * t for t in tap]
    window = [slice(start, start + n) for start, n in zip(starts, space, strict=True)]
    windows.append(x[(slice(None), *window)])
  # Tap by tap, and within a tap by channel: the order of a kernel [*k, i, o] reshaped to rows.
  return jnp.concatenate(windows, axis=-1)


def _live_taps(size: int, kernel: int, dilation: int) -> list[tuple[int, int]]:
  """Returns (tap, offset) of the taps along an axis that see at least one pixel and not padding."""
  # The middle tap of an odd kernel has the offset 0.
  offsets = [(k, (k - kernel // 2) * dilation) for k in range(kernel)]
  return [(k, offset) for k, offset in offsets if abs(offset) < size]


def _live_fraction(space: Sequence[int], sides: Sequence[int], dilation: int) -> float:
  """Returns the fraction of a convolution's multiplications that meet a pixel and not padding."""
  fraction = 1.0
  for size, kernel in zip(space, sides, strict=True):
    # A tap with the offset d reaches beyond the border at |d| of the positions.
    pixels = sum(size - abs(offset) for _, offset in _live_taps(size, kernel, dilation))
    fraction *= pixels / (size * kernel)
  return fraction


def _sum_of_taps(x: Array, kernel: Array, dilation: int) -> Array:
  """Computes a dilated convolution as one matrix product a tap, over the pixels that it sees."""
  space = x.shape[1:-1]
  # `strict=False`, because the kernel's shape goes on with its channels.
  live = [_live_taps(n, k, dilation) for n, k in zip(space, kernel.shape, strict=False)]
  total: Any = 0
  for taps in np.ndindex(*(len(axis) for axis in live)):
    index, offsets = zip(*(axis[t] for axis, t in zip(live, taps, strict=True)), strict=True)
    # The part of the image that the tap sees: shifted by o, without what lies beyond the border.
    window = [slice(max(o, 0), n + min(o, 0)) for o, n in zip(offsets, space, strict=True)]
    # The product lies where the tap's pixels were, moved by the tap's offset.
    padding = [(0, 0), *((max(-o, 0), max(o, 0)) for o in offsets), (0, 0)]
    total = total + jnp.pad(matmul(x[(slice(None), *window)], kernel[index]), padding)
  return total


def _lax_conv(x: Array, kernel: Array, stride: int, dilation: int) -> Array:
  letters = 'DHW'[-(x.ndim - 2) :]
  return lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(stride,) * len(letters),
    # So much padding that stride 1 keeps the size.
    padding=[(dilation * (k // 2),) * 2 for k in kernel.shape[:-2]],
    rhs_dilation=(dilation,) * len(letters),
    dimension_numbers=(f'N{letters}C', f'{letters}IO', f'N{letters}C'),
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv_same(x: Array, kernel: Array, dilation: int) -> Array:
  """A 2-D convolution of stride 1 whose gradient by the kernel is fast on a CPU as well."""
  return _lax_conv(x, kernel, 1, dilation)


def _conv_same_backward(dilation: int, saved: tuple[Array, Array], g: Array) -> tuple:
  x, kernel = saved

  def kernel_gradient_by_convolution(x: Array, g: Array) -> Array:
    return jax.vjp(lambda kernel: _lax_conv(x, kernel, 1, dilation), kernel)[1](g)[0]

  def kernel_gradient_by_blocks(x: Array, g: Array) -> Array:
    # XLA would convolve with `g` as an image-sized kernel, at a third of the speed of a product of
    # patches. A few rows at a time, so that the patches stay in the cache.
    # x: [B, H, W, i], g: [B, H, W, o]
    batch, height, width, features = g.shape
    rows = max(1, min(height, ROW_BLOCK_PIXELS // (batch * width)))
    # Rounded up; the last block is filled with rows whose gradient is 0 and which add nothing.
    blocks = -(-height // rows)
    # How far a kernel reaches beyond a block, up and down, and to both sides.
    halo = dilation * (kernel.shape[0] // 2)
    side = dilation * (kernel.shape[1] // 2)
    missing = blocks * rows - height
    x = jnp.pad(x, ((0, 0), (halo, halo + missing), (side, side), (0, 0)))
    g = jnp.pad(g, ((0, 0), (0, missing), (0, 0), (0, 0)))

    def add_block(total: Array, block: Array) -> tuple[Array, None]:
      x_rows = lax.dynamic_slice_in_dim(x, block * rows, rows + 2 * halo, 1)
      patches = _patches(x_rows, kernel.shape[:2], dilation, (rows, width))
      g_rows = lax.dynamic_slice_in_dim(g, block * rows, rows, 1).reshape(-1, features)
      patches = patches.reshape(-1, patches.shape[-1])
      contract_rows = (((0,), (0,)), ((), ()))
      # [o, taps * i], in float32: in half precision, sums over so many pixels lose their digits.
      part = lax.dot_general(g_rows, patches, contract_rows, preferred_element_type=jnp.float32)
      return total + part, None

    total = jnp.zeros((features, kernel.size // features), jnp.float32)
    total, _ = lax.scan(add_block, total, jnp.arange(blocks))
    # [taps * i, o] -> [*k, i, o]
    return total.T.reshape(kernel.shape).astype(kernel.dtype)

  dx = jax.vjp(lambda x: _lax_conv(x, kernel, 1, dilation), x)[1](g)[0]
  # Chosen when compiling, because only then is it known for which device.
  dkernel = lax.platform_dependent(
    x, g, cpu=kernel_gradient_by_blocks, default=kernel_gradient_by_convolution
  )
  return dx, dkernel


_conv_same.defvjp(
  lambda x, kernel, dilation: (_lax_conv(x, kernel, 1, dilation), (x, kernel)), _conv_same_backward
)


def _by_patches(x: Array, kernel: Array, dilation: int) -> Array:
  """Convolves as one matrix product of what every pixel's taps see.

  With fewer pixels than channels the patches are smaller than the kernel, and the gradient of a
  convolution would make a mirrored and transposed copy of the kernel.
  """
  space, sides = x.shape[1:-1], kernel.shape[:-2]
  padded = jnp.pad(x, [(0, 0), *((dilation * (k // 2),) * 2 for k in sides), (0, 0)])
  patches = _patches(padded, sides, dilation, space)
  return matmul(patches, kernel.reshape(-1, kernel.shape[-1]))


def _by_slices(x: Array, kernel: Array, stride: int, dilation: int) -> Array:
  """Convolves volumes as slices in 2-D, with the neighboring slices as additional channels."""
  depth, reach = x.shape[1], dilation * (kernel.shape[0] // 2)
  x = jnp.pad(x, [(0, 0), (reach, reach), *[(0, 0)] * 3])
  starts = range(0, dilation * kernel.shape[0], dilation)
  # [B, D, H, W, taps * i]: a slice with those before and after it, as far as the kernel reaches.
  neighbors = jnp.concatenate([x[:, s : s + depth : stride] for s in starts], axis=-1)
  # [d, h, w, i, o] -> [h, w, d * i, o], in the order of the channels above.
  flat_kernel = jnp.moveaxis(kernel, 0, 2).reshape(*kernel.shape[1:3], -1, kernel.shape[-1])
  # Slices become examples of one large batch: [B * D, H, W, d * i].
  slices = neighbors.reshape(-1, *neighbors.shape[2:])
  slices = conv(slices, flat_kernel, stride, dilation)
  return slices.reshape(*neighbors.shape[:2], *slices.shape[1:])


def conv(
  x: Float[Array, 'b *space i'], kernel: Float[Array, '*k i o'], stride: int = 1, dilation: int = 1
) -> Float[Array, 'b *out o']:
  """Convolves images or volumes with an odd kernel, zero-padded so that stride 1 keeps the size.

  The same as `lax.conv_general_dilated` up to rounding; only the speed differs.
  """
  rank, space = x.ndim - 2, x.shape[1:-1]
  sides = kernel.shape[:-2]
  # An exported program serves all sizes and devices: it has no form to choose.
  if is_symbolic(x.shape):
    return _lax_conv(x, kernel, stride, dilation)
  if all(k == 1 for k in sides):
    # A strided 1 x 1 convolution only ever sees these pixels.
    x = x[(slice(None), *(slice(None, None, stride) for _ in space))]
    return matmul(x, kernel.reshape(kernel.shape[-2:]))
  by_cpu = None
  if dilation > 1 and stride == 1 and _live_fraction(space, sides, dilation) < MIN_LIVE_FRACTION:
    by_cpu = functools.partial(_sum_of_taps, dilation=dilation)
  elif stride == 1 and x.size // x.shape[-1] < kernel.shape[-1]:
    by_cpu = functools.partial(_by_patches, dilation=dilation)
  elif rank == 3:
    by_cpu = functools.partial(_by_slices, stride=stride, dilation=dilation)
  if by_cpu:
    # Chosen when compiling: accelerators have fast convolutions of their own.
    by_library = functools.partial(_lax_conv, stride=stride, dilation=dilation)
    return lax.platform_dependent(x, kernel, cpu=by_cpu, default=by_library)
  if stride == 1:
    return _conv_same(x, kernel, dilation)
  return _lax_conv(x, kernel, stride, dilation)
