"""Depthwise convolution, in the form that is fastest on each kind of device; the results are equal.

XLA on a CPU computes a convolution with one group for each channel by a generic loop, whose
gradient is the slowest operation of a whole EfficientNet. Here it is a sum of shifted products,
with gradients of the same kind.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ssl_jax.models.operations.symbolic import Size, is_symbolic


def same_padding(size: Size, kernel: int, stride: int, dilation: int = 1) -> tuple[Size, Size]:
  """Returns how much TensorFlow's 'SAME' pads an axis of this size, before and after.

  The output has ceil(size / stride) pixels; where the padding is odd, more of it comes after.
  """
  outputs = -(-size // stride)
  # How many pixels a kernel spans.
  span = dilation * (kernel - 1) + 1
  # What the last kernel reaches beyond the axis; below 0 only where kernels leave pixels out (and
  # an open size cannot be compared with 0).
  missing = stride * outputs - size + span - stride
  if span < stride:
    missing = max(missing, 0)
  return missing // 2, missing - missing // 2


def _paddings(x: Array, kernel: Array, stride: int, dilation: int) -> list[tuple[Size, Size]]:
  """The padding of both axes of space."""
  space = x.shape[1:3]
  sides = kernel.shape[:2]
  return [same_padding(n, k, stride, dilation) for n, k in zip(space, sides, strict=True)]


def _taps(kernel: Array) -> list[tuple[int, int]]:
  """(row, column) of each weight of a kernel, row by row."""
  height, width = kernel.shape[:2]
  return [(row, column) for row in range(height) for column in range(width)]


def _window(
  padded: Array, tap: tuple[int, int], size: tuple[int, int], stride: int, dilation: int
) -> Array:
  """Returns the pixels that a tap meets, [B, *size, C]: the padded image shifted and strided."""
  slices = []
  for offset, length in zip(tap, size, strict=True):
    start = dilation * offset
    # Ends with the last pixel that is met, so that the slice has exactly `length` of them.
    slices.append(slice(start, start + stride * (length - 1) + 1, stride))
  return padded[:, slices[0], slices[1]]


def conv_same(
  x: Float[Array, 'b h w i'],
  kernel: Float[Array, 'k l j o'],
  stride: int = 1,
  dilation: int = 1,
  groups: int = 1,
) -> Float[Array, 'b m n o']:
  """Convolves as XLA does it, padded as TensorFlow's 'SAME'."""
  paddings = _paddings(x, kernel, stride, dilation)
  if is_symbolic(x.shape):
    # A convolution takes no padding that follows from an open size.
    margins = [(before, after, 0) for before, after in paddings]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *margins, (0, 0, 0)])
    paddings = [(0, 0), (0, 0)]
  return lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(stride, stride),
    padding=paddings,
    rhs_dilation=(dilation, dilation),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=groups,
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _by_shifts(x: Array, kernel: Array, stride: int, dilation: int) -> Array:
  """The sum over the taps of the shifted image times the tap, which XLA compiles to one loop."""
  padded = jnp.pad(x, [(0, 0), *_paddings(x, kernel, stride, dilation), (0, 0)])
  size = (-(-x.shape[1] // stride), -(-x.shape[2] // stride))
  total = jnp.zeros((x.shape[0], *size, x.shape[-1]), x.dtype)
  for tap in _taps(kernel):
    # `kernel[tap]` is [1, C].
    total = total + _window(padded, tap, size, stride, dilation) * kernel[tap]
  return total


def _image_gradient(x: Array, kernel: Array, g: Array, stride: int, dilation: int) -> Array:
  """The gradient by the image: the mirrored kernel over `g`, whose pixels are spread by stride."""
  pads = []
  for axis, (before, _) in enumerate(_paddings(x, kernel, stride, dilation), start=1):
    reach = dilation * (kernel.shape[axis - 1] - 1)
    low = reach - before
    spread = stride * (g.shape[axis] - 1) + 1
    # So much that the output has the size of the image. A negative padding cuts off, which happens
    # where the last pixels of the image are met by no tap.
    high = x.shape[axis] + reach - low - spread
    pads.append((low, high, stride - 1))
  spread_g = lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
  mirrored = kernel[::-1, ::-1]
  total = jnp.zeros_like(x)
  for tap in _taps(kernel):
    total = total + _window(spread_g, tap, x.shape[1:3], 1, dilation) * mirrored[tap]
  return total


def _kernel_gradient(x: Array, kernel: Array, g: Array, stride: int, dilation: int) -> Array:
  """The gradient by the kernel, one row of `g` after another so that its pixels stay in the cache.

  As a plain sum, each tap would read both images from memory again: three times as long.
  """
  padded = jnp.pad(x, [(0, 0), *_paddings(x, kernel, stride, dilation), (0, 0)])
  height, width = kernel.shape[:2]
  size = (1, g.shape[2])

  def add_row(total: Array, row: Array) -> tuple[Array, None]:
    g_row = lax.dynamic_slice_in_dim(g, row, 1, 1)

    def kernel_row(number: Array) -> Array:
      # [B, 1, padded width, C], which this row of the kernel meets.
      pixels = lax.dynamic_slice_in_dim(padded, row * stride + number * dilation, 1, 1)
      sums = []
      for column in range(width):
        met = _window(pixels, (0, column), size, stride, dilation)
        # In float32: in half precision, sums over so many pixels lose their digits.
        sums.append((met * g_row).astype(jnp.float32).sum((0, 1, 2)))
      return jnp.stack(sums)

    # A loop rather than all rows at once, because it compiles in a third of the time.
    return total + lax.map(kernel_row, jnp.arange(height)), None

  total = jnp.zeros((height, width, x.shape[-1]), jnp.float32)
  total, _ = lax.scan(add_row, total, jnp.arange(g.shape[1]))
  return total.reshape(kernel.shape).astype(kernel.dtype)


def _forward(x: Array, kernel: Array, stride: int, dilation: int) -> tuple:
  return _by_shifts(x, kernel, stride, dilation), (x, kernel)


def _backward(stride: int, dilation: int, saved: tuple, g: Array) -> tuple:
  x, kernel = saved
  dx = _image_gradient(x, kernel, g, stride, dilation)
  return dx, _kernel_gradient(x, kernel, g, stride, dilation)


_by_shifts.defvjp(_forward, _backward)


def depthwise_conv(
  x: Float[Array, 'b h w c'], kernel: Float[Array, 'k l 1 c'], stride: int = 1, dilation: int = 1
) -> Float[Array, 'b m n c']:
  """Convolves each channel with a kernel of its own, padded as TensorFlow's 'SAME'.

  The output has ceil(h / stride) rows and ceil(w / stride) columns. It equals
  `lax.conv_general_dilated` with a group for each channel, up to rounding.
  """
  by_groups = functools.partial(conv_same, stride=stride, dilation=dilation, groups=x.shape[-1])
  if is_symbolic(x.shape):
    return by_groups(x, kernel)
  return lax.platform_dependent(
    x,
    kernel,
    cpu=lambda x, kernel: _by_shifts(x, kernel, stride, dilation),
    default=by_groups,
  )
