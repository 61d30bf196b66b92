"""Masks that are refused whatever their values mean, and notes on what is not read as shown."""

from collections.abc import Sequence

from ssl_jax.data.masks.mask_facts import MaskFacts
from ssl_jax.data.masks.value_table import ValueTable
from ssl_jax.errors import UserError
from ssl_jax.io import masks
from ssl_jax.types import IGNORE

TWO_VALUES = ([0, 255], [0, 65535])
"""Black and white in 8 and in 16 bits."""

MAX_COLORS = 255
"""There are not so many classes."""


def check_colors(facts: Sequence[MaskFacts]) -> None:
  """Raises UserError for masks in color, and for palettes that differ."""
  colored = [mask for mask in facts if mask.colored]
  if colored:
    table = ValueTable(facts, by_color=True)
    what = f'{colored[0].shown} is a colored picture, not a mask of class ids'
    of_masks = f'{len(colored)} of {len(facts)} masks'
    # A single one among masks of class ids was saved by mistake.
    few = 2 * len(colored) < len(facts)
    advice = 'save it as the others are, or say' if few else 'say'
    if len(table.values) > MAX_COLORS:
      raise UserError(
        f'{what} ({of_masks}, with {len(table.values)} colors, as photographs have, or drawings '
        'with smooth borders); check that masks/ holds masks, and save one color for each class.'
      )
    if soft := table.soft_colors():
      raise UserError(soft)
    raise UserError(
      f'{what} ({of_masks}, with the colors {table.counts()}); {advice} which class each color '
      f"is, as in --config.data.values='{table.proposal()}'."
    )
  _check_background(facts)
  # The first mask of each index with a palette.
  first: dict[int, MaskFacts] = {}
  for mask in facts:
    for value in mask.counts if mask.palette else ():
      other = first.setdefault(value, mask)
      if other.color_of(value) != mask.color_of(value):
        table = ValueTable([m for m in facts if m.palette], by_color=True)
        one, two = (masks.color_text(holder.color_of(value)) for holder in (other, mask))
        raise UserError(
          f'The palettes of masks differ: {value} is {one} in {other.shown} '
          f'({other.count_text(value)}) and {two} in {mask.shown} ({mask.count_text(value)}); say '
          f"which class each color is, as in --config.data.values='{table.proposal()}'."
        )


def _check_background(facts: Sequence[MaskFacts]) -> None:
  """Raises UserError for palettes of colors in which black, the background, is not 0."""
  for mask in facts:
    colors = {value: mask.color_of(value) for value in mask.counts} if mask.palette else {}
    # Black and white in the other order are only shown otherwise.
    colored = any(len(set(masks.unpack(color))) > 1 for color in colors.values())
    black = [value for value, color in colors.items() if color == 0]
    if colored and black and colors.get(0, 0) != 0:
      table = ValueTable([other for other in facts if other.palette], by_color=True)
      raise UserError(
        f'{mask.shown} has a palette in which black is {black[0]} ({mask.count_text(black[0])}) '
        f'and 0 is {masks.color_text(colors[0])} ({mask.count_text(0)}), so that it is not clear '
        "which is the background; say which class each color is, as in --config.data.values='"
        f"{table.proposal()}'."
      )


def check_values(table: ValueTable, names: tuple[str, ...] | None) -> None:
  """Raises UserError for masks from which nothing can be learned, whatever their classes."""
  values = table.values
  if len([value for value in values if value != IGNORE]) < 2 and values not in TWO_VALUES:
    raise UserError(
      f'The masks hold only the value{"s" * (len(values) > 1)} {table.listed()}, which leaves '
      'nothing to learn; check that they are the right files, or say which class each value is, as '
      f"in --config.data.values='{table.proposal()}' (background is 0)."
    )
  soft = table.first_soft()
  # So many values are no accident where the user counts them.
  if soft and (names is None or len(names) != len(values)):
    raise UserError(soft)
  if values[0] < 0:
    raise UserError(
      f'{table.files(values[0])[0].shown} holds the negative value {values[0]} '
      f'({table.where(values[0])}); save class ids >= 0, or say what it means, as in '
      f"--config.data.values='{table.proposal()}' (255 = ignore)."
    )
  _check_ignore(table)


def _check_ignore(table: ValueTable) -> None:
  """Raises UserError where 255 may be an object in some masks and unknown in others."""
  ids = [value for value in table.values if value not in (0, IGNORE)]
  if IGNORE not in table.values or not ids or ids[-1] > IGNORE or ids != [*range(1, len(ids) + 1)]:
    return
  # If one mask holds both, they mean different things; else 255 may be another 1.
  if any(IGNORE in mask.counts and set(ids) & set(mask.counts) for mask in table.facts):
    return
  same = f'1:1, {IGNORE}:1' if ids == [1] else table.proposal()
  raise UserError(
    f'{table.files(ids[-1])[0].shown} holds class ids up to {ids[-1]}, but '
    f'{table.files(IGNORE)[0].shown} holds {IGNORE} ({table.where(IGNORE)}) and no 1, so that '
    f'{IGNORE} may be the same class or mean unknown; save all masks alike, or say what it means, '
    f"as in --config.data.values='{same}' or '{table.proposal(ignore=True)}'."
  )


def reading_notes(facts: Sequence[MaskFacts]) -> list[str]:
  """What was read otherwise than the files show it."""
  notes = []
  rounded = [mask for mask in facts if mask.rounded]
  if rounded:
    distance = max(mask.rounded for mask in rounded)
    notes.append(
      f'values of {len(rounded)} masks were rounded to whole numbers, from which they were at most '
      f'{distance:.2g} away (such as {rounded[0].name})'
    )
  for note in dict.fromkeys(note for mask in facts for note in mask.notes):
    holders = [mask for mask in facts if note in mask.notes]
    notes.append(f'{note} ({len(holders)} masks, such as {holders[0].name})')
  return notes
