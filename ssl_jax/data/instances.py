"""Masks of instances (an id for each object) as three classes that any method can learn.

Each object has a body and, where another object is near, a border. Networks that tell background,
interior and boundary apart, and so objects that touch, are those of Caicedo et al. 2019 (Cytometry
A 95, Evaluation of deep learning strategies for nucleus segmentation in fluorescence images). That
the border is only where objects meet is from the winners of the Data Science Bowl 2018 (Caicedo et
al. 2019, Nature Methods 16): objects that stand alone keep their full shape.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Integer, UInt8
from scipy import ndimage
from skimage import measure

from ssl_jax.types import BACKGROUND

CLASSES = ('background', 'body', 'border')
"""Names of the three classes; their positions are the class ids."""

BODY, BORDER = 1, 2

WIDTH = 0.4
"""How far a border reaches from the other object, as a part of the radius of its own object (that
of the largest ball inside), so that small objects keep a body."""

LEAST_WIDTH = 2
"""It reaches so many pixels at least: the border of objects that touch is wider than one pixel."""


LEAST_BODY = 0.25
MOST_CUT_OFF = 0.1
"""What must be left of an object as its body, and what a border may cut off from it."""

VERSION = 1
"""Of what `to_classes` makes, for what is kept of it; increase it when that changes."""


def to_classes(ids: Integer[np.ndarray, '*space']) -> UInt8[np.ndarray, '*space']:
  """Turns instance ids, 0 for the background, into the class ids of CLASSES.

  The border of an object are its pixels that are near another object. The body of a connected piece
  is one piece: where a border would use it up or cut it in two, the border is thinner, or there is
  none.

  Args:
    ids: of two or three dimensions; an id may be in several pieces.
  """
  classes = np.full(ids.shape, BACKGROUND, np.uint8)
  # Pieces have numbers without gaps, as `find_objects` needs them, and equal ids.
  pieces = measure.label(ids, background=0, connectivity=ids.ndim)
  for piece, box in enumerate(ndimage.find_objects(pieces), start=1):
    inside = pieces[box] == piece
    classes[box][inside] = BODY
    # The frame makes the border of the box, and so that of the image, count as the object's end.
    radius = ndimage.distance_transform_edt(np.pad(inside, 1)).max()
    width = max(LEAST_WIDTH, round(WIDTH * radius))
    surrounding = _grown(box, width, ids.shape)
    nearby = ids[surrounding]
    inside = pieces[surrounding] == piece
    others = (nearby != 0) & (nearby != nearby[inside][0])
    if others.any():
      classes[surrounding][_border(inside, others, width)] = BORDER
  return classes


def _grown(box: Sequence[slice], margin: int, shape: Sequence[int]) -> tuple[slice, ...]:
  """A box with a margin on all sides, as far as the image reaches."""
  return tuple(
    slice(max(side.start - margin, 0), min(side.stop + margin, length))
    for side, length in zip(box, shape, strict=True)
  )


def _border(
  inside: Bool[np.ndarray, '*space'], others: Bool[np.ndarray, '*space'], width: int
) -> Bool[np.ndarray, '*space']:
  """The pixels of a piece within `width` of others, and what they cut off from its body.

  It is thinner where too little would be left of the body, or too much cut off.
  """
  area = inside.sum()
  distance = ndimage.distance_transform_edt(~others)
  for reach in range(width, 0, -1):
    # Below reach + 1, so that a reach of 1 takes the diagonal neighbours too: bodies never touch.
    left, _ = ndimage.label(inside & (distance >= reach + 1), neighbours(inside.ndim))
    counts = np.bincount(left.ravel(), minlength=2)[1:]
    largest = counts.max()
    if largest >= LEAST_BODY * area and counts.sum() - largest <= MOST_CUT_OFF * area:
      return inside & (left != counts.argmax() + 1)
  return np.zeros_like(inside)


def neighbours(dimensions: int) -> Integer[np.ndarray, '...']:
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
