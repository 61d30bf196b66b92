"""Wide residual networks (Zagoruyko & Komodakis 2016, arXiv:1605.07146) that classify patches."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssl_jax.errors import UserError
from ssl_jax.models.layers import Conv, Dense, DropChannels, batch_norm
from ssl_jax.types import CELLS, FeatureDropout

TASKS = (CELLS,)


class Variant(NamedTuple):
  """What differs between the published network and that of MixMatch's code."""

  slope: float  # of the activation, below 0
  epsilon: float  # of the batch normalizations
  # Of a 3 x 3 convolution of stride 2 on an even side: one row before it and one after, or none
  # before and one after (TensorFlow's SAME), so that other pixels are the centers.
  padded_before: bool
  # Whether the shortcuts of all stages start after the activation, or that of the first alone.
  activated_shortcuts: bool


VARIANTS = {
  'zagoruyko': Variant(0.0, 1e-5, padded_before=True, activated_shortcuts=True),
  'mixmatch': Variant(0.1, 1e-3, padded_before=False, activated_shortcuts=False),
}
"""The network as Zagoruyko & Komodakis published it, and as MixMatch's authors' code has it."""


def _activation(x: Array, slope: float) -> Array:
  # Not a leaky ReLU of slope 0, whose gradient at 0 is another.
  return jax.nn.leaky_relu(x, slope) if slope else jax.nn.relu(x)


def _variant(name: str) -> Variant:
  """The variant of a name.

  Raises:
    UserError: if there is none.
  """
  if name not in VARIANTS:
    raise UserError(f'model.variant={name!r} is not one of {", ".join(VARIANTS)}.')
  return VARIANTS[name]


class Block(nn.Module):
  """A residual block of two 3 x 3 convolutions, each after its normalization and activation."""

  width: int
  stride: int
  dtype: Any = jnp.float32
  variant: Variant = VARIANTS['zagoruyko']
  first: bool = False  # of the network

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w i'], train: bool = False) -> Float[Array, 'b k l o']:
    """Returns the features of a batch."""
    slope, epsilon, padded_before, activated_shortcuts = self.variant

    def activate(x: Array, name: str) -> Array:
      # Normalization and activation come before each convolution ("pre-activation").
      return _activation(batch_norm(train, self.dtype, name, epsilon)(x), slope)

    y = activate(x, 'bn1')
    # Where the shape changes, the shortcut starts after the activation, as published.
    shortcut = x
    if self.stride > 1 or x.shape[-1] != self.width:
      start = y if activated_shortcuts or self.first else x
      shortcut = Conv(self.width, 1, self.stride, dtype=self.dtype, name='shortcut')(start)
    elif self.first and not activated_shortcuts:
      shortcut = y
    # At stride 2 SAME centers the kernel on pixels 1, 3, ... of an even side, our convolution on 0,
    # 2, ...: a row and a column of zeros in front move it by one, and the first output, which is
    # centered on them, is dropped. On odd sides the two agree.
    later = [0 if padded_before or self.stride == 1 or side % 2 else 1 for side in x.shape[1:3]]
    if any(later):
      y = jnp.pad(y, [(0, 0), *((n, 0) for n in later), (0, 0)])
    y = Conv(self.width, 3, self.stride, dtype=self.dtype, name='conv1')(y)
    y = y[:, later[0] :, later[1] :]
    y = activate(y, 'bn2')
    # Nothing after the addition, so that an identity runs through all blocks of a stage.
    return shortcut + Conv(self.width, 3, dtype=self.dtype, name='conv2')(y)


class Backbone(nn.Module):
  """Images [B, H, W, C] -> features [B, H / 4, W / 4, 64 width].

  28-2 has 1,468,352 parameters for three channels. `variant` is one of VARIANTS.
  """

  depth: int = 28
  width: int = 2
  dtype: Any = jnp.float32
  variant: str = 'zagoruyko'

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b h w c'],
    train: bool = False,
    feature_dropout: FeatureDropout | None = None,
  ) -> Float[Array, 'b k l o']:
    """Returns the features of a batch; `feature_dropout` is explained in layers.DropChannels.

    Raises:
      UserError: if `depth` is not 6 n + 4, or `variant` is unknown.
    """
    variant = _variant(self.variant)
    if self.depth < 10 or (self.depth - 4) % 6:
      raise UserError(f'model.depth={self.depth} is not 10, 16, 22, 28, ... (6 n + 4).')
    dtype = jnp.dtype(self.dtype)
    # No ReLU here: the first block begins with one.
    x = Conv(16, 3, dtype=dtype, name='conv')(x)
    for stage, width in enumerate((16, 32, 64)):
      # Three stages of n blocks of two convolutions, and four more layers: depth = 6 n + 4.
      for i in range((self.depth - 4) // 6):
        # The first block of the second and third stages halves the sides.
        stride = 2 if stage and not i else 1
        # Of MixMatch's blocks only the very first adds to what is activated.
        first = not stage and not i
        block = Block(width * self.width, stride, dtype, variant, first, name=f'stage{stage}_{i}')
        x = block(x, train)
    # Blocks end without normalization and activation, so that the last one needs them here.
    x = batch_norm(train, dtype, 'bn', variant.epsilon)(x)
    x = _activation(x, variant.slope)
    return DropChannels()(x, feature_dropout)


class Model(nn.Module):
  """Patches [B, H, W, C] -> float32 logits [B, num_classes], one class for the whole patch.

  28-2 has 1,469,642 parameters for three channels and ten classes. `variant` is one of VARIANTS.
  """

  num_classes: int
  depth: int = 28
  width: int = 2
  dtype: Any = jnp.float32
  variant: str = 'zagoruyko'

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b h w c'],
    train: bool = False,
    feature_dropout: FeatureDropout | None = None,
  ) -> Float[Array, 'b classes']:
    """Returns the logits of a batch; `feature_dropout` is explained in layers.DropChannels.

    Raises:
      UserError: if `depth` is not 6 n + 4, or `variant` is unknown.
    """
    backbone = Backbone(self.depth, self.width, self.dtype, self.variant, name='backbone')
    x = backbone(x, train, feature_dropout)
    # [B, 64 width]: the mean over space, in float32 so that the loss is as well.
    pooled = x.astype(jnp.float32).mean((1, 2))
    return Dense(self.num_classes, name='head')(pooled)
