"""RandAugment's photometric operations, equal to PIL's on 8-bit images, for a whole batch.

Cubuk et al. 2020, "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space";
levels as in UDA (Xie et al. 2020). Rotations and shears are not here but in affine.py.

Each example draws its own operations. A `lax.switch` under `vmap` would run all of them on all
images. Here six are one lookup in a table of 256 entries, and all blends are one lookup in a table
that PIL would compute.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ssl_jax.types import Key

OPERATIONS = (
  'autocontrast',
  'invert',
  'equalize',
  'solarize',
  'contrast',
  'color',
  'brightness',
  'sharpness',
)
LEVELS = 10
"""Magnitudes are whole numbers in [0, LEVELS]."""

SOLARIZE = ('falling', 'rising')
"""How solarize's threshold follows the magnitude: it falls in UDA's code, and rises in the later
RandAugment's, whose solarize is therefore strongest at the smallest magnitude."""

Levels = Int[Array, 'b *space c']  # 0..255
Table = Int[Array, 'b c 256']  # of each example and channel: old level -> new level


@functools.cache
def _blend_table() -> np.ndarray:
  """[magnitude, from, to] -> PIL's Image.blend(from, to, 0.18 magnitude + 0.1)."""
  start = np.arange(256, dtype=np.float32)[:, None]
  end = np.arange(256, dtype=np.float32)
  factors = np.array([m * 1.8 / LEVELS + 0.1 for m in range(LEVELS + 1)], np.float32)
  # float32 and truncated, as in PIL: rounding would be off by one level.
  blended = start + factors[:, None, None] * (end - start)
  return np.clip(blended, 0, 255).astype(np.uint8)


@functools.cache
def _rounded_down() -> np.ndarray:
  """Codes of (low, high, level) for which PIL's autocontrast is one level too low.

  There its float64 arithmetic falls just below the whole number that it stands for.
  """
  # All 16.8 million triples are tried once in a process; the few that differ are kept.
  low, high, level = np.ogrid[:256, :256, :256]
  with np.errstate(divide='ignore', invalid='ignore'):
    scale = 255.0 / (high - low)
    # As PIL writes it, with the offset multiplied out.
    pil_level = level * scale + -low * scale
    exact_level = (level - low) * 255 // np.maximum(high - low, 1)
    in_range = (low <= level) & (level <= high) & (low < high)
    is_below = in_range & (pil_level < exact_level)
  return np.flatnonzero(is_below).astype(np.int32)


def _beside_table(values: Array) -> Array:
  """[B, C] -> [B, C, 1], to broadcast against a table."""
  return values[..., None]


def autocontrast(image: Levels, valid: Bool[Array, 'b *space']) -> Table:
  """Stretches each channel from its darkest to its brightest valid pixel."""
  space = tuple(range(1, valid.ndim))
  is_valid = valid[..., None]
  # [B, C, 1]. Pixels that are not valid get the value that cannot win.
  low = _beside_table(jnp.where(is_valid, image, 255).min(space))
  high = _beside_table(jnp.where(is_valid, image, 0).max(space))
  level = jnp.arange(256)
  stretched = (level - low) * 255 // jnp.maximum(high - low, 1)
  # The codes are sorted, so a binary search tells whether a triple is among them.
  code = (low * 256 + high) * 256 + level
  codes = jnp.asarray(_rounded_down())
  one_too_high = jnp.take(codes, jnp.searchsorted(codes, code), mode='clip') == code
  # A channel of one level cannot be stretched.
  return jnp.where(high > low, jnp.clip(stretched - one_too_high, 0, 255), level)


def equalize(image: Levels, valid: Bool[Array, 'b *space']) -> Table:
  """Spreads the levels of each channel so that they are equally frequent among valid pixels."""
  b, c = image.shape[0], image.shape[-1]
  # One histogram for each channel of each example, in which invalid pixels count 0.
  channels = jnp.moveaxis(image, -1, 1).reshape(b * c, -1)
  is_valid = jnp.repeat(valid.reshape(b, -1), c, axis=0)
  count = jax.vmap(lambda levels, n: jnp.zeros(256, jnp.int32).at[levels].add(n))
  histogram = count(channels, is_valid.astype(jnp.int32)).reshape(b, c, 256)
  level = jnp.arange(256)
  # PIL leaves the pixels of the brightest level out of the step, and starts at half a step.
  brightest = _beside_table(jnp.where(histogram > 0, level, 0).max(-1))
  last = jnp.take_along_axis(histogram, brightest, -1)
  step = (histogram.sum(-1, keepdims=True) - last) // 255
  # Pixels that are darker than a level.
  darker = jnp.cumsum(histogram, -1) - histogram
  spread = (step // 2 + darker) // jnp.maximum(step, 1)
  # With too few pixels, or one level alone, PIL leaves the channel as it is.
  return jnp.where(step > 0, jnp.clip(spread, 0, 255), level)


def gray(image: Levels) -> Int[Array, 'b *space']:
  """Returns PIL's 'L' of RGB images, and the first channel of others."""
  if image.shape[-1] != 3:
    return image[..., 0]
  red, green, blue = (image[..., c] for c in range(3))
  # PIL's weights in 16-bit fixed point, with half a unit for rounding.
  return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16


def smooth(image: Levels) -> Levels:
  """PIL's ImageFilter.SMOOTH, 3 x 3 in the plane of the last two axes; the border stays."""
  height, width = image.shape[-3:-1]
  if min(height, width) < 3:
    return image
  middle = (..., slice(1, -1), slice(1, -1), slice(None))
  taps = [image[..., i : height - 2 + i, j : width - 2 + j, :] for i in range(3) for j in range(3)]
  # The kernel is 1 everywhere but 5 in the middle, over 13; rounded to the nearest.
  total = sum(taps) + 4 * image[middle]
  return image.at[middle].set((2 * total + 13) // 26)


def operate(
  image: Levels,
  valid: Bool[Array, 'b *space'],
  which: Int[Array, ' b'],
  magnitude: Int[Array, ' b'],
  solarize: str = 'falling',
) -> Levels:
  """Applies to each example one operation.

  Args:
    image: levels in 0..255.
    valid: pixels that count in statistics.
    which: index into OPERATIONS; an example with a negative one stays as it is.
    magnitude: strength in [0, LEVELS], for the operations that have one.
    solarize: one of SOLARIZE.
  """

  def selected(name: str, like: Array) -> Array:
    return (which == OPERATIONS.index(name)).reshape((-1,) + (1,) * (like.ndim - 1))

  blends = jnp.asarray(_blend_table().reshape(-1))
  level = jnp.arange(256)
  gray_image = gray(image)
  # The mean gray level, rounded to the nearest in whole numbers.
  count = valid.sum(tuple(range(1, valid.ndim)))
  # [B, 1] of RGB, which has one gray level; [B, C] of others, whose stains differ in level.
  levels = gray_image[..., None] if image.shape[-1] == 3 else image
  total = jnp.where(valid[..., None], levels, 0).sum(tuple(range(1, levels.ndim - 1)))
  mean = (2 * total + count[:, None]) // jnp.maximum(2 * count[:, None], 1)
  # [B, 1, 1], beside the tables [B, C, 256].
  m = magnitude[:, None, None]

  def blend(start: Array, end: Array, by: Array) -> Array:
    return jnp.take(blends, (by * 256 + start) * 256 + end, mode='clip').astype(jnp.int32)

  # What changes levels without looking at neighbors or other channels is a table.
  # Levels from the threshold on are inverted: with a falling one none at magnitude 0, and all at
  # LEVELS; with a rising one the other way round.
  threshold = m * 256 // LEVELS
  if solarize == 'falling':
    threshold = 256 - threshold
  tables = {
    'autocontrast': autocontrast(image, valid),
    'invert': 255 - level,
    'equalize': equalize(image, valid),
    'solarize': jnp.where(level < threshold, level, 255 - level),
    'contrast': blend(mean[..., None], level, m),
    'brightness': blend(jnp.zeros_like(m), level, m),
  }
  # The identity, for examples that drew none of these.
  table = jnp.broadcast_to(level, (len(image), image.shape[-1], 256))
  for name, candidate in tables.items():
    table = jnp.where(selected(name, table), candidate, table)
  # [B, C, pixels]: each channel is looked up in its own table.
  channels = jnp.moveaxis(image, -1, 1).reshape(*table.shape[:2], -1)
  looked_up = jnp.take_along_axis(table, channels, -1).reshape(*table.shape[:2], *valid.shape[1:])
  looked_up = jnp.moveaxis(looked_up, 1, -1)

  # Color and sharpness blend each pixel with the gray or the smoothed image.
  is_color = selected('color', image) & (image.shape[-1] == 3)
  background = jnp.where(is_color, gray_image[..., None], smooth(image))
  blended = blend(background, image, magnitude.reshape((-1,) + (1,) * (image.ndim - 1)))
  return jnp.where(is_color | selected('sharpness', image), blended, looked_up)


def randaugment(
  key: Key,
  image: Float[Array, 'b *space c'],
  valid: Bool[Array, 'b *space'],
  *,
  n: int = 2,
  p: int | float = 0.5,
  magnitude: Sequence[int] = (1, 9),
  solarize: str = 'falling',
) -> Float[Array, 'b *space c']:
  """Applies n operations in turn, each drawn for each example.

  Statistics are of valid pixels.

  Args:
    key: source of all random numbers.
    image: values in [0, 1]; they come back rounded to 256 levels.
    valid: pixels that count in statistics.
    n: number of operations.
    p: probability that an operation is applied at all.
    magnitude: range of the magnitude, both ends included.
    solarize: one of SOLARIZE.
  """
  # The operations are defined on whole levels.
  levels = jnp.floor(image * 255 + 0.5).astype(jnp.int32)
  b = len(image)
  for key_operation in jax.random.split(key, n):
    key_which, key_p, key_magnitude = jax.random.split(key_operation, 3)
    which = jax.random.randint(key_which, (b,), 0, len(OPERATIONS))
    # No operation has the index -1.
    which = jnp.where(jax.random.bernoulli(key_p, p, (b,)), which, -1)
    strength = jax.random.randint(key_magnitude, (b,), magnitude[0], magnitude[1] + 1)
    levels = operate(levels, valid, which, strength, solarize)
  return levels.astype(jnp.float32) / 255
