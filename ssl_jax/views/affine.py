"""Affine maps between the pixels of a view and those of its image: drawn, composed and inverted.

A map is [B, n, n+1]: one linear part and one shift for each example of a batch, in array order
(row, column). Everything holds in two and in three dimensions; an index is a pixel's center (see
geometry.py).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ssl_jax.types import Key
from ssl_jax.views.recipes import Number

Affine = Float[Array, 'b n n+1']


def compose(outer: Affine, inner: Affine) -> Affine:
  """Returns the map x -> outer(inner(x))."""
  # 'highest': the default precision of accelerators would be off by whole pixels.
  linear = jnp.einsum('bij,bjk->bik', outer[..., :-1], inner, precision='highest')
  # The last column has carried the inner shift through the outer linear part; its own shift is
  # still to be added.
  return linear.at[..., -1].add(outer[..., -1])


def invert(geometry: Affine) -> Affine:
  """Returns the inverse of an affine map in two or three dimensions.

  It is written out with the adjugate: for matrices this small a solver would cost more.
  """
  linear, shift = geometry[..., :-1], geometry[..., -1]
  if linear.shape[-1] == 2:
    # The entries of the two rows, [B] each.
    (a, b), (c, d) = (linear[:, i].T for i in range(2))
    adjugate = jnp.stack([jnp.stack([d, -b], -1), jnp.stack([-c, a], -1)], -2)
    determinant = a * d - b * c
  else:
    # The columns of the adjugate of a 3 x 3 matrix are cross products of its rows.
    x, y, z = (linear[:, i] for i in range(3))
    adjugate = jnp.stack([jnp.cross(y, z), jnp.cross(z, x), jnp.cross(x, y)], -1)
    determinant = jnp.sum(x * jnp.cross(y, z), -1)
  inverse = adjugate / determinant[:, None, None]
  # x = A y + s means y = A^-1 x - A^-1 s.
  inverse_shift = -jnp.sum(inverse * shift[:, None, :], -1, keepdims=True)
  return jnp.concatenate([inverse, inverse_shift], -1)


def apply(geometry: Affine, points: Float[Array, 'b n']) -> Float[Array, 'b n']:
  """Returns the images of one point of each example under its map."""
  moved = jnp.einsum('bij,bj->bi', geometry[..., :-1], points, precision='highest')
  return moved + geometry[..., -1]


def _scaling(factors: Float[Array, 'b n'], shift: Float[Array, 'b n']) -> Affine:
  """Multiplies each axis by its factor, then adds a shift."""
  linear = factors[:, :, None] * jnp.eye(factors.shape[-1])
  return jnp.concatenate([linear, shift[:, :, None]], -1)


def _flip(flags: Bool[Array, 'b n'], size: Sequence[int]) -> Affine:
  """Mirrors a view of `size` along the axes whose flag is True."""
  # Index i becomes last - i along a mirrored axis.
  last = jnp.asarray(size, jnp.float32) - 1
  return _scaling(jnp.where(flags, -1.0, 1.0), jnp.where(flags, last, 0.0))


def _rotation(angle: Float[Array, ' b'], size: Sequence[int]) -> Affine:
  """Turns the plane of the last two axes about the center of the view; angle in radians."""
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  plane = jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], -2)
  return _about_center(plane, size)


def _quarter_turn(quarters: Int[Array, ' b'], size: Sequence[int]) -> Affine:
  """Turns the plane of the last two axes by whole quarters about the center of the view."""
  # Exact, where the cosine of a right angle would be 6e-17.
  cos = jnp.array([1.0, 0.0, -1.0, 0.0])[quarters]
  sin = jnp.array([0.0, 1.0, 0.0, -1.0])[quarters]
  plane = jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], -2)
  return _about_center(plane, size)


def _shearing(slope: Float[Array, 'b 2'], size: Sequence[int]) -> Affine:
  """Slants rows by the first slope, then columns by the second, about the center of the view."""
  row, column = slope[:, 0], slope[:, 1]
  one = jnp.ones_like(row)
  # The product of the two shears, whose determinant is 1: areas stay as they are.
  plane = jnp.stack([jnp.stack([one, row], -1), jnp.stack([column, one + row * column], -1)], -2)
  return _about_center(plane, size)


def _about_center(plane: Float[Array, 'b 2 2'], size: Sequence[int]) -> Affine:
  """A linear map of the plane of the last two axes that leaves the center of the view in place."""
  n, b = len(size), plane.shape[0]
  # In 3-D the depth axis stays as it is.
  linear = jnp.broadcast_to(jnp.eye(n), (b, n, n)).at[:, -2:, -2:].set(plane)
  center = (jnp.asarray(size, jnp.float32) - 1) / 2
  # A (x - center) + center has the shift center - A center.
  shift = center - jnp.sum(linear * center, -1)
  return jnp.concatenate([linear, shift[..., None]], -1)


def random_affine(
  key: Key,
  extent: Int[Array, 'b n'],
  size: Sequence[int],
  *,
  resize_long_side: Number | None = None,
  scale: Sequence[Number] = (1.0, 1.0),
  rotate: Number = 0.0,
  rotate_p: Number = 1.0,
  shear: Number = 0.0,
  translate: Number = 0.0,
  flip: Number = 0.0,
  flip_vertical: Number = 0.0,
  quarter_turns: Number = 0.0,
) -> Affine:
  """Draws, for each example, the map from a view's index to the index of its image.

  The image is resized and lies at the top-left of a canvas of at least `size`. A crop of `size` at
  a uniform offset is flipped and then, in the plane of the last two axes and about the center of
  the crop, turned, rotated, sheared and moved. Rotating the crop rather than the image lets real
  pixels fill its corners.

  Reducing reads single points (no low-pass filter): images much larger than `resize_long_side`
  should be reduced once by the loader.

  Args:
    key: source of all random numbers.
    extent: native size of each image, in pixels.
    size: size of the view, in pixels.
    resize_long_side: the long side in pixels, before `scale`; None: the native one.
    scale: range of a uniform factor.
    rotate: largest angle in degrees, in both directions.
    rotate_p: probability of a rotation.
    shear: largest slope, in both directions and along both axes.
    translate: largest shift as a fraction of each side, in both directions.
    flip: probability of a flip from left to right.
    flip_vertical: probability of a flip from top to bottom.
    quarter_turns: probability of a turn by 0, 1, 2 or 3 quarters, each as likely. Pixels stay whole
      in a square view; in another, padding fills what the turned image does not reach.
  """
  b, n = extent.shape
  size_f = jnp.asarray(size, jnp.float32)
  key_scale, key_crop, key_rotate, key_flip, key_vertical = jax.random.split(key, 5)
  # The resize: one factor for all axes of an image, which keeps its aspect ratio.
  factor = jax.random.uniform(key_scale, (b, 1), minval=scale[0], maxval=scale[1])
  native = extent.astype(jnp.float32)
  if resize_long_side:
    factor = factor * resize_long_side / native.max(-1, keepdims=True)
  # Whole pixels, as an image file would have; the identity then stays exact.
  resized = jnp.maximum(jnp.floor(native * factor + 0.5), 1.0)
  # How far the crop can be moved, in pixels. It is 0 where the image is smaller than the view,
  # whose rest is then padding.
  slack = jnp.maximum(resized - size_f, 0.0)
  # The product may be rounded up to slack + 1, hence the second bound.
  offset = jnp.minimum(jnp.floor(jax.random.uniform(key_crop, (b, n)) * (slack + 1)), slack)
  ratio = native / resized
  # Half-pixel convention: the center of pixel i of the resized image is at (i + 0.5) ratio - 0.5.
  geometry = _scaling(ratio, (offset + 0.5) * ratio - 0.5)
  if flip or flip_vertical:
    flags = jnp.zeros((b, n), bool)
    # Without a flip along the depth: a view of a volume is mirrored within its slices only.
    flags = flags.at[:, -1].set(jax.random.bernoulli(key_flip, flip, (b,)))
    flags = flags.at[:, -2].set(jax.random.bernoulli(key_vertical, flip_vertical, (b,)))
    # The map goes from the view to the image, so the view's index is mirrored first.
    geometry = compose(geometry, _flip(flags, size))
  if quarter_turns:
    # Folded in, so that the other draws stay as they are without it.
    key_turned, key_quarters = jax.random.split(jax.random.fold_in(key, 7))
    turned = jax.random.bernoulli(key_turned, quarter_turns, (b,))
    quarters = jnp.where(turned, jax.random.randint(key_quarters, (b,), 0, 4), 0)
    geometry = compose(geometry, _quarter_turn(quarters, size))
  if rotate:
    angle = jnp.deg2rad(jax.random.uniform(key_rotate, (b,), minval=-rotate, maxval=rotate))
    if rotate_p < 1:
      # Derived from the key of the angle, so that the other draws stay as they are without it.
      angle *= jax.random.bernoulli(jax.random.fold_in(key_rotate, 1), rotate_p, (b,))
    geometry = compose(geometry, _rotation(angle, size))
  if shear:
    # Keys of shear and translation are folded in: a longer split would change the other draws.
    slope = jax.random.uniform(jax.random.fold_in(key, 5), (b, 2), minval=-shear, maxval=shear)
    geometry = compose(geometry, _shearing(slope, size))
  if translate:
    key_translate = jax.random.fold_in(key, 6)
    fraction = jax.random.uniform(key_translate, (b, n), minval=-translate, maxval=translate)
    # `fraction` is of the sides of the view, and the map wants pixels.
    geometry = compose(geometry, _scaling(jnp.ones((b, n)), fraction * size_f))
  return geometry
