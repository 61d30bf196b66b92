"""Arrays whose sides are open while a program is traced, as in an exported one (jax.export).

Where layers choose between forms by the size of an image, or compute with it, an open size has
forms of its own: plain ones, of operations that every format of networks knows. The results are
equal up to rounding.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

Size = Any
"""A whole number, or an expression of open sizes such as `2*floordiv(h, 2)`."""


def is_symbolic(shape: Sequence[Size]) -> bool:
  """Returns whether any of these sizes is open."""
  return any(jax.export.is_symbolic_dim(size) for size in shape)


def next_multiple(size: Size, multiple: int) -> Size:
  """Returns the next multiple of a number that is not below a size."""
  return multiple * ((size + multiple - 1) // multiple)


def larger(one: Size, other: Size) -> Size:
  """Returns the larger of two sizes, as an expression if one is open."""
  return jax.core.max_dim(one, other) if is_symbolic((one, other)) else max(one, other)


def smaller(one: Size, other: Size) -> Size:
  """Returns the smaller of two sizes, as an expression if one is open."""
  return jax.core.min_dim(one, other) if is_symbolic((one, other)) else min(one, other)


def interpolation_matrix(size: Size, new: Size, align_corners: bool) -> Float[Array, 'new size']:
  """Returns what `ssl_jax.io.interpolation.interpolation_matrix` does, of open sizes."""
  index = jnp.arange(new)
  # Whole numbers, whose quotient is the position: floats of 32 bits would lose digits of it.
  if align_corners:
    numerator, denominator = index * (size - 1), jnp.maximum(new - 1, 1)
  else:
    numerator, denominator = (2 * index + 1) * size - new, jnp.asarray(2 * new)
  numerator = jnp.clip(numerator, 0, (size - 1) * denominator)
  # Each new sample is a weighted mean of its two old neighbors.
  low = lax.div(numerator, jnp.broadcast_to(denominator, numerator.shape))
  weight = (numerator - low * denominator).astype(jnp.float32) / denominator.astype(jnp.float32)
  old = jnp.arange(size)
  is_low, is_high = old == low[:, None], old == low[:, None] + 1
  # At the last sample the weight of the high one, which is not there, is 0.
  return is_low * (1 - weight[:, None]) + is_high * weight[:, None]


def area_matrix(size: Size, new: Size) -> Float[Array, 'new size']:
  """Returns the matrix of Pillow's bilinear resizing, which averages areas when it shrinks."""
  # A triangle around the new sample's center, as wide as the larger of an old and a new pixel; all
  # in whole numbers, and a row divided by its sum.
  centers = (2 * jnp.arange(new) + 1) * size
  distance = jnp.abs((2 * jnp.arange(size) + 1) * new - centers[:, None])
  weight = jnp.maximum(2 * jnp.maximum(size, new) - distance, 0).astype(jnp.float32)
  return weight / weight.sum(1, keepdims=True)


def reflected_indices(size: Size, padded: Size) -> Int[Array, ' padded']:
  """Returns which pixel each one of an axis shows that is reflected at its end (`np.pad`)."""
  # There and back again without repeating the ends. Of a single pixel the period is 1, and all
  # phases are 0.
  period = jnp.maximum(2 * (size - 1), 1)
  index = jnp.arange(padded)
  phase = lax.rem(index, jnp.broadcast_to(period, index.shape))
  return jnp.minimum(phase, period - phase)
