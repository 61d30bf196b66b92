"""The discriminators of system 4: near and far are looked at side by side, at every scale."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssl_jax.models.layers import Conv


def half(x: Float[Array, 'b h w c']) -> Float[Array, 'b k l c']:
  """Means of 2 x 2 pixels."""
  b, h, w, c = x.shape
  return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


class Discriminator(nn.Module):
  """Images [B, S, S, C] -> a number each [B]; S is a multiple of 2 ^ len(widths).

  Every block has plain and dilated convolutions in parallel, ends in a strided one, and sees a copy
  of the image of its own size beside the features (the resampler). There is no normalisation, so
  that the gradient by one image is that image's own.
  """

  widths: Sequence[int] = (16, 32, 64, 128)
  dilation: int = 3
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b side side c']) -> Float[Array, ' b']:
    dtype = jnp.dtype(self.dtype)
    image = x = x.astype(dtype) * 2 - 1
    for level, width in enumerate(self.widths):
      if level:
        x = jnp.concatenate([x, image], -1)
      near = Conv(width // 2, 3, dtype=dtype, name=f'near{level}')(x)
      far = Conv(width // 2, 3, dilation=self.dilation, dtype=dtype, name=f'far{level}')(x)
      x = jax.nn.leaky_relu(jnp.concatenate([near, far], -1), 0.2)
      x = Conv(width, 3, stride=2, dtype=dtype, name=f'stride{level}')(x)
      x, image = jax.nn.leaky_relu(x, 0.2), half(image)
    x = jnp.concatenate([x, image], -1).astype(jnp.float32)
    return nn.Dense(1, name='verdict')(x.reshape(len(x), -1))[:, 0]


class Ensemble(nn.Module):
  """Several discriminators of one design and as many beginnings: images -> [members, B]."""

  members: int
  widths: Sequence[int] = (16, 32, 64, 128)
  dilation: int = 3
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b side side c']) -> Float[Array, 'members b']:
    several = nn.vmap(
      Discriminator,
      variable_axes={'params': 0},
      split_rngs={'params': True},
      in_axes=None,
      axis_size=self.members,
    )
    return several(self.widths, self.dilation, self.dtype, name='members')(x)
