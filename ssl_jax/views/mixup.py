"""Mixing examples with each other (Zhang et al. 2018), as MixMatch does (Berthelot et al. 2019)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from ssl_jax.types import Key


def partners(key: Key, count: int, alpha: float) -> tuple[Int[Array, ' b'], Float[Array, ' b']]:
  """For each of `count` examples another, and its own share max(l, 1 - l), l ~ Beta(a, a)."""
  key_partner, key_share = jax.random.split(key)
  share = jax.random.beta(key_share, alpha, alpha, (count,))
  return jax.random.permutation(key_partner, count), jnp.maximum(share, 1 - share)


def mix(
  x: Shaped[Array, 'b *rest'], partner: Int[Array, ' b'], share: Float[Array, ' b']
) -> Float[Array, 'b *rest']:
  """Each example times its share, and its partner times the rest."""
  share = jnp.expand_dims(share, range(1, x.ndim))
  return share * x + (1 - share) * x[partner]
