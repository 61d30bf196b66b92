"""Whether the values of masks number objects (instances) rather than name classes."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from ssl_jax.data.masks.mask_facts import MAX_IDS, MaskFacts, Piece

MIN_MASKS = 3
"""Of so many masks, ids that no two share number the objects of all files one after another."""

FEW_IDS = 4
"""Of more ids than this, one connected piece each is enough to take them for instances."""

MIN_CONNECTED = 0.95
"""The fraction of connected ids from which they may be instances."""

MIN_CONSECUTIVE = 0.9
"""The fraction of masks whose ids are 1..n, as label tools number objects."""

MIN_SIZE_SPREAD = 1.0
"""Standard deviation of the logarithm of sizes among organs; of cells it is below."""

SIGNIFICANT = 0.01
"""Probability below which ids differ by more than chance."""

MAX_MASKS = 60
MAX_COUNTED = 1000
DRAWS = 500
"""At most so many masks and ids are looked at, and random numberings drawn."""

SCAN_ORDER = 0.75
"""Objects are numbered along an axis if this fraction of neighboring ids is in its order."""


def are_scattered(facts: Sequence[MaskFacts]) -> bool:
  """Whether masks of many values are no ids: most values lie in several pieces, as brightness."""
  many = [mask for mask in facts if len(mask.counts) > MAX_IDS]
  pieces = [piece for of_mask in _with_pieces(many) for piece in of_mask]
  return sum(piece.connected for piece in pieces) < len(pieces) / 2


def look_like_instances(facts: Sequence[MaskFacts]) -> bool:
  """Whether the values of masks may be instance ids: one piece each, and nothing tells them apart.

  Classes differ: an id of a class has about one size, or lies in about one place relative to the
  others. Instances are numbered anyhow, or in the order in which a program came upon them.
  """
  of_masks = _with_pieces(facts)
  pieces = [piece for of_mask in of_masks for piece in of_mask][:MAX_COUNTED]
  ids = {piece.value for piece in pieces}
  most = max((len(of_mask) for of_mask in of_masks), default=0)
  # A fraction below 1, because a cell may be cut in two by another above it.
  if sum(piece.connected for piece in pieces) < MIN_CONNECTED * len(pieces):
    return False
  # A class is in more than one mask.
  if len(of_masks) >= MIN_MASKS and len(ids) == len(pieces):
    return True
  if most < 3:
    return False
  if len(ids) > FEW_IDS:
    return not _sizes_of_organs(of_masks)
  consecutive = [
    [piece.value for piece in of_mask] == list(range(1, len(of_mask) + 1)) for of_mask in of_masks
  ]
  if np.mean(consecutive) < MIN_CONSECUTIVE:
    return False
  return not _tell_apart(of_masks, most)


def _with_pieces(facts: Sequence[MaskFacts]) -> list[tuple[Piece, ...]]:
  """The pieces of at most MAX_MASKS masks that have any."""
  of_masks = [mask.pieces for mask in facts if mask.pieces and not mask.colored]
  chosen = np.linspace(0, len(of_masks) - 1, min(len(of_masks), MAX_MASKS)).astype(int)
  return [of_masks[i] for i in chosen]


def _sizes_of_organs(of_masks: Sequence[Sequence[Piece]]) -> bool:
  """Whether ids differ in size by as much as organs do, each id in much the same way."""
  sizes: dict[int, list[float]] = {}
  for of_mask in of_masks:
    for piece in of_mask:
      sizes.setdefault(piece.value, []).append(float(np.log(piece.pixels)))
  means = [np.mean(of_id) for of_id in sizes.values()]
  within = np.concatenate([np.array(of_id) - np.mean(of_id) for of_id in sizes.values()])
  return bool(np.std(means) >= max(MIN_SIZE_SPREAD, 2 * np.std(within)))


def _tell_apart(of_masks: Sequence[Sequence[Piece]], most: int) -> bool:
  """Whether ids differ in size or place by more than numbers given anyhow would."""
  rng = np.random.default_rng(0)
  # [masks, ids]; NaN where a mask lacks an id.
  sizes = _table([[float(np.log(piece.pixels)) for piece in of_mask] for of_mask in of_masks], most)
  if _chance(sizes, rng) < SIGNIFICANT:
    return True
  for axis in range(len(of_masks[0][0].center)):
    places = _table([[piece.center[axis] for piece in of_mask] for of_mask in of_masks], most)
    steps = np.diff(places, axis=1)
    forward = np.nanmean(np.where(np.isnan(steps), np.nan, steps > 0))
    sorted_axis = not 1 - SCAN_ORDER < forward < SCAN_ORDER
    if _chance(places, rng, sorted_axis) < SIGNIFICANT:
      return True
  return False


def _table(rows: Sequence[Sequence[float]], width: int) -> Float[np.ndarray, 'masks ids']:
  table = np.full((len(rows), width), np.nan)
  for i, row in enumerate(rows):
    table[i, : len(row)] = row
  return table


def _chance(
  table: Float[np.ndarray, 'masks ids'], rng: np.random.Generator, in_order: bool = False
) -> float:
  """The probability that numbers given anyhow differ as much as those of a table.

  Args:
    table: a number for each mask and id.
    rng: draws the numberings.
    in_order: whether objects are numbered along this axis; each mask then has other objects, drawn
      from all masks.
  """
  missing = np.isnan(table)
  observed = _between(table[None])[0]
  keys = rng.random((DRAWS, *table.shape))
  if in_order:
    pool = table[~missing]
    drawn = np.where(missing, np.inf, rng.choice(pool, keys.shape))
    drawn = np.sort(drawn, -1)
    drawn = np.where(missing, np.nan, drawn)
  else:
    # Missing ones are last and stay where they are.
    order = np.argsort(np.where(missing, np.inf, keys), -1)
    drawn = np.take_along_axis(np.broadcast_to(table, keys.shape), order, -1)
  # Rounding must not make an equal numbering a smaller one.
  larger = _between(drawn) >= observed * (1 - 1e-9)
  return float((1 + larger.sum()) / (1 + DRAWS))


def _between(tables: Float[np.ndarray, 'draws masks ids']) -> Float[np.ndarray, ' draws']:
  """The part of the sum of squares that ids explain, relative to the mean of each mask."""
  relative = tables - np.nanmean(tables, -1, keepdims=True)
  counts = (~np.isnan(relative)).sum(1)
  means = np.nansum(relative, 1) / np.maximum(counts, 1)
  total = np.nansum(relative**2, (1, 2))
  # As a fraction, because drawn objects may lie further apart than those of the masks.
  return (counts * means**2).sum(-1) / np.maximum(total, 1e-12)
