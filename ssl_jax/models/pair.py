"""Two networks of one design and two beginnings, for methods in which one teaches the other."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.core import FrozenDict
from jaxtyping import Array

from ssl_jax.registry import build


class Model(nn.Module):
  """Images [B, *space, C] -> {'class': logits of the first, 'second': logits of the second}."""

  num_classes: int
  of: str = 'unet'
  knobs: Mapping[str, Any] = FrozenDict()
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array, train: bool = False, drop: Array | None = None) -> dict[str, Array]:
    given = dict(num_classes=self.num_classes, dtype=self.dtype)
    first, second = (build('models', self.of, self.knobs, **given) for _ in range(2))
    return {'class': first(x, train, drop), 'second': second(x, train, drop)}
