"""Whether masks lie on their images: shifted, mirrored or turned masks, found from the pixels.

The border of an object mostly runs along an edge of its image. So the mean strength of the edges
under the borders of a mask tells how well it lies, and a whole set of masks that would lie better
elsewhere is misplaced. Half of the images propose where, the others decide, so that the best of
many places is not taken for a finding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer
from scipy import ndimage

from ssl_jax.types import IGNORE

REACH = 8
"""Largest shift that is looked for, in pixels along each axis."""

SMALLEST = 3
"""Shorter shifts are not accused: borders are drawn a pixel or two inside or outside of the edge,
and the halo of phase contrast lies beside the cell."""

FEWEST = 6
"""Images with borders below which nothing is said."""

CLEARER = 0.25
"""By how much, in deviations of the edges of an image, a place must be better than the present."""

PRESENT = 0.7
"""A place is accused only if the strength of edges there is below this part of the better one."""

AGREEING = 0.8
"""Fraction of the deciding images that must lie better there."""

SMOOTHING = 1.0
"""Standard deviation in pixels of the smoothing of an image before its edges are taken."""

TURNS = {
  'mirrored left to right': lambda mask: mask[:, ::-1],
  'mirrored top to bottom': lambda mask: mask[::-1],
  'turned by 180 degrees': lambda mask: mask[::-1, ::-1],
  'transposed (rows and columns exchanged)': lambda mask: mask.T,
  'turned by 90 degrees to the left': lambda mask: np.rot90(mask),
  'turned by 90 degrees to the right': lambda mask: np.rot90(mask, -1),
  'transposed along the other diagonal': lambda mask: mask[::-1, ::-1].T,
}
"""What may have happened to a mask: its name and how the mask would be put right."""


class Misplaced(NamedTuple):
  """How masks would lie better on their images."""

  what: str  # 'lie 4 pixels too high and 3 too far left', or 'are ' and a name of TURNS
  better: float  # by how many deviations of the images' edges, mean over the deciding images
  agreeing: float  # the fraction of these images that lie better
  images: int  # deciding images


class Pair(NamedTuple):
  """What is needed of one image and its mask."""

  edges: Float[np.ndarray, 'h w']  # strength in deviations from the mean of the image
  mask: Integer[np.ndarray, 'h w']


def prepare(image: Float[np.ndarray, 'h w c'], mask: Integer[np.ndarray, 'h w']) -> Pair:
  """Returns the edges of an image, of any number of channels, with its mask."""
  magnitudes = []
  for channel in np.moveaxis(image, -1, 0):
    magnitude = ndimage.gaussian_gradient_magnitude(channel.astype(np.float32), SMOOTHING)
    magnitudes.append((magnitude - magnitude.mean()) / max(float(magnitude.std()), 1e-6))
  return Pair(np.mean(magnitudes, 0), mask)


def find_misplaced(pairs: Sequence[Pair]) -> Misplaced | None:
  """Returns how a set of masks is misplaced; None where nothing better was found."""
  # [images, 2 REACH + 1, 2 REACH + 1]: how strong edges are under the borders, by shift.
  strengths = []
  turned: dict[str, list[float]] = {name: [] for name in TURNS}
  upright = []
  for pair in pairs:
    strength = _by_shift(pair)
    if strength is None:
      continue
    strengths.append(strength)
    upright.append(strength[REACH, REACH])
    for name, turn in TURNS.items():
      put_right = turn(pair.mask)
      # A turn by a quarter fits square images only.
      value = np.nan
      if put_right.shape == pair.mask.shape:
        value = _strength(pair.edges, put_right)
      turned[name].append(value)
  if len(strengths) < FEWEST:
    return None
  candidates = []
  shifted = np.array(strengths)
  # Every second image proposes the shift.
  proposed = shifted[::2].mean(0)
  row, column = np.unravel_index(np.argmax(proposed), proposed.shape)
  rows, columns = int(row) - REACH, int(column) - REACH
  if max(abs(rows), abs(columns)) >= SMALLEST:
    present = shifted[1::2, REACH, REACH]
    candidates.append(_judge(_off_by(rows, columns), present, shifted[1::2, row, column]))
  for name, values in turned.items():
    known = ~np.isnan(values)
    if known.sum() >= FEWEST:
      present = np.array(upright)[known]
      candidates.append(_judge(f'are {name}', present, np.array(values)[known]))
  accused = [one for one in candidates if one is not None]
  return max(accused, key=lambda one: one.better, default=None)


def _off_by(rows: int, columns: int) -> str:
  """Where masks lie that would have to go so many rows down and columns right."""
  parts = []
  if rows:
    parts.append(f'{abs(rows)} pixels too {"high" if rows > 0 else "low"}')
  if columns:
    parts.append(f'{abs(columns)} pixels too far {"left" if columns > 0 else "right"}')
  return f'lie {" and ".join(parts)}'


def _judge(
  what: str, present: Float[np.ndarray, ' n'], there: Float[np.ndarray, ' n']
) -> Misplaced | None:
  """The accusation, if masks clearly lie better there: on the mean, and on nearly every image."""
  better = float((there - present).mean())
  agreeing = float((there > present).mean())
  clear = better > CLEARER and float(present.mean()) < PRESENT * float(there.mean())
  return Misplaced(what, better, agreeing, len(there)) if clear and agreeing >= AGREEING else None


def _borders(mask: Integer[np.ndarray, 'h w']) -> Integer[np.ndarray, 'n 2']:
  """Rows and columns of the pixels on both sides of every border; those of IGNORE are none."""
  on_border = np.zeros(mask.shape, bool)
  for axis in (0, 1):
    first = np.moveaxis(mask, axis, 0)[:-1]
    second = np.moveaxis(mask, axis, 0)[1:]
    differs = (first != second) & (first != IGNORE) & (second != IGNORE)
    # Both sides, so that the place found lies on the edge and not half a pixel beside it.
    view = np.moveaxis(on_border, axis, 0)
    view[:-1] |= differs
    view[1:] |= differs
  return np.argwhere(on_border)


def _strength(edges: Float[np.ndarray, 'h w'], mask: Integer[np.ndarray, 'h w']) -> float:
  """The mean strength of the edges under the borders of a mask."""
  borders = _borders(mask)
  return float(edges[borders[:, 0], borders[:, 1]].mean()) if len(borders) else np.nan


def _by_shift(pair: Pair) -> Float[np.ndarray, 'rows columns'] | None:
  """The mean strength under the borders, by how far the mask is moved; None without borders."""
  borders = _borders(pair.mask)
  height, width = pair.mask.shape
  # Only borders that stay inside for every shift: all shifts are judged by the same ones.
  inside = (borders >= REACH).all(1)
  inside &= (borders[:, 0] < height - REACH) & (borders[:, 1] < width - REACH)
  borders = borders[inside]
  if not len(borders):
    return None
  side = 2 * REACH + 1
  values = np.zeros((side, side))
  for row in range(side):
    for column in range(side):
      rows = borders[:, 0] + row - REACH
      values[row, column] = pair.edges[rows, borders[:, 1] + column - REACH].mean()
  return values
