"""Initial weights of all layers: the distributions of Flax, drawn so that they compile quickly.

XLA compiles every random draw anew, and on a CPU it takes three to ten times as long over the four
or five axes of a convolution's kernel as over a flat vector; for a whole network that used to be
most of the wait before the first step. JAX's random bits depend only on how many are drawn, not on
the shape, so a flat draw that is reshaped afterwards gives the same weights to the bit.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ssl_jax.types import Key

Initializer = Callable[..., Array]
"""Key, shape and (optionally) dtype -> weights, as Flax's layers call it."""

_TRUNCATED_STD = 0.87962566103423978
"""The standard deviation of a standard normal distribution that is cut off at -2 and 2."""


def normal(std: float) -> Initializer:
  """Returns an initializer that draws from a normal distribution of mean 0.

  Equal to `flax.linen.initializers.normal(std)`.
  """

  def init(key: Key, shape: Sequence[int], dtype: jax.typing.DTypeLike = jnp.float32) -> Array:
    # Flat, then reshaped: the same numbers, compiled faster (see above).
    drawn = jax.random.normal(key, (math.prod(shape),), dtype)
    return (drawn * jnp.array(std, dtype)).reshape(shape)

  return init


def he_normal(key: Key, shape: Sequence[int], dtype: jax.typing.DTypeLike = jnp.float32) -> Array:
  """Draws a kernel [*window, inputs, outputs] from a normal distribution of variance 2 / fan out.

  He et al. 2015 (arXiv:1502.01852), with the fan out as in torchvision's ResNets. Equal to
  `flax.linen.initializers.variance_scaling(2.0, 'fan_out', 'normal')`.
  """
  # Window times outputs: the number of outputs that an input takes part in.
  fan_out = math.prod(shape) / shape[-2]
  std = jnp.sqrt(jnp.array(2 / fan_out, dtype))
  drawn = jax.random.normal(key, (math.prod(shape),), dtype)
  return (drawn * std).reshape(shape)


def lecun_normal(
  key: Key, shape: Sequence[int], dtype: jax.typing.DTypeLike = jnp.float32
) -> Array:
  """Draws a kernel [*window, inputs, outputs] from a truncated normal of variance 1 / fan in.

  Flax's default (LeCun et al. 1998, "Efficient BackProp"), cut off at two standard deviations.
  Equal to `flax.linen.initializers.lecun_normal()`.
  """
  # Window times inputs: the number of inputs that an output sums up.
  fan_in = math.prod(shape) / shape[-1]
  # Cutting the tails off makes the distribution narrower, which the division makes up for.
  std = jnp.sqrt(jnp.array(1 / fan_in, dtype)) / jnp.array(_TRUNCATED_STD, dtype)
  drawn = jax.random.truncated_normal(key, -2, 2, (math.prod(shape),), dtype)
  return (drawn * std).reshape(shape)


def torch_uniform(
  key: Key, shape: Sequence[int], dtype: jax.typing.DTypeLike = jnp.float32
) -> Array:
  """Draws a kernel [*window, inputs, outputs] uniformly between -1 and 1 over the root of fan in.

  What a convolution of torch begins with, and so the networks of most papers. Where a batch
  normalization follows, the size of a kernel does not matter for what comes out, but for how fast
  it learns: an update turns a small kernel further than a large one, by the square of their ratio
  (van Laarhoven 2017, arXiv:1706.05350). Between inputs and outputs of one number it is six here,
  against `he_normal`.
  """
  # Window times inputs, as above.
  fan_in = math.prod(shape) / shape[-1]
  limit = jnp.array(1 / math.sqrt(fan_in), dtype)
  drawn = jax.random.uniform(key, (math.prod(shape),), dtype, -1)
  return (drawn * limit).reshape(shape)


BY_NAME = {'he_normal': he_normal, 'lecun_normal': lecun_normal, 'torch_uniform': torch_uniform}
"""By the name that a page gives, in `model.kernel_init`."""
