"""The labels of views: class ids, and for patches the centroid of the cell.

Centroids are fractions of the sides of a view, (row, column): 0 at one edge, 1 at the other. They
are (0, 0) for background, which has no cell.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ssl_jax.errors import UserError
from ssl_jax.types import IGNORE, View
from ssl_jax.views import affine


def labels_of(view: View) -> Int[Array, 'b *space']:
  """Returns the class ids of a view: of its pixels, or [B] of patches.

  Raises:
    UserError: if the view is made of a stream without labels.
  """
  if view.label is None:
    raise UserError(
      'A method learns from the labels of a view that is made of a stream without labels; '
      'name another view.'
    )
  return view.label


def centroids(view: View) -> tuple[Float[Array, 'b n'], Bool[Array, ' b']]:
  """Returns the centroids of the cells of patches, and whether they are known.

  They are unknown where a patch has no label, or where the centroid lies outside the view.

  Raises:
    UserError: if the view does not show patches of cells.
  """
  if view.point is None:
    raise UserError('A method learns centroids, and its view shows no patches of cells.')
  # NaN marks a patch without a cell. It is replaced before the arithmetic, and again at the end,
  # because index 0 is not the fraction 0.
  is_background = jnp.isnan(view.point).any(-1)
  fractions = as_fractions(jnp.where(is_background[:, None], 0, view.point), view)
  # A rotation or a crop may have moved the cell out of the view.
  is_inside = ((fractions >= 0) & (fractions <= 1)).all(-1)
  # Background is known as well: its centroid is (0, 0) by convention.
  known = (labels_of(view) != IGNORE) & (is_background | is_inside)
  return jnp.where(is_background[:, None], 0, fractions), known


def as_fractions(points: Float[Array, 'b n'], view: View) -> Float[Array, 'b n']:
  """Converts pixel indices to fractions of a view's sides."""
  # The center of the first pixel has the index 0, and lies half a pixel from the edge.
  return (points + 0.5) / jnp.asarray(view.valid.shape[1:])


def warp_centroids(
  fractions: Float[Array, 'b n'], source: View, target: View
) -> Float[Array, 'b n']:
  """Maps centroids from one view to another of the same images, clipped to the target view.

  Args:
    fractions: points as fractions of the source view's sides.
    source: the view that the points are in.
    target: the view that they are brought to; the result is fractions of its sides.
  """
  # The inverse of as_fractions.
  index = fractions * jnp.asarray(source.valid.shape[1:]) - 0.5
  # Points move from source to target, whereas a map that is sampled is read the other way (see
  # geometry.warp).
  between = affine.compose(affine.invert(target.geometry), source.geometry)
  return jnp.clip(as_fractions(affine.apply(between, index), target), 0, 1)
