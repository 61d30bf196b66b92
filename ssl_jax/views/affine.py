"""Affine maps between the pixels of a view and those of its image: drawn, joined and inverted.

Everything holds in two and in three dimensions; an index is a pixel's centre (see geometry.py).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ssl_jax.types import Key

Number = int | float
Affine = Float[Array, 'b n n+1']


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


def apply(geometry: Affine, points: Float[Array, 'b n']) -> Float[Array, 'b n']:
  """Where a map brings one point of each example."""
  turned = jnp.einsum('bij,bj->bi', geometry[..., :-1], points, precision='highest')
  return turned + geometry[..., -1]


def _diagonal(factors: Float[Array, 'b n'], shift: Float[Array, 'b n']) -> Affine:
  linear = factors[:, :, None] * jnp.eye(factors.shape[-1])
  return jnp.concatenate([linear, shift[:, :, None]], -1)


def _flipped(flags: Bool[Array, 'b n'], size: Sequence[int]) -> Affine:
  last = jnp.asarray(size, jnp.float32) - 1
  return _diagonal(jnp.where(flags, -1.0, 1.0), jnp.where(flags, last, 0.0))


def _rotated(angle: Float[Array, ' b'], size: Sequence[int]) -> Affine:
  """Turns the plane of the last two axes about the centre of the view; angle in radians."""
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  turn = jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], -2)
  return _about_centre(turn, size)


def _sheared(slope: Float[Array, 'b 2'], size: Sequence[int]) -> Affine:
  """Slants rows by the first slope, then columns by the second, about the centre of the view."""
  row, column = slope[:, 0], slope[:, 1]
  one = jnp.ones_like(row)
  slant = jnp.stack([jnp.stack([one, row], -1), jnp.stack([column, one + row * column], -1)], -2)
  return _about_centre(slant, size)


def _about_centre(plane: Float[Array, 'b 2 2'], size: Sequence[int]) -> Affine:
  """A linear map of the plane of the last two axes that leaves the centre of the view in place."""
  n, b = len(size), plane.shape[0]
  linear = jnp.broadcast_to(jnp.eye(n), (b, n, n)).at[:, -2:, -2:].set(plane)
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
  rotate_p: Number = 1.0,
  shear: Number = 0.0,
  translate: Number = 0.0,
  flip: Number = 0.0,
  flip_vertical: Number = 0.0,
) -> Affine:
  """Draws, for each example, the map from a view's index to the index of its image.

  The image is scaled (its long side becomes `base` x U(scale) pixels, or native x U(scale)),
  lies at the top-left of a canvas of at least `size`, is cropped at a uniform offset, flipped and,
  in the plane of the last two axes and about the centre of the crop, turned with probability
  `rotate_p` by U(-rotate, rotate) degrees, slanted along both axes by U(-shear, shear) and moved by
  U(-translate, translate) sides. Turning the crop rather than the image lets real pixels fill its
  corners.

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
    if rotate_p < 1:
      angle *= jax.random.bernoulli(jax.random.fold_in(key_rotate, 1), rotate_p, (b,))
    geometry = compose(geometry, _rotated(angle, size))
  if shear:
    slope = jax.random.uniform(jax.random.fold_in(key, 5), (b, 2), minval=-shear, maxval=shear)
    geometry = compose(geometry, _sheared(slope, size))
  if translate:
    part = jax.random.uniform(jax.random.fold_in(key, 6), (b, n), minval=-translate,
                              maxval=translate)  # fmt: skip
    geometry = compose(geometry, _diagonal(jnp.ones((b, n)), part * size_f))
  return geometry
