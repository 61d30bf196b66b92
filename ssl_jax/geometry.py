"""Where the pixels of a view come from: affine maps, one resampling, and bringing maps along.

Everything holds in two and in three dimensions. An index is a pixel's centre, so a pixel covers
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

Number = int | float
Affine = Float[Array, 'b n n+1']
Points = Sequence[Float[Array, 'b *space']]
"""Source indices of the pixels of a view, one array for each axis of the source."""


def compose(outer: Affine, inner: Affine) -> Affine:
  """The map x -> outer(inner(x))."""
  # 'highest': the default precision of accelerators would be off by whole pixels.
  linear = jnp.einsum('bij,bjk->bik', outer[..., :-1], inner, precision='highest')
  return linear.at[..., -1].add(outer[..., -1])


def invert(geometry: Affine) -> Affine:
  """The inverse of an affine map in two or three dimensions, written out (no solver needed)."""
  linear, shift = geometry[..., :-1], geometry[..., -1]
  if linear.shape[-1] == 2:
    (a, b), (c, d) = (linear[:, i].T for i in range(2))
    adjugate = jnp.stack([jnp.stack([d, -b], -1), jnp.stack([-c, a], -1)], -2)
    determinant = a * d - b * c
  else:
    x, y, z = (linear[:, i] for i in range(3))
    adjugate = jnp.stack([jnp.cross(y, z), jnp.cross(z, x), jnp.cross(x, y)], -1)
    determinant = jnp.sum(x * jnp.cross(y, z), -1)
  inverse = adjugate / determinant[:, None, None]
  back = -jnp.sum(inverse * shift[:, None, :], -1, keepdims=True)
  return jnp.concatenate([inverse, back], -1)


def _diagonal(factors: Float[Array, 'b n'], shift: Float[Array, 'b n']) -> Affine:
  linear = factors[:, :, None] * jnp.eye(factors.shape[-1])
  return jnp.concatenate([linear, shift[:, :, None]], -1)


def _flipped(flags: Bool[Array, 'b n'], size: Sequence[int]) -> Affine:
  last = jnp.asarray(size, jnp.float32) - 1
  return _diagonal(jnp.where(flags, -1.0, 1.0), jnp.where(flags, last, 0.0))


def _rotated(angle: Float[Array, ' b'], size: Sequence[int]) -> Affine:
  """Turns the plane of the last two axes about the centre of the view; angle in radians."""
  n, b = len(size), angle.shape[0]
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  turn = jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], -2)
  linear = jnp.broadcast_to(jnp.eye(n), (b, n, n)).at[:, -2:, -2:].set(turn)
  centre = (jnp.asarray(size, jnp.float32) - 1) / 2
  shift = centre - jnp.sum(linear * centre, -1)
  return jnp.concatenate([linear, shift[..., None]], -1)


def random_affine(
  key: Key,
  extent: Int[Array, 'b n'],
  size: Sequence[int],
  *,
  base: Number | None = None,
  scale: Sequence[Number] = (1.0, 1.0),
  rotate: Number = 0.0,
  flip: Number = 0.0,
  flip_vertical: Number = 0.0,
) -> Affine:
  """Draws, for each example, the map from a view's index to the index of its image.

  The image is scaled (its long side becomes `base` x U(scale) pixels, or native x U(scale)),
  lies at the top-left of a canvas of at least `size`, is cropped at a uniform offset, flipped
  and turned about the centre of the crop by U(-rotate, rotate) degrees, in the plane of the last
  two axes. Turning the crop rather than the image lets real pixels fill its corners.

  Reducing reads single points (no low-pass filter): images much larger than `base` should be
  reduced once by the loader.
  """
  b, n = extent.shape
  size_f = jnp.asarray(size, jnp.float32)
  key_scale, key_crop, key_rotate, key_flip, key_vertical = jax.random.split(key, 5)
  factor = jax.random.uniform(key_scale, (b, 1), minval=scale[0], maxval=scale[1])
  native = extent.astype(jnp.float32)
  if base:
    factor = factor * base / native.max(-1, keepdims=True)
  # Whole pixels, as an image file would have; the identity then stays exact.
  target = jnp.maximum(jnp.floor(native * factor + 0.5), 1.0)
  room = jnp.maximum(target - size_f, 0.0)
  offset = jnp.minimum(jnp.floor(jax.random.uniform(key_crop, (b, n)) * (room + 1)), room)
  ratio = native / target
  geometry = _diagonal(ratio, (offset + 0.5) * ratio - 0.5)
  if flip or flip_vertical:
    flags = jnp.zeros((b, n), bool)
    flags = flags.at[:, -1].set(jax.random.bernoulli(key_flip, flip, (b,)))
    flags = flags.at[:, -2].set(jax.random.bernoulli(key_vertical, flip_vertical, (b,)))
    geometry = compose(geometry, _flipped(flags, size))
  if rotate:
    angle = jnp.deg2rad(jax.random.uniform(key_rotate, (b,), minval=-rotate, maxval=rotate))
    geometry = compose(geometry, _rotated(angle, size))
  return geometry


def random_boxes(
  key: Key,
  b: int,
  size: Sequence[int],
  p: Number = 1.0,
  area: Sequence[Number] = (0.02, 0.4),
  ratio: Sequence[Number] = (0.3, 1 / 0.3),
) -> Bool[Array, 'b *space']:
  """One rectangle per example, with probability p, wholly inside the view.

  Its share of the view is uniform in `area`, its height / width log-uniform in that part of
  `ratio` which fits the view. In 3-D the depth takes the cube root of the share.
  """
  key_p, key_area, key_ratio, key_at = jax.random.split(key, 4)
  n, (height, width) = len(size), size[-2:]
  share = jax.random.uniform(key_area, (b,), minval=area[0], maxval=area[1])
  plane = share ** (2 / n)
  least, most = plane * height / width, height / (plane * width)
  low = jnp.clip(ratio[0], least, most)
  high = jnp.clip(ratio[1], least, most)
  u = jax.random.uniform(key_ratio, (b,))
  tall = jnp.exp(jnp.log(low) * (1 - u) + jnp.log(high) * u)
  sides = [share ** (1 / n) * depth for depth in size[:-2]]
  sides += [jnp.sqrt(plane * height * width * tall), jnp.sqrt(plane * height * width / tall)]
  box = jax.random.bernoulli(key_p, p, (b,))
  where = jax.random.uniform(key_at, (n, b))
  for axis, (side, full) in enumerate(zip(sides, size, strict=True)):
    side = jnp.clip(jnp.floor(side + 0.5), 1, full)
    start = jnp.minimum(jnp.floor(where[axis] * (full - side + 1)), full - side)
    at = jnp.arange(full)
    hit = (at >= start[:, None]) & (at < (start + side)[:, None])
    box = box[..., None] & hit.reshape(b, *[1] * axis, full)
  return box


def locate(geometry: Affine, size: Sequence[int]) -> Points:
  """The source indices of all pixels of a view of `size`: n arrays [B, *size]."""
  n = len(size)
  axes = [jnp.arange(s, dtype=jnp.float32).reshape([-1] + [1] * (n - 1 - a)) for a, s in
          enumerate(size)]  # fmt: skip
  lift = (slice(None),) + (None,) * n
  points = []
  for row in range(n):
    terms = [geometry[:, row, a][lift] * axes[a] for a in range(n)]
    points.append(functools.reduce(operator.add, terms) + geometry[:, row, n][lift])
  return points


def inside(points: Points, extent: Int[Array, 'b n']) -> Bool[Array, 'b *space']:
  """Whether source indices lie on the image: in [-0.5, extent - 0.5] along every axis."""
  lift = (slice(None),) + (None,) * len(points)
  within = [(p >= -0.5) & (p <= extent[:, a][lift] - 0.5) for a, p in enumerate(points)]
  return functools.reduce(operator.and_, within)


def sample(
  dense: Shaped[Array, 'b *canvas'], points: Points, extent: Int[Array, 'b n'], nearest: bool
) -> Shaped[Array, 'b *read']:
  """Reads [B, *canvas] or [B, *canvas, C] at source indices, in its own dtype or as float32.

  Nearest keeps the dtype; linear interpolates over 2^n corners. Indices are clamped to the
  native extent, so that what pads the canvas is never mixed in.
  """
  n = len(points)
  canvas = dense.shape[1 : n + 1]
  flat = dense.reshape(dense.shape[0], -1, *dense.shape[n + 1 :])
  lift = (slice(None),) + (None,) * n
  last = [extent[:, a][lift].astype(jnp.float32) - 1 for a in range(n)]

  def read(corner: Points) -> Array:
    index = jnp.zeros((), jnp.int32)
    for a in range(n):
      index = index * canvas[a] + jnp.clip(corner[a], 0, last[a]).astype(jnp.int32)
    # One batched gather of whole pixels: channels stay together in memory, and examples stay
    # on their device.
    return jax.vmap(lambda pixels, at: pixels.at[at].get(mode='promise_in_bounds'))(flat, index)

  if nearest:
    return read([jnp.floor(p + 0.5) for p in points])
  low = [jnp.floor(p) for p in points]
  total = jnp.zeros((), jnp.float32)
  for bits in itertools.product((0, 1), repeat=n):
    shares = [p - q if bit else 1 - (p - q) for p, q, bit in zip(points, low, bits, strict=True)]
    weight = functools.reduce(operator.mul, shares)
    pixel = read([q + bit for q, bit in zip(low, bits, strict=True)]).astype(jnp.float32)
    total = total + weight.reshape(weight.shape + (1,) * (pixel.ndim - weight.ndim)) * pixel
  return total


def carry(
  dense: Shaped[Array, 'b *dense'],
  source: View,
  target: View,
  fill: Number = 0,
  nearest: bool | None = None,
) -> tuple[Shaped[Array, 'b *carried'], Bool[Array, 'b *space']]:
  """Brings a map on the pixels of one view onto the pixels of another view of the same images.

  `dense` is [B, *space] (ids, flags: nearest) or [B, *space, K] (probabilities: linear unless
  `nearest`). Returns the map on the target's pixels, `fill` where they lie outside the source's
  grid, and `seen`: False where the source did not show the example's own image (outside,
  padding, cut out, or pasted from another image). Where the target was pasted by CutMix, both
  are the partner's. Views that share one geometry object are not resampled: the same pixels.
  (Objects are compared with `is`, so make views and carry between them in one traced function.)
  """
  seen = source.valid
  remix = source.mix is not target.mix
  if source.mix is not None and remix:
    seen = seen & ~source.mix.pasted
  n = seen.ndim - 1

  def over(mask: Array) -> Array:
    return mask.reshape(mask.shape + (1,) * (dense.ndim - mask.ndim))

  if source.geometry is not target.geometry:
    points = locate(compose(invert(source.geometry), target.geometry), target.valid.shape[1:])
    extent = jnp.broadcast_to(jnp.asarray(seen.shape[1:], jnp.int32), (seen.shape[0], n))
    within = inside(points, extent)
    nearest = dense.ndim == n + 1 if nearest is None else nearest
    moved = sample(dense, points, extent, nearest).astype(dense.dtype)
    dense = jnp.where(over(within), moved, jnp.asarray(fill, dense.dtype))
    seen = within & sample(seen, points, extent, nearest=True)
  if target.mix is not None and remix:
    pasted, partner = target.mix.pasted, target.mix.partner
    dense = jnp.where(over(pasted), dense[partner], dense)
    seen = jnp.where(pasted, seen[partner], seen)
  return dense, seen
