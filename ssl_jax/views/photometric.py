"""Changes of brightness, color, sharpness and noise, as stains and microscopes make them.

Images are [B, *space, C] in [0, 1] with any number of channels; hue, saturation and grayscale are
operations on RGB and leave other images as they are. Each function draws per example from one
key, and computes all examples at once, selecting by `where`: a branch per example would run
every branch anyway.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ssl_jax.types import Key
from ssl_jax.views.recipes import Number

Image = Float[Array, 'b *space c']
Valid = Bool[Array, 'b *space']
Plane = Float[Array, 'b *space']
PerExample = Float[Array, ' b']

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a gray level (ITU-R 601, as PIL's 'L')."""


def _lift(per_example: Array, like: Array) -> Array:
  """[B] with axes of length 1 appended, to broadcast against `like`."""
  return per_example.reshape((-1,) + (1,) * (like.ndim - 1))


def _with_probability(
  key: Key, p: Number, changed: Float[Array, 'b *space _'], image: Image
) -> Image:
  """Takes the changed image, of as many channels or of one, with probability p per example."""
  return jnp.where(_lift(jax.random.bernoulli(key, p, image.shape[:1]), image), changed, image)


def luma(planes: Sequence[Plane]) -> Plane:
  """Returns the gray level of red, green and blue planes."""
  red, green, blue = planes
  return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def _blend(plane: Plane, other: Array | Number, factor: PerExample) -> Plane:
  """Moves a plane away from `other` (factor above 1) or towards it (below 1)."""
  # A factor above 1 extrapolates, which can leave [0, 1].
  return jnp.clip(other + _lift(factor, plane) * (plane - other), 0, 1)


def adjust_brightness(planes: Sequence[Plane], factor: PerExample, valid: Valid) -> list[Plane]:
  """Multiplies by a factor per example, clipped (PIL's ImageEnhance.Brightness)."""
  return [_blend(plane, 0.0, factor) for plane in planes]


def adjust_contrast(planes: Sequence[Plane], factor: PerExample, valid: Valid) -> list[Plane]:
  """Blends with the mean over valid pixels (PIL's ImageEnhance.Contrast, unrounded mean).

  RGB has one mean gray level; otherwise each channel has its own, as stains differ in level.
  """
  # Padding is left out of the mean, which it would darken.
  axes = tuple(range(1, valid.ndim))
  count = jnp.maximum(valid.sum(axes, keepdims=True), 1)

  def mean(plane: Array) -> Array:
    return jnp.where(valid, plane, 0).sum(axes, keepdims=True) / count

  means = [mean(luma(planes))] * 3 if len(planes) == 3 else [mean(plane) for plane in planes]
  return [_blend(plane, level, factor) for plane, level in zip(planes, means, strict=True)]


def adjust_saturation(planes: Sequence[Plane], factor: PerExample, valid: Valid) -> list[Plane]:
  """Blends red, green and blue planes with their gray level (PIL's ImageEnhance.Color)."""
  gray = luma(planes)
  return [_blend(plane, gray, factor) for plane in planes]


def adjust_hue(planes: Sequence[Plane], shift: PerExample, valid: Valid) -> list[Plane]:
  """Turns the hue circle by a shift per example (1 is a full turn), without a branch."""
  # Value (`top`) and chroma (`span`) of HSV stay as they are; only the hue moves.
  red, green, blue = planes
  top = jnp.maximum(jnp.maximum(red, green), blue)
  span = top - jnp.minimum(jnp.minimum(red, green), blue)
  safe_span = jnp.where(span > 0, span, 1)  # gray pixels have no hue
  # The hue in sixths of the circle: 0 is red, 2 green, 4 blue.
  hue = jnp.where(
    top == red,
    (green - blue) / safe_span,
    jnp.where(top == green, 2 + (blue - red) / safe_span, 4 + (red - green) / safe_span),
  )
  turned = hue + 6 * _lift(shift, red)

  def channel(start: int) -> Plane:
    # A channel is at the top for two sixths of the circle, at the bottom for two, and linear in
    # between; red, green and blue start at different places.
    k = start + turned
    k = k - 6 * jnp.floor(k / 6)  # jnp.mod calls the exact fmod, several times slower
    return top - span * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

  return [channel(start) for start in (5, 3, 1)]


ADJUST = {
  'brightness': adjust_brightness,
  'contrast': adjust_contrast,
  'saturation': adjust_saturation,
  'hue': adjust_hue,
}
"""The adjustments of `jitter`; the order decides which random key each one gets."""


def _range_of(name: str, amount: Number | Sequence[Number]) -> tuple[Number, Number]:
  """The range that a factor (or a shift of the hue) is drawn from."""
  if isinstance(amount, Sequence):
    low, high = amount
    return low, high
  # A shift of 0, or a factor of 1, changes nothing.
  return (-amount, amount) if name == 'hue' else (max(0.0, 1 - amount), 1 + amount)


def jitter(
  key: Key,
  image: Image,
  valid: Valid,
  *,
  p: Number = 1.0,
  brightness: Number | Sequence[Number] = 0.0,
  contrast: Number | Sequence[Number] = 0.0,
  saturation: Number | Sequence[Number] = 0.0,
  hue: Number | Sequence[Number] = 0.0,
) -> Image:
  """Changes brightness, contrast, saturation and hue, each example in its own random order.

  A number d draws a factor from U(max(0, 1 - d), 1 + d) (hue: a shift from U(-d, d) of the
  circle), a pair (low, high) from U(low, high). An example is changed with probability p. Formulas
  and order are torchvision's ColorJitter (contrast about the mean of the valid pixels).
  """
  amounts = {
    'brightness': brightness,
    'contrast': contrast,
    'saturation': saturation,
    'hue': hue,
  }
  is_rgb = image.shape[-1] == 3
  ranges = {}
  for name, amount in amounts.items():
    # Saturation and hue mean nothing for one channel or for a stack of stains.
    if amount and (is_rgb or name in ('brightness', 'contrast')):
      ranges[name] = _range_of(name, amount)
  if not ranges:
    return image
  b = image.shape[0]
  # A key for every adjustment, also for those that are off: setting one leaves the draws of the
  # others as they are.
  key_p, key_order, *keys = jax.random.split(key, 2 + len(ADJUST))
  key_of = dict(zip(ADJUST, keys, strict=True))
  factors = {}
  for name, (low, high) in ranges.items():
    factors[name] = jax.random.uniform(key_of[name], (b,), minval=low, maxval=high)
  # [B, adjustments]: a random permutation for each example.
  order = jnp.argsort(jax.random.uniform(key_order, (b, len(ranges))), -1)
  # Planes, not interleaved channels: what mixes channels then runs at full vector width.
  planes = [image[..., c] for c in range(image.shape[-1])]
  for turn in range(len(ranges)):
    changed = planes
    for index, (name, factor) in enumerate(factors.items()):
      # Every adjustment is computed, and taken by the examples whose turn it is.
      is_next = _lift(order[:, turn] == index, valid)
      adjusted = ADJUST[name](planes, factor, valid)
      changed = [jnp.where(is_next, new, old) for new, old in zip(adjusted, changed, strict=True)]
    planes = changed
  is_changed = _lift(jax.random.bernoulli(key_p, p, (b,)), image)
  return jnp.where(is_changed, jnp.stack(planes, -1), image)


def grayscale(key: Key, image: Image, valid: Valid, *, p: Number = 1.0) -> Image:
  """Replaces RGB by its gray level, with probability p for each example."""
  if image.shape[-1] != 3:
    return image
  gray = luma([image[..., c] for c in range(3)])[..., None]
  return _with_probability(key, p, gray, image)


def gaussian(image: Image, valid: Valid, sigma: PerExample, radius: int) -> Image:
  """Blurs with a Gaussian of one sigma (pixels) per example, cut off at `radius` pixels.

  Pixels that are not valid, and those beyond the border, weigh nothing: the remaining weights are
  scaled to sum to one.
  """
  taps = jnp.arange(-radius, radius + 1)
  # [B, taps], not yet normalized: the division below does it. The bound avoids 0 / 0 where a sigma
  # is 0.
  weights = jnp.exp(-0.5 * (taps / jnp.maximum(sigma, 1e-3)[:, None]) ** 2)
  # Image and mask are blurred alike; their quotient is the mean over the valid pixels in reach.
  mask = valid.astype(image.dtype)
  planes = [image[..., c] * mask for c in range(image.shape[-1])]

  def smooth(plane: Plane) -> Plane:
    # Shift and add along each axis, which is several times faster than a depthwise convolution.
    for axis in range(1, plane.ndim):
      length = plane.shape[axis]
      padding = [(radius, radius) if a == axis else (0, 0) for a in range(plane.ndim)]
      # Zeros beyond the border, where the mask is 0 too.
      padded = jnp.pad(plane, padding)
      total = jnp.zeros((), plane.dtype)
      for i in range(2 * radius + 1):
        weight = _lift(weights[:, i], plane)
        total = total + weight * jax.lax.slice_in_dim(padded, i, i + length, axis=axis)
      plane = total
    return plane

  total = smooth(mask)
  # 0 / 1 rather than 0 / 0 where no valid pixel is in reach.
  total = jnp.where(total > 0, total, 1)
  return jnp.stack([smooth(plane) / total for plane in planes], -1)


def blur(
  key: Key,
  image: Image,
  valid: Valid,
  *,
  p: Number = 1.0,
  sigma: Sequence[Number] = (0.1, 2.0),
  noise: Number = 0.0,
) -> Image:
  """Blurs an example with probability p, by a Gaussian of sigma ~ U(low, high) pixels.

  Blurred examples then get Gaussian noise of standard deviation `noise` on every pixel and channel.
  """
  key_p, key_sigma = jax.random.split(key)
  b = image.shape[0]
  drawn_sigma = jax.random.uniform(key_sigma, (b,), minval=sigma[0], maxval=sigma[1])
  # The radius is fixed when the function is traced, so the largest sigma sets it.
  # Three standard deviations: what is cut off weighs 0.3 %.
  blurred = gaussian(image, valid, drawn_sigma, radius=math.ceil(3 * sigma[1]))
  if noise:
    # Folded in, so that sigma and probability are drawn as they are without noise.
    drawn_noise = jax.random.normal(jax.random.fold_in(key, 1), image.shape)
    blurred = jnp.clip(blurred + noise * drawn_noise, 0, 1)
  return _with_probability(key_p, p, blurred, image)


def noise(
  key: Key,
  image: Image,
  valid: Valid,
  *,
  p: Number = 1.0,
  mean: Sequence[Number] = (0.0, 0.0),
  std: Sequence[Number] = (0.0, 0.1),
) -> Image:
  """Adds Gaussian noise with probability p.

  Its mean ~ U(mean) and its standard deviation ~ U(std) are drawn for each example.
  """
  key_p, key_mean, key_std, key_noise = jax.random.split(key, 4)
  b = image.shape[:1]
  # One mean and one standard deviation for each example, [B, 1, ..., 1].
  drawn_mean = _lift(jax.random.uniform(key_mean, b, minval=mean[0], maxval=mean[1]), image)
  drawn_std = _lift(jax.random.uniform(key_std, b, minval=std[0], maxval=std[1]), image)
  noisy = image + drawn_mean + drawn_std * jax.random.normal(key_noise, image.shape)
  return _with_probability(key_p, p, jnp.clip(noisy, 0, 1), image)


def gamma(
  key: Key, image: Image, valid: Valid, *, p: Number = 1.0, power: Sequence[Number] = (0.5, 2.0)
) -> Image:
  """Raises values to a power ~ U(low, high) with probability p.

  Values are scaled to [0, 1] between the smallest and the largest valid one of their example, and
  back.
  """
  key_p, key_power = jax.random.split(key)
  drawn = jax.random.uniform(key_power, image.shape[:1], minval=power[0], maxval=power[1])
  exponent = _lift(drawn, image)
  axes = tuple(range(1, image.ndim))
  is_valid = valid[..., None]
  # [B, 1, ..., 1], over all channels together; padding must not set the range.
  low = jnp.where(is_valid, image, jnp.inf).min(axes, keepdims=True)
  high = jnp.where(is_valid, image, -jnp.inf).max(axes, keepdims=True)
  span = jnp.maximum(high - low, 1e-7)  # an image of one value stays as it is
  curved = low + span * jnp.clip((image - low) / span, 0, 1) ** exponent
  return _with_probability(key_p, p, curved, image)


def shift(
  key: Key, image: Image, valid: Valid, *, p: Number = 1.0, offset: Sequence[Number] = (0.0, 0.1)
) -> Image:
  """Adds an offset ~ U(low, high) to all values of an example with probability p."""
  key_p, key_offset = jax.random.split(key)
  drawn = jax.random.uniform(key_offset, image.shape[:1], minval=offset[0], maxval=offset[1])
  return _with_probability(key_p, p, jnp.clip(image + _lift(drawn, image), 0, 1), image)
