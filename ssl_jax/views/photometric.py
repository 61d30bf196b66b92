"""What light, stain and focus do to an image: colour jitter, grey, blur.

Images are [B, *space, C] in [0, 1] with any number of channels; hue, saturation and grey are
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

Number = int | float
Image = Float[Array, 'b *space c']
Valid = Bool[Array, 'b *space']
Plane = Float[Array, 'b *space']
PerExample = Float[Array, ' b']

LUMA = (0.299, 0.587, 0.114)


def _lift(per_example: Array, like: Array) -> Array:
  return per_example.reshape((-1,) + (1,) * (like.ndim - 1))


def luma(planes: Sequence[Plane]) -> Plane:
  """The grey level of red, green and blue planes (ITU-R 601, as PIL's 'L')."""
  return sum(weight * plane for weight, plane in zip(LUMA, planes, strict=True))


def _blend(plane: Plane, other: Array | Number, factor: PerExample) -> Plane:
  return jnp.clip(other + _lift(factor, plane) * (plane - other), 0, 1)


def adjust_brightness(planes: Sequence[Plane], factor: PerExample, valid: Valid) -> list[Plane]:
  """Multiplies by a factor per example, clipped (PIL's ImageEnhance.Brightness)."""
  return [_blend(plane, 0.0, factor) for plane in planes]


def adjust_contrast(planes: Sequence[Plane], factor: PerExample, valid: Valid) -> list[Plane]:
  """Blends with the mean over valid pixels (PIL's ImageEnhance.Contrast, unrounded mean).

  RGB has one mean grey level; otherwise each channel has its own, as stains differ in level.
  """
  axes = tuple(range(1, valid.ndim))
  count = jnp.maximum(valid.sum(axes, keepdims=True), 1)

  def mean(plane: Array) -> Array:
    return jnp.where(valid, plane, 0).sum(axes, keepdims=True) / count

  means = [mean(luma(planes))] * 3 if len(planes) == 3 else [mean(plane) for plane in planes]
  return [_blend(plane, level, factor) for plane, level in zip(planes, means, strict=True)]


def adjust_saturation(planes: Sequence[Plane], factor: PerExample, valid: Valid) -> list[Plane]:
  """Blends red, green and blue planes with their grey level (PIL's ImageEnhance.Color)."""
  grey = luma(planes)
  return [_blend(plane, grey, factor) for plane in planes]


def adjust_hue(planes: Sequence[Plane], shift: PerExample, valid: Valid) -> list[Plane]:
  """Turns the hue circle by a shift per example (1 is a full turn), without a branch."""
  red, green, blue = planes
  top = jnp.maximum(jnp.maximum(red, green), blue)
  span = top - jnp.minimum(jnp.minimum(red, green), blue)
  safe = jnp.where(span > 0, span, 1)
  sextant = jnp.where(
    top == red,
    (green - blue) / safe,
    jnp.where(top == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
  )
  turned = sextant + 6 * _lift(shift, red)

  def channel(start: int) -> Plane:
    k = start + turned
    k = k - 6 * jnp.floor(k / 6)  # jnp.mod calls the exact fmod, several times slower
    return top - span * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

  return [channel(start) for start in (5, 3, 1)]


ADJUST = dict(
  brightness=adjust_brightness,
  contrast=adjust_contrast,
  saturation=adjust_saturation,
  hue=adjust_hue,
)


def _span(name: str, knob: Number | Sequence[Number]) -> tuple[Number, Number]:
  if isinstance(knob, Sequence):
    low, high = knob
    return low, high
  return (-knob, knob) if name == 'hue' else (max(0.0, 1 - knob), 1 + knob)


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
  circle), a pair (lo, hi) from U(lo, hi). An example is changed with probability p. Formulas
  and order as torchvision's ColorJitter (contrast about the mean of the valid pixels).
  """
  knobs = dict(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)
  colour = image.shape[-1] == 3
  knobs = {k: v for k, v in knobs.items() if v and (colour or k in ('brightness', 'contrast'))}
  if not knobs:
    return image
  b = image.shape[0]
  key_p, key_order, *keys = jax.random.split(key, 2 + len(ADJUST))
  keys = dict(zip(ADJUST, keys, strict=True))
  amounts = {}
  for name, knob in knobs.items():
    low, high = _span(name, knob)
    amounts[name] = jax.random.uniform(keys[name], (b,), minval=low, maxval=high)
  order = jnp.argsort(jax.random.uniform(key_order, (b, len(knobs))), -1)
  # Planes, not interleaved channels: what mixes channels then runs at full vector width.
  planes = [image[..., c] for c in range(image.shape[-1])]
  for turn in range(len(knobs)):
    changed = planes
    for which, (name, amount) in enumerate(amounts.items()):
      mine = _lift(order[:, turn] == which, valid)
      adjusted = ADJUST[name](planes, amount, valid)
      changed = [jnp.where(mine, new, old) for new, old in zip(adjusted, changed, strict=True)]
    planes = changed
  happens = _lift(jax.random.bernoulli(key_p, p, (b,)), image)
  return jnp.where(happens, jnp.stack(planes, -1), image)


def grayscale(key: Key, image: Image, valid: Valid, *, p: Number = 1.0) -> Image:
  """Replaces RGB by its grey level, with probability p for each example."""
  if image.shape[-1] != 3:
    return image
  grey = luma([image[..., c] for c in range(3)])[..., None]
  return jnp.where(_lift(jax.random.bernoulli(key, p, image.shape[:1]), image), grey, image)


def gaussian(image: Image, valid: Valid, sigma: PerExample, radius: int) -> Image:
  """Blurs with a Gaussian of one sigma (pixels) per example, cut at `radius` pixels.

  Shift and add along each axis. Pixels that are not valid, and those beyond the border, weigh
  nothing: the weights that remain are scaled to sum to one.
  """
  taps = jnp.arange(-radius, radius + 1)
  weights = jnp.exp(-0.5 * (taps / jnp.maximum(sigma, 1e-3)[:, None]) ** 2)
  mask = valid.astype(image.dtype)
  planes = [image[..., c] * mask for c in range(image.shape[-1])]

  def smooth(plane: Plane) -> Plane:
    for axis in range(1, plane.ndim):
      length = plane.shape[axis]
      wide = jnp.pad(plane, [(radius, radius) if a == axis else (0, 0) for a in range(plane.ndim)])
      plane = sum(
        _lift(weights[:, i], plane) * jax.lax.slice_in_dim(wide, i, i + length, axis=axis)
        for i in range(2 * radius + 1)
      )
    return plane

  total = smooth(mask)
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
  """Blurs an example with probability p, by a Gaussian of sigma ~ U(lo, hi) pixels.

  Those blurred then get Gaussian noise of the deviation `noise` on every pixel and channel.
  """
  key_p, key_sigma = jax.random.split(key)
  b = image.shape[0]
  drawn = jax.random.uniform(key_sigma, (b,), minval=sigma[0], maxval=sigma[1])
  blurred = gaussian(image, valid, drawn, radius=math.ceil(3 * sigma[1]))
  if noise:
    drawn = jax.random.normal(jax.random.fold_in(key, 1), image.shape)
    blurred = jnp.clip(blurred + noise * drawn, 0, 1)
  return jnp.where(_lift(jax.random.bernoulli(key_p, p, (b,)), image), blurred, image)


def noise(
  key: Key,
  image: Image,
  valid: Valid,
  *,
  p: Number = 1.0,
  mean: Sequence[Number] = (0.0, 0.0),
  std: Sequence[Number] = (0.0, 0.1),
) -> Image:
  """Adds Gaussian noise with probability p; its mean and deviation are drawn for each example."""
  key_p, key_mean, key_std, key_noise = jax.random.split(key, 4)
  centre, spread = (
    _lift(jax.random.uniform(k, image.shape[:1], minval=low, maxval=high), image)
    for k, (low, high) in ((key_mean, mean), (key_std, std))
  )
  noisy = jnp.clip(image + centre + spread * jax.random.normal(key_noise, image.shape), 0, 1)
  return _happens(key_p, p, noisy, image)


def gamma(
  key: Key, image: Image, valid: Valid, *, p: Number = 1.0, power: Sequence[Number] = (0.5, 2.0)
) -> Image:
  """Raises values to a power ~ U(lo, hi) with probability p, between an example's own ends."""
  key_p, key_power = jax.random.split(key)
  drawn = _lift(
    jax.random.uniform(key_power, image.shape[:1], minval=power[0], maxval=power[1]), image
  )
  axes, inside = tuple(range(1, image.ndim)), valid[..., None]
  low = jnp.where(inside, image, jnp.inf).min(axes, keepdims=True)
  high = jnp.where(inside, image, -jnp.inf).max(axes, keepdims=True)
  span = jnp.maximum(high - low, 1e-7)
  bent = low + span * jnp.clip((image - low) / span, 0, 1) ** drawn
  return _happens(key_p, p, bent, image)


def shift(
  key: Key, image: Image, valid: Valid, *, p: Number = 1.0, offset: Sequence[Number] = (0.0, 0.1)
) -> Image:
  """Adds an offset ~ U(lo, hi) to all values with probability p."""
  key_p, key_offset = jax.random.split(key)
  drawn = jax.random.uniform(key_offset, image.shape[:1], minval=offset[0], maxval=offset[1])
  return _happens(key_p, p, jnp.clip(image + _lift(drawn, image), 0, 1), image)


def _happens(key: Key, p: Number, changed: Image, image: Image) -> Image:
  """Each example changed with probability p."""
  return jnp.where(_lift(jax.random.bernoulli(key, p, image.shape[:1]), image), changed, image)
