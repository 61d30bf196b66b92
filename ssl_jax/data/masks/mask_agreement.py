"""Masks that disagree with the others of their set: a stray value, an inverted one, empty ones."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from ssl_jax.data.masks.mask_facts import MaskFacts
from ssl_jax.data.masks.value_table import ValueTable
from ssl_jax.types import BACKGROUND, IGNORE

STRAY_PIXELS = 5
"""So few pixels of a value, in one mask alone, are a slip of the pen."""

MAX_ODD = 0.2
"""At most this fraction of the masks (or one) may be inverted; of more, nobody knows which are."""

MAX_NAMES = 5
"""Files that a note names at most."""


def stray_values(facts: Sequence[MaskFacts]) -> list[int]:
  """Returns the values that a few pixels of one mask have, and no other mask."""
  if len(facts) < 2:
    return []
  table = ValueTable(facts)
  stray = []
  for value in table.values:
    holders = table.files(value)
    if len(holders) == 1 and holders[0].counts[value] <= STRAY_PIXELS:
      stray.append(value)
  return stray


def stray_text(table: ValueTable, value: int) -> str:
  """Says that a value is in one mask alone, and what to do."""
  mask = table.files(value)[0]
  others = ValueTable(
    [
      other._replace(counts={v: n for v, n in other.counts.items() if v != value})
      for other in table.facts
    ]
  )
  entries = f'{others.proposal()}, {value}:0'.removeprefix(', ')
  ids = [other for other in table.values if other != IGNORE]
  count = len(ids) if ids == [*range(len(ids))] else len(table.values)
  return (
    f'{mask.shown} holds {mask.count_text(value)} of the value {value}, which no other mask has, '
    'and so few would become a class of their own; correct the file, or give '
    f"--config.data.values='{entries}' to read them as background, or set data.classes={count} if "
    'they are a class.'
  )


def disagreements(
  facts: Sequence[MaskFacts], class_id_of: Mapping[int, int], num_classes: int, by_color: bool
) -> list[str]:
  """Returns notes on masks that disagree with the others.

  Args:
    facts: of each mask.
    class_id_of: values, or with `by_color` colors (packed) -> class ids.
    num_classes: with the background.
    by_color: whether classes have colors.
  """
  found = []
  for value in [] if by_color else stray_values(facts):
    mask = next(mask for mask in facts if value in mask.counts)
    found.append(f'{mask.shown} alone holds {value} ({mask.count_text(value)}); check it')
  shares = []
  empty = []
  for mask in facts:
    counts = mask.color_counts() if by_color else mask.counts
    known = {v: count for v, count in counts.items() if class_id_of[v] != IGNORE}
    objects = sum(count for v, count in known.items() if class_id_of[v] != BACKGROUND)
    shares.append(objects / max(sum(known.values()), 1))
    if not objects:
      empty.append(mask)
  if num_classes == 2:
    found += _inverted(facts, np.array(shares))
  if empty:
    found.append(f'{len(empty)} of {len(facts)} masks show background alone: {_names(empty)}')
  return found


def _inverted(facts: Sequence[MaskFacts], shares: Float[np.ndarray, ' masks']) -> list[str]:
  """A note on masks of which so much is foreground as is background in the others."""
  odd = np.flatnonzero(shares > 0.5)
  others = shares[(shares > 0) & (shares <= 0.5)]
  if not 0 < len(odd) <= max(MAX_ODD * len(shares), 1) or len(others) < 2:
    return []
  usual = float(np.median(others))
  background = 1 - shares[odd]
  # Inverted, they would be like the others.
  like_others = (usual / 4 <= background) & (background <= usual * 4) & (usual < 0.3)
  inverted = [
    index for index, like in zip(odd, like_others | (background == 0), strict=True) if like
  ]
  if not inverted:
    return []
  of_each = ', '.join(f'{facts[i].shown} ({100 * shares[i]:.1f} %)' for i in inverted[:MAX_NAMES])
  return [
    f'perhaps inverted: foreground covers most of {of_each}, but {100 * others.min():.1f} to '
    f'{100 * others.max():.1f} % of the other masks; check it'
  ]


def _names(facts: Sequence[MaskFacts]) -> str:
  more = f' and {len(facts) - MAX_NAMES} more' if len(facts) > MAX_NAMES else ''
  return ', '.join(mask.name for mask in facts[:MAX_NAMES]) + more
