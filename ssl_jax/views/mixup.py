"""Mixing of examples with each other (mixup, Zhang et al. 2018), as MixMatch does it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from ssl_jax.types import Key


def partners(key: Key, count: int, alpha: float) -> tuple[Int[Array, ' b'], Float[Array, ' b']]:
  """Draws for each of `count` examples a partner, and its own weight max(l, 1 - l).

  l ~ Beta(alpha, alpha). With the larger of the two weights each example stays mostly itself.
  """
  key_partner, key_weight = jax.random.split(key)
  weight = jax.random.beta(key_weight, alpha, alpha, (count,))
  # A permutation, so that every example is shown as a partner exactly once.
  return jax.random.permutation(key_partner, count), jnp.maximum(weight, 1 - weight)


def mix(
  x: Shaped[Array, 'b *rest'], partner: Int[Array, ' b'], weight: Float[Array, ' b']
) -> Float[Array, 'b *rest']:
  """Returns each example times its weight plus its partner times the rest."""
  # [B, 1, ..., 1].
  weight = jnp.expand_dims(weight, range(1, x.ndim))
  return weight * x + (1 - weight) * x[partner]
