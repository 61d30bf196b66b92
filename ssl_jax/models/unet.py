"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597), for images and volumes."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssl_jax.errors import UserError
from ssl_jax.models.layers import (
  Conv,
  ConvNormAct,
  DropChannels,
  UpConv2,
  crop_to,
  max_pool2,
  pad_to_multiple,
  resize_linear,
)
from ssl_jax.models.operations.initializers import BY_NAME, lecun_normal
from ssl_jax.types import FeatureDropout

UPSAMPLINGS = ('transposed', 'bilinear')
"""How the decoder doubles the sides of its features."""


class Model(nn.Module):
  """Images [B, *space, C] of any size -> float32 logits [B, *space, num_classes].

  An image whose sides are not multiples of `size_multiple()` is reflected at the bottom and right,
  and the logits are cut to its own size.

  Each of `widths` is a level, half as large as the one before; convolutions are padded so that the
  output has the size of the input. `norm='none'` is the network as first published (31,030,658
  parameters for one channel and two classes; 31,037,763 for three and three with `norm='batch'`).
  `dropout` acts at the end of the contracting path, as published; one number for each level acts
  between the two convolutions of that level on this path. `kernel_init` is one of
  initializers.BY_NAME; recipes made for networks of torch want 'torch_uniform'.

  `upsampling` is one of UPSAMPLINGS: a transposed convolution, as published, or a 1 x 1 convolution
  and bilinear interpolation. `negative_slope` is that of leaky ReLUs, and `head_size` the side of
  the last kernel. The network that most work on ACDC has is widths=(16, 32, 64, 128, 256),
  dropout=(0.05, 0.1, 0.2, 0.3, 0.5), upsampling='bilinear', negative_slope=0.01, head_size=3:
  1,812,292 parameters, and 1,472 more where convolutions before a normalization have a bias.
  """

  num_classes: int
  widths: Sequence[int] = (64, 128, 256, 512, 1024)
  norm: str = 'batch'
  dtype: Any = jnp.float32
  dropout: float | Sequence[float] = 0.0
  kernel_init: str = 'he_normal'
  upsampling: str = 'transposed'
  negative_slope: float = 0.0
  head_size: int = 1

  def size_multiple(self) -> int:
    """Returns what the sides of images are multiples of inside the network."""
    # Each level but the first halves the sides. (Without any the network is refused later.)
    return 2 ** max(len(self.widths) - 1, 0)

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b *space c'],
    train: bool = False,
    feature_dropout: FeatureDropout | None = None,
  ) -> Float[Array, 'b *space classes']:
    """Returns the logits of a batch; `feature_dropout` is explained in layers.DropChannels.

    Raises:
      UserError: if `widths` is empty, `norm`, `kernel_init` or `upsampling` unknown, `head_size`
        even, or `dropout` has another number of levels.
    """
    if not self.widths:
      raise UserError('model.widths is empty; give one width for each level.')
    levels = len(self.widths)
    at_end = 0.0
    within: Sequence[float] = (0.0,) * levels
    if isinstance(self.dropout, float | int):
      at_end = self.dropout
    else:
      within = self.dropout
    if len(within) != levels:
      raise UserError(
        f'model.dropout={tuple(within)} has {len(within)} numbers for {levels} levels; give one '
        f'for each of model.widths, or a single number.'
      )
    if self.kernel_init not in BY_NAME:
      raise UserError(f'model.kernel_init={self.kernel_init!r} is not one of {", ".join(BY_NAME)}.')
    if self.upsampling not in UPSAMPLINGS:
      known = ', '.join(UPSAMPLINGS)
      raise UserError(f'model.upsampling={self.upsampling!r} is not one of {known}.')
    if self.head_size < 1 or self.head_size % 2 == 0:
      raise UserError(f'model.head_size={self.head_size} is not odd; give 1 or 3.')
    kernel_init = BY_NAME[self.kernel_init]
    dtype = jnp.dtype(self.dtype)

    def block(x: Array, width: int, name: str, dropout: float = 0.0) -> Array:
      layer = partial(
        ConvNormAct,
        width,
        norm=self.norm,
        dtype=dtype,
        kernel_init=kernel_init,
        negative_slope=self.negative_slope,
      )
      x = layer(name=f'{name}_1')(x, train)
      if dropout:
        x = nn.Dropout(dropout, deterministic=not train, name=f'{name}_dropout')(x)
      return layer(name=f'{name}_2')(x, train)

    space = x.shape[1:-1]
    # Cut off again at the end.
    x = pad_to_multiple(x, self.size_multiple())
    skips = []
    for level, width in enumerate(self.widths[:-1]):
      x = block(x, width, f'down{level}', within[level])
      # Kept for the decoder before the pooling takes its details away.
      skips.append(x)
      x = max_pool2(x)
    x = block(x, self.widths[-1], 'bottom', within[-1])
    x = nn.Dropout(at_end, deterministic=not train)(x)

    # Between encoder and decoder, in the lowest features and in every skip.
    x, *skips = (DropChannels()(features, feature_dropout) for features in (x, *skips))
    # From coarse to fine, with the skip of the same size at each level.
    for level in reversed(range(len(skips))):
      layer = partial(Conv, kernel_size=1) if self.upsampling == 'bilinear' else UpConv2
      x = layer(self.widths[level], dtype=dtype, kernel_init=kernel_init, name=f'grow{level}')(x)
      if self.upsampling == 'bilinear':
        x = resize_linear(x, skips[level].shape[1:-1], align_corners=True)
      # [B, *space of the level, 2 * width] -> width
      x = block(jnp.concatenate([skips[level], x], axis=-1), self.widths[level], f'up{level}')
    # The logits are float32: so that the loss is, in half precision as well.
    logits = Conv(self.num_classes, self.head_size, kernel_init=lecun_normal, name='head')(x)
    return crop_to(logits, space)
