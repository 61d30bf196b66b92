"""Convolution in the form that is fastest for its shape, equal in result.

On a CPU, XLA is slow at a few forms: a 1 x 1 convolution that is not called a matrix product, a
dilated one that mostly multiplies padding, one with fewer pixels than channels, one of volumes, and
the gradient for the kernel wherever the image is large.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float


@jax.custom_vjp
def _product(x: Float[Array, 'n i'], kernel: Float[Array, 'i o']) -> Float[Array, 'n o']:
  """A matrix product whose gradient for the kernel transposes the smaller of its operands."""
  return x @ kernel


def _product_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
  # Without the barrier XLA fuses all that made `g` into a transposing copy, which it then walks
  # column by column: slower than the product itself.
  x, kernel = saved
  g = lax.optimization_barrier(g)
  contract = (((0,), (0,)), ((), ()))
  if x.shape[1] <= g.shape[1]:
    return g @ kernel.T, lax.dot_general(x, g, contract)
  return g @ kernel.T, lax.dot_general(g, x, contract).T


_product.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _product_backward)


def matmul(x: Float[Array, '*n i'], kernel: Float[Array, 'i o']) -> Float[Array, '*n o']:
  """`x @ kernel` over the last axis, with a fast gradient."""
  return _product(x.reshape(-1, x.shape[-1]), kernel).reshape(*x.shape[:-1], -1)


def _patches(x: Array, sides: Sequence[int], dilation: int, space: Sequence[int]) -> Array:
  """[B, *space, taps * C]: what every tap sees of an image that is padded already."""
  starts = ([dilation * t for t in tap] for tap in np.ndindex(*sides))
  windows = [[slice(s, s + n) for s, n in zip(start, space, strict=True)] for start in starts]
  return jnp.concatenate([x[(slice(None), *window)] for window in windows], axis=-1)


def _live_taps(size: int, kernel: int, dilation: int) -> list[tuple[int, int]]:
  """(tap, offset) of the taps along an axis that see at least one pixel of it."""
  offsets = [(k, (k - kernel // 2) * dilation) for k in range(kernel)]
  return [(k, offset) for k, offset in offsets if abs(offset) < size]


def _sum_of_taps(x: Array, kernel: Array, dilation: int) -> Array:
  """A dilated convolution as shifted matrix products over the pixels that each tap does see."""
  space = x.shape[1:-1]
  live = [_live_taps(n, k, dilation) for n, k in zip(space, kernel.shape, strict=False)]
  total = 0
  for taps in np.ndindex(*(len(axis) for axis in live)):
    index, offsets = zip(*(axis[t] for axis, t in zip(live, taps, strict=True)), strict=True)
    seen = [slice(max(o, 0), n + min(o, 0)) for o, n in zip(offsets, space, strict=True)]
    back = [(0, 0), *((max(-o, 0), max(o, 0)) for o in offsets), (0, 0)]
    total = total + jnp.pad(matmul(x[(slice(None), *seen)], kernel[index]), back)
  return total


def _lax_conv(x: Array, kernel: Array, stride: int, dilation: int) -> Array:
  letters = 'DHW'[-(x.ndim - 2) :]
  return lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(stride,) * len(letters),
    padding=[(dilation * (k // 2),) * 2 for k in kernel.shape[:-2]],
    rhs_dilation=(dilation,) * len(letters),
    dimension_numbers=(f'N{letters}C', f'{letters}IO', f'N{letters}C'),
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv_same(x: Array, kernel: Array, dilation: int) -> Array:
  """A 2-D convolution of stride 1 whose gradient for the kernel is fast on a CPU as well."""
  return _lax_conv(x, kernel, 1, dilation)


def _conv_same_backward(dilation: int, saved: tuple[Array, Array], g: Array) -> tuple:
  x, kernel = saved

  def by_convolution(x: Array, g: Array) -> Array:
    return jax.vjp(lambda kernel: _lax_conv(x, kernel, 1, dilation), kernel)[1](g)[0]

  def by_blocks(x: Array, g: Array) -> Array:
    # XLA would convolve with `g` as an image-sized kernel, at a third of the speed of a product.
    # A few rows at a time, the patches stay in the cache.
    batch, height, width, features = g.shape
    rows = max(1, min(height, 2048 // (batch * width)))
    blocks = -(-height // rows)
    halo = dilation * (kernel.shape[0] // 2)
    side = dilation * (kernel.shape[1] // 2)
    more = blocks * rows - height
    x = jnp.pad(x, ((0, 0), (halo, halo + more), (side, side), (0, 0)))
    g = jnp.pad(g, ((0, 0), (0, more), (0, 0), (0, 0)))

    def add(total: Array, block: Array) -> tuple[Array, None]:
      seen = lax.dynamic_slice_in_dim(x, block * rows, rows + 2 * halo, 1)
      patches = _patches(seen, kernel.shape[:2], dilation, (rows, width))
      told = lax.dynamic_slice_in_dim(g, block * rows, rows, 1).reshape(-1, features)
      patches = patches.reshape(-1, patches.shape[-1])
      contract = (((0,), (0,)), ((), ()))
      part = lax.dot_general(told, patches, contract, preferred_element_type=jnp.float32)
      return total + part, None

    total = jnp.zeros((features, kernel.size // features), jnp.float32)
    total, _ = lax.scan(add, total, jnp.arange(blocks))
    return total.T.reshape(kernel.shape).astype(kernel.dtype)

  dx = jax.vjp(lambda x: _lax_conv(x, kernel, 1, dilation), x)[1](g)[0]
  return dx, lax.platform_dependent(x, g, cpu=by_blocks, default=by_convolution)


_conv_same.defvjp(
  lambda x, kernel, dilation: (_lax_conv(x, kernel, 1, dilation), (x, kernel)), _conv_same_backward
)


def _by_slices(x: Array, kernel: Array, stride: int, dilation: int) -> Array:
  """A convolution of volumes as one of slices, whose neighbours are more of their channels."""
  depth, reach = x.shape[1], dilation * (kernel.shape[0] // 2)
  x = jnp.pad(x, [(0, 0), (reach, reach), *[(0, 0)] * 3])
  taps = range(0, dilation * kernel.shape[0], dilation)
  seen = jnp.concatenate([x[:, at : at + depth : stride] for at in taps], axis=-1)
  flat = jnp.moveaxis(kernel, 0, 2).reshape(*kernel.shape[1:3], -1, kernel.shape[-1])
  slices = conv(seen.reshape(-1, *seen.shape[2:]), flat, stride, dilation)
  return slices.reshape(*seen.shape[:2], *slices.shape[1:])


def conv(
  x: Float[Array, 'b *space i'], kernel: Float[Array, '*k i o'], stride: int = 1, dilation: int = 1
) -> Float[Array, 'b *out o']:
  """Convolution with an odd kernel, zero-padded so that stride 1 keeps the size."""
  rank, space = x.ndim - 2, x.shape[1:-1]
  sides = kernel.shape[:-2]
  if all(k == 1 for k in sides):
    x = x[(slice(None), *(slice(None, None, stride) for _ in space))]
    return matmul(x, kernel.reshape(kernel.shape[-2:]))
  if dilation > 1 and stride == 1:
    # The share of the multiplications that meet a pixel and not padding.
    share = np.prod(
      [
        sum(n - abs(offset) for _, offset in _live_taps(n, k, dilation)) / (n * k)
        for n, k in zip(space, sides, strict=True)
      ]
    )
    if share < 0.75:
      return _sum_of_taps(x, kernel, dilation)
  if stride == 1 and x.size // x.shape[-1] < kernel.shape[-1]:
    # The patches are then smaller than the kernel, of which a convolution's gradient would make a
    # mirrored and transposed copy.
    padded = jnp.pad(x, [(0, 0), *((dilation * (k // 2),) * 2 for k in sides), (0, 0)])
    patches = _patches(padded, sides, dilation, space)
    return matmul(patches, kernel.reshape(-1, kernel.shape[-1]))
  if stride == 1 and rank == 2:
    return _conv_same(x, kernel, dilation)
  if rank == 3:
    return lax.platform_dependent(
      x,
      kernel,
      cpu=functools.partial(_by_slices, stride=stride, dilation=dilation),
      default=functools.partial(_lax_conv, stride=stride, dilation=dilation),
    )
  return _lax_conv(x, kernel, stride, dilation)
