"""RandAugment's operations on grey levels, equal to PIL's on 8-bit images, for a whole batch.

Cubuk et al. 2020, "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space";
levels as in UDA (Xie et al. 2020). What turns and shears is geometry.py's. Each example draws its
own operations. A `lax.switch` under `vmap` would run all of them on all images: here six are one
lookup in a table of 256 entries, and all blends are one lookup in a table that PIL would compute.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ssl_jax.types import Key

OPERATIONS = (
  *('autocontrast', 'invert', 'equalize', 'solarize'),
  *('contrast', 'color', 'brightness', 'sharpness'),
)
LEVELS = 10
"""Magnitudes are whole numbers below."""

Levels = Int[Array, 'b *space c']  # 0..255
Table = Int[Array, 'b c 256']


@functools.cache
def _blends() -> np.ndarray:
  """[magnitude, from, to]: PIL's Image.blend(from, to, 0.18 magnitude + 0.1)."""
  one, two = np.arange(256, dtype=np.float32)[:, None], np.arange(256, dtype=np.float32)
  factors = np.array([m * 1.8 / LEVELS + 0.1 for m in range(LEVELS + 1)], np.float32)
  blended = one + factors[:, None, None] * (two - one)
  return np.clip(blended, 0, 255).astype(np.uint8)


@functools.cache
def _rounded_down() -> np.ndarray:
  """Codes (low, high, level) at which PIL's float64 falls below the whole number it stands for."""
  low, high, level = np.ogrid[:256, :256, :256]
  with np.errstate(divide='ignore', invalid='ignore'):
    scale = 255.0 / (high - low)
    theirs = level * scale + -low * scale
    exact = (level - low) * 255 // np.maximum(high - low, 1)
    below = (low <= level) & (level <= high) & (low < high) & (theirs < exact)
  return np.flatnonzero(below).astype(np.int32)


def _of_band(values: Array) -> Array:
  """[B, C] -> [B, C, 1], beside a table."""
  return values[..., None]


def autocontrast(image: Levels, valid: Bool[Array, 'b *space']) -> Table:
  """Stretches each band from its darkest to its brightest valid pixel."""
  space, shown = tuple(range(1, valid.ndim)), valid[..., None]
  low = _of_band(jnp.where(shown, image, 255).min(space))
  high = _of_band(jnp.where(shown, image, 0).max(space))
  level = jnp.arange(256)
  stretched = (level - low) * 255 // jnp.maximum(high - low, 1)
  code, codes = (low * 256 + high) * 256 + level, jnp.asarray(_rounded_down())
  found = jnp.take(codes, jnp.searchsorted(codes, code), mode='clip') == code
  return jnp.where(high > low, jnp.clip(stretched - found, 0, 255), level)


def equalize(image: Levels, valid: Bool[Array, 'b *space']) -> Table:
  """Spreads the levels of each band so that they are equally frequent among valid pixels."""
  b, c = image.shape[0], image.shape[-1]
  bands = jnp.moveaxis(image, -1, 1).reshape(b * c, -1)
  shown = jnp.repeat(valid.reshape(b, -1), c, axis=0)
  count = jax.vmap(lambda band, n: jnp.zeros(256, jnp.int32).at[band].add(n))
  histogram = count(bands, shown.astype(jnp.int32)).reshape(b, c, 256)
  level = jnp.arange(256)
  last = jnp.take_along_axis(histogram, _of_band(jnp.where(histogram > 0, level, 0).max(-1)), -1)
  step = (histogram.sum(-1, keepdims=True) - last) // 255
  before = jnp.cumsum(histogram, -1) - histogram
  spread = (step // 2 + before) // jnp.maximum(step, 1)
  return jnp.where(step > 0, jnp.clip(spread, 0, 255), level)


def grey(image: Levels) -> Int[Array, 'b *space']:
  """PIL's 'L' of RGB; another number of bands has its first."""
  if image.shape[-1] != 3:
    return image[..., 0]
  red, green, blue = (image[..., c] for c in range(3))
  return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16


def smooth(image: Levels) -> Levels:
  """PIL's ImageFilter.SMOOTH, 3 x 3 in the plane of the last two axes; the border stays."""
  height, width = image.shape[-3:-1]
  if min(height, width) < 3:
    return image
  middle = (..., slice(1, -1), slice(1, -1), slice(None))
  taps = [image[..., i : height - 2 + i, j : width - 2 + j, :] for i in range(3) for j in range(3)]
  total = sum(taps) + 4 * image[middle]
  return image.at[middle].set((2 * total + 13) // 26)


def operate(
  image: Levels,
  valid: Bool[Array, 'b *space'],
  which: Int[Array, ' b'],
  magnitude: Int[Array, ' b'],
) -> Levels:
  """Does to each example the operation OPERATIONS[which] (none where it is negative)."""

  def chosen(name: str, like: Array) -> Array:
    return (which == OPERATIONS.index(name)).reshape((-1,) + (1,) * (like.ndim - 1))

  blends = jnp.asarray(_blends().reshape(-1))
  level, tone = jnp.arange(256), grey(image)
  many = valid.sum(tuple(range(1, valid.ndim)))
  total = jnp.where(valid, tone, 0).sum(tuple(range(1, tone.ndim)))
  mean = (2 * total + many) // jnp.maximum(2 * many, 1)
  m = magnitude[:, None, None]

  def blend(one: Array, two: Array, by: Array) -> Array:
    return jnp.take(blends, (by * 256 + one) * 256 + two, mode='clip').astype(jnp.int32)

  threshold = m * 256 // LEVELS
  tables = {
    'autocontrast': autocontrast(image, valid),
    'invert': 255 - level,
    'equalize': equalize(image, valid),
    'solarize': jnp.where(level < threshold, level, 255 - level),
    'contrast': blend(mean[:, None, None], level, m),
    'brightness': blend(jnp.zeros_like(m), level, m),
  }
  table = jnp.broadcast_to(level, (len(image), image.shape[-1], 256))
  for name, other in tables.items():
    table = jnp.where(chosen(name, table), other, table)
  bands = jnp.moveaxis(image, -1, 1).reshape(*table.shape[:2], -1)
  looked_up = jnp.take_along_axis(table, bands, -1).reshape(*table.shape[:2], *valid.shape[1:])
  looked_up = jnp.moveaxis(looked_up, 1, -1)
  colour = chosen('color', image) & (image.shape[-1] == 3)
  other = jnp.where(colour, tone[..., None], smooth(image))
  blended = blend(other, image, magnitude.reshape((-1,) + (1,) * (image.ndim - 1)))
  return jnp.where(colour | chosen('sharpness', image), blended, looked_up)


def randaugment(
  key: Key,
  image: Float[Array, 'b *space c'],
  valid: Bool[Array, 'b *space'],
  *,
  n: int = 2,
  p: float = 0.5,
  magnitude: Sequence[int] = (1, 9),
) -> Float[Array, 'b *space c']:
  """n times: an operation drawn for each example, done with probability p at a drawn magnitude.

  Images are in [0, 1] and come back rounded to 256 levels; statistics are of valid pixels.
  """
  levels, b = jnp.floor(image * 255 + 0.5).astype(jnp.int32), len(image)
  for turn in jax.random.split(key, n):
    key_which, key_p, key_magnitude = jax.random.split(turn, 3)
    which = jax.random.randint(key_which, (b,), 0, len(OPERATIONS))
    which = jnp.where(jax.random.bernoulli(key_p, p, (b,)), which, -1)
    strength = jax.random.randint(key_magnitude, (b,), magnitude[0], magnitude[1] + 1)
    levels = operate(levels, valid, which, strength)
  return levels.astype(jnp.float32) / 255
