"""The discriminators of a GAN: plain and dilated convolutions in parallel, at every scale.

After Hann, "Self-training and generative data augmentation for semantic segmentation of cellular
microscopy images".
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssl_jax.models.layers import Dense
from ssl_jax.models.operations.initializers import lecun_normal


def halve(x: Float[Array, 'b h w c']) -> Float[Array, 'b k l c']:
  """Returns images of half the size, the means of 2 x 2 pixels."""
  b, h, w, c = x.shape
  return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


class Discriminator(nn.Module):
  """Standardized images [B, S, S, C] -> logits [B], positive for real; S divides by 2^len(widths).

  Each block has plain and dilated convolutions in parallel and ends in a strided one; beside the
  features it sees a copy of the image, scaled to their size (the paper's resampler). There is no
  normalization, so that the gradient by one image depends on that image alone. Four widths (32, 64,
  128, 256) have 1,192,161 parameters for images of 128 x 128 x 1.
  """

  widths: Sequence[int] = (16, 32, 64, 128)
  dilation: int = 3
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b side side c']) -> Float[Array, ' b']:
    """Returns one logit for each image."""
    dtype = jnp.dtype(self.dtype)
    # Flax's convolution and not layers.Conv: a gradient penalty is differentiated twice, and the
    # fast form has only a first derivative of its own.
    conv = functools.partial(nn.Conv, kernel_size=(3, 3), dtype=dtype, kernel_init=lecun_normal)
    image = x = x.astype(dtype)
    for level, width in enumerate(self.widths):
      # `image` has been halved as often as `x`. At the first level x is the image itself.
      if level:
        x = jnp.concatenate([x, image], -1)
      # Half of the channels look at neighbors, half at pixels farther apart.
      near = conv(width // 2, name=f'near{level}')(x)
      far = conv(width // 2, kernel_dilation=self.dilation, name=f'far{level}')(x)
      # Leaky, so that gradients reach the generator through every unit.
      x = jax.nn.leaky_relu(jnp.concatenate([near, far], -1), 0.2)
      x = conv(width, strides=2, name=f'stride{level}')(x)
      x, image = jax.nn.leaky_relu(x, 0.2), halve(image)
    # Float32 for the last layer: losses and penalties are computed in full precision.
    x = jnp.concatenate([x, image], -1).astype(jnp.float32)
    return Dense(1, name='verdict')(x.reshape(len(x), -1))[:, 0]


class Ensemble(nn.Module):
  """Discriminators of one design and different initial weights: images -> logits [members, B].

  Images [B, S, S, C] are shown to all members; of [members, B, S, S, C] each member sees its own.
  """

  members: int
  widths: Sequence[int] = (16, 32, 64, 128)
  dilation: int = 3
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, '*members b side side c']) -> Float[Array, 'members b']:
    """Returns one logit of each member for each image."""
    images = x if x.ndim == 5 else [x] * self.members
    # One after another: under vmap their convolutions would be grouped, which on a CPU is four
    # times slower.
    logits = []
    for i, images_of_member in enumerate(images):
      member = Discriminator(self.widths, self.dilation, self.dtype, name=f'member_{i}')
      logits.append(member(images_of_member))
    return jnp.stack(logits)
