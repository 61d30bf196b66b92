"""Where the pixels of a view come from: one resampling, and bringing maps along.

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

from ssl_jax.types import IGNORE, Key, View
from ssl_jax.views import affine
from ssl_jax.views.affine import Affine, Number

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


def centroids(view: View) -> tuple[Float[Array, 'b n'], Bool[Array, ' b']]:
  """Where the cells of patches are, in parts of the view (0 for background), and if it is known.

  It is not known of a patch without a label, nor where the view has lost sight of the cell.
  """
  none = jnp.isnan(view.point).any(-1)
  parts = in_parts(jnp.where(none[:, None], 0, view.point), view)
  inside = ((parts >= 0) & (parts <= 1)).all(-1)
  known = (view.label != IGNORE) & (none | inside)
  return jnp.where(none[:, None], 0, parts), known


def in_parts(points: Float[Array, 'b n'], view: View) -> Float[Array, 'b n']:
  """Indices of pixels as parts of a view's sides: 0 at the one edge, 1 at the other."""
  return (points + 0.5) / jnp.asarray(view.valid.shape[1:])


def warp_centroids(parts: Float[Array, 'b n'], source: View, target: View) -> Float[Array, 'b n']:
  """Brings points, in parts of one view, into another of the same images, and keeps them in it."""
  index = parts * jnp.asarray(source.valid.shape[1:]) - 0.5
  between = affine.compose(affine.invert(target.geometry), source.geometry)
  return jnp.clip(in_parts(affine.apply(between, index), target), 0, 1)


def warp(
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
    between = affine.compose(affine.invert(source.geometry), target.geometry)
    points = locate(between, target.valid.shape[1:])
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
