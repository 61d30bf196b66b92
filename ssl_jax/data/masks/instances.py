"""Masks of instances (an id for each object) as three classes that any method can learn.

Background, body (the interior of an object) and border (its rim), as Caicedo et al. 2019 teach them
(Evaluation of deep learning strategies for nucleus segmentation in fluorescence images, Cytometry A
95), and the winners of the Data Science Bowl 2018 did (Caicedo et al. 2019, Nature Methods 16). The
rim goes all around an object, not only along objects that touch: that alone is too rare a class to
be learned from a few images.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from scipy import ndimage
from skimage import measure

from ssl_jax.types import BACKGROUND

CLASSES = ('background', 'body', 'border')
"""Names of the three classes; their positions are the class ids."""

BODY, BORDER = 1, 2

WIDTH = 0.2
"""How wide a border is, as a part of the radius of its object (that of the largest ball inside), so
that small objects keep a body; it is one pixel at least."""

LEAST_BODY = 0.25
MOST_CUT_OFF = 0.1
"""What must be left of an object as its body, and what a border may cut off from it."""

VERSION = 1
"""Of what `to_classes` makes, for what is kept of it; increase it when that changes."""


def to_classes(ids: Integer[np.ndarray, '*space']) -> UInt8[np.ndarray, '*space']:
  """Turns instance ids, 0 for the background, into the class ids of CLASSES.

  The border of a connected piece of an object are its pixels near its edge; where the image ends
  there is none. The body is one piece: where the border would use it up or cut it in two, it is
  thinner, then only where another object is near. A piece too small for that is body alone.

  Args:
    ids: of two or three dimensions; an id may be in several pieces.
  """
  classes = np.full(ids.shape, BACKGROUND, np.uint8)
  # Pieces have numbers without gaps, as `find_objects` needs them, and equal ids.
  pieces = measure.label(ids, background=0, connectivity=ids.ndim)
  for piece, box in enumerate(ndimage.find_objects(pieces), start=1):
    # With a frame, as far as the image reaches: what lies beyond its end is not known.
    framed = tuple(
      slice(max(side.start - 1, 0), min(side.stop + 1, length))
      for side, length in zip(box, ids.shape, strict=True)
    )
    inside = pieces[framed] == piece
    others = (ids[framed] != 0) & (ids[framed] != ids[framed][inside][0])
    classes[framed][inside] = BORDER
    classes[framed][_body(inside, others)] = BODY
  return classes


def _body(
  inside: Bool[np.ndarray, '*space'], others: Bool[np.ndarray, '*space']
) -> Bool[np.ndarray, '*space']:
  """The body of a piece of an object, beside other objects."""
  area = inside.sum()
  depth = _distance_from(~inside)
  # An object that fills the image has no edge.
  width = max(round(WIDTH * depth.max()), 1) if np.isfinite(depth).all() else 0
  # The widest border first; the last is a thin one that only parts the piece from other objects.
  # Diagonal neighbors, less than 2 from an edge, belong to a border of 1: bodies never touch.
  candidates = [depth >= reach + 1 for reach in range(width, 0, -1)]
  candidates.append(_distance_from(others) >= 2)
  for candidate in candidates:
    parts, _ = ndimage.label(inside & candidate, neighbors(inside.ndim))
    counts = np.bincount(parts.ravel(), minlength=2)[1:]
    largest = counts.max()
    if largest >= LEAST_BODY * area and counts.sum() - largest <= MOST_CUT_OFF * area:
      return parts == counts.argmax() + 1
  return inside


def _distance_from(edge: Bool[np.ndarray, '*space']) -> Float[np.ndarray, '*space']:
  """The distance in pixels from the nearest pixel of `edge`; infinite where there is none."""
  if not edge.any():
    return np.full(edge.shape, np.inf)
  return ndimage.distance_transform_edt(~edge)


def neighbors(dimensions: int) -> Integer[np.ndarray, '...']:
  """Returns what connects pixels or voxels to one object: a side, an edge or a corner."""
  return np.ones((3,) * dimensions, int)


def compact(ids: Integer[np.ndarray, '*space']) -> Integer[np.ndarray, '*space']:
  """Renumbers ids 1, 2, ... in their order, as uint16, or uint32 where they are too many."""
  values, numbers = np.unique(ids, return_inverse=True)
  # Without a pixel of background the smallest id would become 0.
  first = 0 if values[0] == 0 else 1
  kind = np.uint16 if len(values) < 2**16 else np.uint32
  return (numbers.reshape(ids.shape) + first).astype(kind)


def sizes(ids: Integer[np.ndarray, '*space']) -> Integer[np.ndarray, ' n']:
  """Returns the number of pixels of each instance."""
  counts = np.bincount(ids.ravel())[1:]
  return counts[counts > 0]


def resize(ids: Integer[np.ndarray, 'h w'], size: Sequence[int]) -> Integer[np.ndarray, 'i j']:
  """Returns ids resized to `size` rows and columns, with the nearest pixel's id."""
  # Pillow, which resizes class ids, knows no 32-bit integers.
  places = [
    ((np.arange(new) + 0.5) * (old / new)).astype(int)
    for old, new in zip(ids.shape, size, strict=True)
  ]
  return ids[np.ix_(*places)]


def least_size(sizes_of_instances: Sequence[int] | Integer[np.ndarray, ' n']) -> int:
  """Returns the default of `min_size`: a quarter of the size that 5 % of the instances fall below.

  What is smaller than that in a prediction is noise rather than an object.
  """
  return max(int(np.percentile(sizes_of_instances, 5) / 4), 1) if len(sizes_of_instances) else 1
