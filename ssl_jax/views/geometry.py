"""Reads the pixels of views in one resampling, and warps maps from one view to another.

Everything holds in two and in three dimensions. An index is a pixel's center, so a pixel covers
[index - 0.5, index + 0.5] and an image of extent E covers [-0.5, E - 0.5] (half-pixel convention).
"""

import functools
import itertools
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from ssl_jax.types import Key, View
from ssl_jax.views import affine
from ssl_jax.views.affine import Affine
from ssl_jax.views.recipes import Number

Points = Sequence[Float[Array, 'b *space']]
"""Source indices of the pixels of a view, one array for each axis of the source."""


def random_boxes(
  key: Key,
  b: int,
  size: Sequence[int],
  p: Number = 1.0,
  area: Sequence[Number] = (0.02, 0.4),
  ratio: Sequence[Number] = (0.3, 1 / 0.3),
) -> Bool[Array, 'b *space']:
  """Draws one rectangle per example, wholly inside the view; True in it.

  In 3-D the depth takes the cube root of the rectangle's fraction of the view.

  Args:
    key: source of all random numbers.
    b: number of examples.
    size: size of the view, in pixels.
    p: probability that an example has a rectangle; without one it is False everywhere.
    area: range of the rectangle's fraction of the view, which is uniform.
    ratio: range of height / width, which is log-uniform in the part that fits the view.
  """
  key_p, key_area, key_ratio, key_start = jax.random.split(key, 4)
  n, (height, width) = len(size), size[-2:]
  fraction = jax.random.uniform(key_area, (b,), minval=area[0], maxval=area[1])
  plane = fraction ** (2 / n)  # fraction of the plane of the last two axes
  # Beyond these ratios one side would be longer than the view.
  smallest = plane * height / width
  largest = height / (plane * width)
  low = jnp.clip(ratio[0], smallest, largest)
  high = jnp.clip(ratio[1], smallest, largest)
  # Log-uniform, so that a box is as often upright as it is wide.
  u = jax.random.uniform(key_ratio, (b,))
  drawn_ratio = jnp.exp(jnp.log(low) * (1 - u) + jnp.log(high) * u)
  # Sides in pixels, [B] each: the depth of a volume, then height and width.
  sides = [fraction ** (1 / n) * depth for depth in size[:-2]]
  sides.append(jnp.sqrt(plane * height * width * drawn_ratio))
  sides.append(jnp.sqrt(plane * height * width / drawn_ratio))
  sides = [jnp.clip(jnp.floor(side + 0.5), 1, full) for side, full in zip(sides, size, strict=True)]
  return _place_boxes(key_start, jax.random.bernoulli(key_p, p, (b,)), sides, size)


def boxes_of_sides(
  key: Key, b: int, size: Sequence[int], sides: Sequence[int]
) -> Bool[Array, 'b *space']:
  """Draws the place of one box of these sides, in pixels, per example, wholly inside the view."""
  return _place_boxes(key, jnp.ones((b,), bool), sides, size)


def _place_boxes(
  key: Key,
  box: Bool[Array, ' b'],
  sides: Sequence[Float[Array, ' b'] | int],
  size: Sequence[int],
) -> Bool[Array, 'b *space']:
  """Boxes of these sides in random places; False everywhere for an example whose flag is False."""
  b = len(box)
  position = jax.random.uniform(key, (len(size), b))
  # `box` begins as [B], and each turn of the loop appends one axis of the view.
  for axis, (side, full) in enumerate(zip(sides, size, strict=True)):
    # Uniform over the places where the box fits; rounding up may reach one place too many.
    start = jnp.minimum(jnp.floor(position[axis] * (full - side + 1)), full - side)
    index = jnp.arange(full)
    within = (index >= start[:, None]) & (index < (start + side)[:, None])
    box = box[..., None] & within.reshape(b, *[1] * axis, full)
  return box


def locate(geometry: Affine, size: Sequence[int]) -> Points:
  """Returns the source indices of all pixels of a view of `size`: n arrays [B, *size]."""
  n = len(size)
  # One index array per axis, shaped to broadcast against the others.
  axes = []
  for axis, length in enumerate(size):
    shape = [-1] + [1] * (n - 1 - axis)
    axes.append(jnp.arange(length, dtype=jnp.float32).reshape(shape))
  # Appends an axis for each one of the view: [B] becomes [B, 1, 1] in 2-D.
  lift = (slice(None),) + (None,) * n
  points = []
  # The product of matrix and index, a row at a time: the index arrays broadcast to [B, *size].
  for row in range(n):
    terms = [geometry[:, row, axis][lift] * axes[axis] for axis in range(n)]
    points.append(functools.reduce(operator.add, terms) + geometry[:, row, n][lift])
  return points


def inside(points: Points, extent: Int[Array, 'b n']) -> Bool[Array, 'b *space']:
  """Returns whether source indices lie on the image: in [-0.5, extent - 0.5] on every axis."""
  lift = (slice(None),) + (None,) * len(points)
  within = [(p >= -0.5) & (p <= extent[:, axis][lift] - 0.5) for axis, p in enumerate(points)]
  return functools.reduce(operator.and_, within)


def sample(
  dense: Shaped[Array, 'b *canvas'], points: Points, extent: Int[Array, 'b n'], nearest: bool
) -> Shaped[Array, 'b *sampled']:
  """Reads [B, *canvas] or [B, *canvas, C] at source indices.

  Indices are clamped to the native extent, so that what pads the canvas is never mixed in.

  Args:
    dense: the arrays that are read.
    points: source indices, one array [B, *space] per axis.
    extent: native size of each example; beyond it the canvas is padding.
    nearest: read the nearest pixel and keep the dtype; otherwise interpolate linearly over the 2^n
      corners, as float32.
  """
  n = len(points)
  canvas = dense.shape[1 : n + 1]
  # [B, pixels] or [B, pixels, C].
  flat = dense.reshape(dense.shape[0], -1, *dense.shape[n + 1 :])
  lift = (slice(None),) + (None,) * n
  last = [extent[:, axis][lift].astype(jnp.float32) - 1 for axis in range(n)]

  def read(corner: Points) -> Array:
    index = jnp.zeros((), jnp.int32)
    for axis in range(n):
      # Row-major position in the canvas, built up axis by axis.
      index = index * canvas[axis] + jnp.clip(corner[axis], 0, last[axis]).astype(jnp.int32)
    # One batched gather of whole pixels: channels stay together in memory, and examples stay
    # on their device.
    return jax.vmap(lambda pixels, i: pixels.at[i].get(mode='promise_in_bounds'))(flat, index)

  if nearest:
    # floor(p + 0.5) rather than round(), which takes halves to the even neighbor.
    return read([jnp.floor(p + 0.5) for p in points])
  # The corner with the smallest index on every axis; the others are one pixel further on some.
  low = [jnp.floor(p) for p in points]
  total = jnp.zeros((), jnp.float32)
  for bits in itertools.product((0, 1), repeat=n):
    # A corner's weight is the volume between the point and the opposite corner.
    factors = [p - q if bit else 1 - (p - q) for p, q, bit in zip(points, low, bits, strict=True)]
    weight = functools.reduce(operator.mul, factors)
    corner = [q + bit for q, bit in zip(low, bits, strict=True)]
    pixel = read(corner).astype(jnp.float32)
    # The weight is [B, *space], and gets an axis for the channels if there are any.
    total = total + weight.reshape(weight.shape + (1,) * (pixel.ndim - weight.ndim)) * pixel
  return total


def warp(
  dense: Shaped[Array, 'b *dense'],
  source: View,
  target: View,
  fill: Number = 0,
  nearest: bool | None = None,
) -> tuple[Shaped[Array, 'b *warped'], Bool[Array, 'b *space']]:
  """Resamples a map on the pixels of one view to the pixels of another view of the same images.

  Where the target was pasted by CutMix, the result is the partner's. Views that share one geometry
  object are not resampled: their pixels are the same. (Objects are compared with `is`, so make
  views and warp between them in one traced function.)

  Args:
    dense: [B, *space] (ids, flags) or [B, *space, K] (probabilities) on the source's pixels.
    source: the view that `dense` lies on.
    target: the view that it is brought to.
    fill: the value outside the source's grid.
    nearest: read the nearest pixel instead of interpolating; by default for ids and flags.

  Returns:
    The map on the target's pixels, and `seen`: False where the source did not show the example's
    own image (outside, padding, cut out, or pasted from another image).
  """
  # Views with the same record show the same pasted pixels, so they already agree.
  seen = source.valid
  same_mix = source.mix is target.mix
  if source.mix is not None and not same_mix:
    # A pasted pixel says nothing about the example's own image.
    seen = seen & ~source.mix.pasted
  n = seen.ndim - 1

  def lift(mask: Array) -> Array:
    return mask.reshape(mask.shape + (1,) * (dense.ndim - mask.ndim))

  if source.geometry is not target.geometry:
    # From the target's pixels to the image, and from there to the source's pixels.
    between = affine.compose(affine.invert(source.geometry), target.geometry)
    points = locate(between, target.valid.shape[1:])
    # The whole grid of the source; what is padding on it is known from `seen`.
    extent = jnp.broadcast_to(jnp.asarray(seen.shape[1:], jnp.int32), (seen.shape[0], n))
    within = inside(points, extent)
    # Maps without an axis of channels are ids or flags, and there is no id between two ids.
    if nearest is None:
      nearest = dense.ndim == n + 1
    sampled = sample(dense, points, extent, nearest).astype(dense.dtype)
    dense = jnp.where(lift(within), sampled, jnp.asarray(fill, dense.dtype))
    seen = within & sample(seen, points, extent, nearest=True)
  if target.mix is not None and not same_mix:
    # The partner's pixels were pasted at their own place, so its warped map is taken there.
    pasted, partner = target.mix.pasted, target.mix.partner
    dense = jnp.where(lift(pasted), dense[partner], dense)
    seen = jnp.where(pasted, seen[partner], seen)
  return dense, seen
