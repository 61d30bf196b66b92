"""What the numbers in a set of mask files mean: class ids, 0 and 255, or nothing we may guess."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8
from scipy import ndimage

from ssl_jax.errors import UserError
from ssl_jax.types import IGNORE

MOST_IDS = 64  # more distinct values than this, unasked, are instance ids
FEW_IDS = 4  # as many may be instance ids: they are where nearly each is one connected piece


class Encoding(NamedTuple):
  """How mask values become class ids."""

  values: tuple[int, ...]  # the value of each class id, in order
  ignore: bool  # whether 255 means 'nobody vouches for it'
  classes: tuple[str, ...]
  note: str

  def __call__(self, mask: Integer[np.ndarray, 'h w']) -> UInt8[np.ndarray, 'h w']:
    """Turns a mask's values into class ids, IGNORE kept; all its values must be known ones."""
    if self.values == tuple(range(len(self.values))):
      return mask.astype(np.uint8)
    return np.searchsorted(self.values, mask).astype(np.uint8)


def pieces(mask: Integer[np.ndarray, 'h w']) -> tuple[int, int]:
  """Counts a mask's ids (0 and 255 aside), and those of them that are one connected piece."""
  ids = np.setdiff1d(mask, [0, IGNORE])
  if len(ids) == 0 or ids[0] < 0 or len(ids) > MOST_IDS:
    return 0, 0
  ranks = np.where(np.isin(mask, ids), np.searchsorted(ids, mask) + 1, 0)
  boxes = ndimage.find_objects(ranks)
  counts = [ndimage.label(ranks[box] == i + 1, np.ones((3, 3)))[1] for i, box in enumerate(boxes)]
  return len(ids), counts.count(1)


def find_encoding(
  masks: Mapping[tuple[int, ...], Path], whole: float, classes: int | Sequence[str] | None
) -> Encoding:
  """Decides what mask values mean from all of them together.

  `masks` maps each set of values that a mask holds to the first file that does; `whole` is the
  share of (mask, id) pairs that are one connected piece, as instances are; `classes` is the number
  or the names of the classes where the user says so. Raises UserError where the values could mean
  several things.
  """
  names = class_names(classes)
  seen: dict[int, Path] = {}
  for held, path in masks.items():
    for value in held:
      seen.setdefault(value, path)
  values = sorted(seen)
  if values[0] < 0:
    raise UserError(f'{seen[values[0]]} holds the negative value {values[0]}; save class ids >= 0.')
  if values == [0, IGNORE] and (names is None or len(names) == 2):
    note = 'masks hold 0 and 255: read as background and foreground'
    return Encoding((0, 255), False, names or ('background', 'foreground'), note)
  if values == [0, 1, IGNORE] and not any({1, IGNORE} <= set(held) for held in masks):
    raise UserError(
      f'{seen[1]} holds class ids up to 1, but {seen[IGNORE]} holds {IGNORE} and no 1, so that '
      f'{IGNORE} may be the same class or mean unknown; save all masks alike.'
    )
  return _unasked(seen, values, whole) if names is None else _asked(seen, values, names)


def class_names(classes: int | Sequence[str] | None) -> tuple[str, ...] | None:
  """Names from a number or names of classes; None or nothing stays None (find them)."""
  if classes is None or (not isinstance(classes, int) and len(classes) == 0):
    return None
  if isinstance(classes, str) or (isinstance(classes, int) and not 2 <= classes <= IGNORE):
    raise UserError(
      f'classes={classes!r} must be a number of 2 to {IGNORE} classes or a list of their names, '
      'the background first.'
    )
  if isinstance(classes, int):
    return ('background', *(f'class {i}' for i in range(1, classes)))
  return tuple(classes)


def _unasked(seen: Mapping[int, Path], values: list[int], whole: float) -> Encoding:
  ids = [v for v in values if v != IGNORE]
  if len(values) > MOST_IDS:
    raise UserError(
      f'The masks hold {len(values)} different values (such as {values[-1]} in '
      f'{seen[values[-1]]}), which look like instance ids; save class ids instead '
      '(0 = background, 1 = the first class, ...).'
    )
  if len(ids) > FEW_IDS and whole > 0.95:
    raise UserError(
      f'The mask values {_say(seen)} look like instance ids, each being one connected piece; '
      f'save class ids instead, or say data.classes={len(ids)} if they are classes.'
    )
  if len(ids) < 2:
    raise UserError(
      f'The masks hold only the value{"s" * (len(values) > 1)} {_say(seen)}, which leaves nothing '
      'to learn; check that they are the right files.'
    )
  if ids != list(range(len(ids))):
    raise UserError(
      f'It is not clear what the mask values {_say(seen)} mean; save class ids 0, 1, 2, ... '
      f'(255 = ignore), or say data.classes={len(values)} if each value is a class.'
    )
  names = ('background', *(f'class {i}' for i in range(1, len(ids))))
  return Encoding(tuple(ids), IGNORE in values, names, _id_note(len(ids), IGNORE in values))


def _asked(seen: Mapping[int, Path], values: list[int], names: tuple[str, ...]) -> Encoding:
  count = len(names)
  ids = [v for v in values if v != IGNORE]
  if ids and ids[-1] < count and values != [0, IGNORE]:
    absent = sorted(set(range(count)) - set(ids))
    note = _id_note(count, IGNORE in values)
    note += f'; no pixel of {", ".join(names[i] for i in absent)}' if absent else ''
    return Encoding(tuple(range(count)), IGNORE in values, names, note)
  if len(values) == count:
    pairs = ', '.join(f'{v} = {name}' for v, name in zip(values, names, strict=True))
    return Encoding(tuple(values), False, names, f'mask values in increasing order: {pairs}')
  raise UserError(
    f'data.classes asks for {count} classes but the masks hold the values {_say(seen)}; save class '
    f'ids 0..{count - 1} (255 = ignore), or set data.classes to the number of different values.'
  )


def _id_note(count: int, ignore: bool) -> str:
  return f'masks hold class ids 0..{count - 1}' + (', 255 is ignored' if ignore else '')


def _say(seen: Mapping[int, Path]) -> str:
  """The values, at most eight, and a file where the last of them is."""
  values = sorted(seen)
  shown = ', '.join(map(str, values[:8])) + (', ...' if len(values) > 8 else '')
  return f'{shown} ({values[-1]} is in {seen[values[-1]]})'
