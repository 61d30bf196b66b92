"""The discriminators of system 4: near and far are looked at side by side, at every scale."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def half(x: Float[Array, 'b h w c']) -> Float[Array, 'b k l c']:
  """Means of 2 x 2 pixels."""
  b, h, w, c = x.shape
  return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


class Discriminator(nn.Module):
  """Images [B, S, S, C], standardized, -> a number each [B]; S is a multiple of 2 ^ len(widths).

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
    # Flax's own: a penalty of slopes is differentiated twice, and the faster form only once.
    conv = functools.partial(nn.Conv, kernel_size=(3, 3), dtype=dtype)
    image = x = x.astype(dtype)
    for level, width in enumerate(self.widths):
      if level:
        x = jnp.concatenate([x, image], -1)
      near = conv(width // 2, name=f'near{level}')(x)
      far = conv(width // 2, kernel_dilation=self.dilation, name=f'far{level}')(x)
      x = jax.nn.leaky_relu(jnp.concatenate([near, far], -1), 0.2)
      x = conv(width, strides=2, name=f'stride{level}')(x)
      x, image = jax.nn.leaky_relu(x, 0.2), half(image)
    x = jnp.concatenate([x, image], -1).astype(jnp.float32)
    return nn.Dense(1, name='verdict')(x.reshape(len(x), -1))[:, 0]


class Ensemble(nn.Module):
  """Several discriminators of one design and as many beginnings: images -> [members, B].

  Images [B, S, S, C] are shown to all; of [members, B, S, S, C] each sees its own.
  """

  members: int
  widths: Sequence[int] = (16, 32, 64, 128)
  dilation: int = 3
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, '*members b side side c']) -> Float[Array, 'members b']:
    # One after another: mapped over, their convolutions would be grouped, 4 times slower on a CPU.
    each = x if x.ndim == 5 else [x] * self.members
    knobs = self.widths, self.dilation, self.dtype
    said = [Discriminator(*knobs, name=f'member_{i}')(own) for i, own in enumerate(each)]
    return jnp.stack(said)
