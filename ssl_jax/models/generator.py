"""The generator of a GAN: noise becomes an image, whose sides each block doubles.

After Hann, "Self-training and generative data augmentation for semantic segmentation of cellular
microscopy images".
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ssl_jax.models.layers import Conv, Dense, GroupNorm, UpConv2
from ssl_jax.models.operations.initializers import lecun_normal

BLUR = np.array([1.0, 2.0, 1.0]) / 4
"""The kernel that follows each upsampling, along each axis (Karras et al. 2019)."""


def blur(x: Float[Array, 'b h w c']) -> Float[Array, 'b h w c']:
  """Smooths images by BLUR; beyond the edge its pixels are repeated."""
  for axis in (1, 2):
    # The kernel is separable: one axis after the other.
    wide = jnp.pad(x, [(1, 1) if a == axis else (0, 0) for a in range(4)], mode='edge')
    taps = [jax.lax.slice_in_dim(wide, k, k + x.shape[axis], axis=axis) for k in range(3)]
    blurred: Any = sum(w * tap for w, tap in zip(BLUR.astype(x.dtype), taps, strict=True))
    x = blurred
  return x


class AdaptiveNoise(nn.Module):
  """Adds noise to each pixel, one for all channels, times a learned strength of each channel."""

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h w c']:
    """Returns noisy features; draws from the key 'noise'."""
    # It begins without noise; training finds out where noise helps.
    strength = self.param('strength', nn.initializers.zeros, (x.shape[-1],))
    noise = jax.random.normal(self.make_rng('noise'), (*x.shape[:-1], 1))
    return x + (strength * noise).astype(x.dtype)


class Generator(nn.Module):
  """Normal vectors [B, latent] -> images [B, S, S, channels] in (0, 1), S = 4 x 2 ^ len(widths).

  It draws from the key 'noise' as well. `widths=(512, 256, 128, 64, 32)` has 8,570,657 parameters
  for 64 latent numbers and one channel.
  """

  channels: int
  widths: Sequence[int] = (256, 128, 64, 32, 16)
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, z: Float[Array, 'b latent']) -> Float[Array, 'b side side channels']:
    """Returns one image for each vector."""
    dtype = jnp.dtype(self.dtype)

    def norm_act(x: Array, name: str) -> Array:
      # One channel a group is instance normalization: no image depends on the others of its batch.
      return jax.nn.gelu(GroupNorm(1, name=name)(x), approximate=False)

    # [B, latent] -> [B, 4, 4, widths[0]]
    x = Dense(16 * self.widths[0], dtype=dtype, name='begin')(z).reshape(len(z), 4, 4, -1)
    for level, width in enumerate(self.widths):
      # Twice the size. The blur smooths the seams between the 2 x 2 blocks.
      x = UpConv2(width, dtype=dtype, name=f'grow{level}')(x)
      x = norm_act(AdaptiveNoise(name=f'noise{level}')(blur(x)), f'grow{level}_norm')
      for i in (1, 2):
        # The normalization that follows would subtract a bias again.
        x = Conv(width, 3, use_bias=False, dtype=dtype, name=f'conv{level}_{i}')(x)
        x = norm_act(x, f'conv{level}_{i}_norm')
    # The sigmoid brings pixels into the range of real images, (0, 1), in float32.
    last = Conv(self.channels, 1, kernel_init=lecun_normal, name='image')
    return jax.nn.sigmoid(last(x).astype(jnp.float32))
