"""What the values in a set of mask files mean: class ids, 0 and 255, or nothing we may guess.

One rule for the pixels of images and the voxels of volumes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int16, Integer, UInt8

from ssl_jax.data.masks import mask_agreement
from ssl_jax.data.masks.instance_ids import FEW_IDS, are_scattered, look_like_instances
from ssl_jax.data.masks.mask_checks import TWO_VALUES, check_colors, check_values, reading_notes
from ssl_jax.data.masks.mask_facts import MAX_IDS, MaskFacts
from ssl_jax.data.masks.mask_values import ValueMap, parse_values
from ssl_jax.data.masks.value_table import ValueTable
from ssl_jax.errors import UserError
from ssl_jax.io import masks
from ssl_jax.io.masks import StoredMask
from ssl_jax.types import BACKGROUND, IGNORE

FOREGROUND = ('background', 'foreground')

INSTANCES = 'set data.instances=True if each is one object'


class Encoding(NamedTuple):
  """How mask values become class ids."""

  ids: tuple[tuple[int, int], ...]  # each value, in increasing order, and its class id or IGNORE
  classes: tuple[str, ...]  # names
  notes: tuple[str, ...]  # say to the user how the values are read
  by_color: bool = False  # whether the values are colors (packed)

  def __call__(
    self, stored: StoredMask, path: str | Path = 'a mask'
  ) -> UInt8[np.ndarray, '*space']:
    """Turns a mask's values, all of them known ones, into class ids.

    Raises:
      UserError: naming the file, if it holds fractions or a value that is not known.
    """
    values = stored.colors() if self.by_color else stored.values
    values, _ = masks.whole_numbers(values, path)
    ids = _look_up(values, self.ids)
    unknown = ids < 0
    # Files may change between the check of all masks and the training.
    if unknown.any():
      raise UserError(
        f'{path} holds the value {values[unknown].ravel()[0]}, which it did not when the masks '
        'were checked; start again.'
      )
    return ids.astype(np.uint8)

  def read(self, path: str | Path) -> UInt8[np.ndarray, '*space']:
    """Reads the class ids of a mask file.

    Raises:
      UserError: naming the file, if it is broken or has changed.
    """
    return self(masks.read_stored(path), path)

  def limited_to(self, facts: Sequence[MaskFacts]) -> 'Encoding':
    """Returns the encoding without the last classes, which no mask of these holds.

    They become IGNORE: in masks that only judge, nothing is known of them.
    """
    class_id_of = dict(self.ids)
    held = [class_id_of[value] for mask in facts for value in mask.counts]
    largest = max((i for i in held if i != IGNORE), default=BACKGROUND)
    ids = tuple((value, i if i <= largest else IGNORE) for value, i in self.ids)
    return self._replace(ids=ids, classes=self.classes[: largest + 1])

  @property
  def is_plain(self) -> bool:
    """Whether values are class ids already."""
    return not self.by_color and all(value == class_id for value, class_id in self.ids)


def find_encoding(
  facts: Sequence[MaskFacts],
  classes: int | Sequence[str] | None,
  values: str | Mapping[Any, Any] | None = None,
) -> Encoding:
  """Decides what mask values mean from all masks together.

  Args:
    facts: of each mask, of all roles.
    classes: the number or the names of the classes, if the user gives them.
    values: class ids of values or colors, if the user gives them; see mask_values.py.

  Raises:
    UserError: naming a file, if the values could mean several things or do not fit the classes.
  """
  names = class_names(classes)
  mapped = parse_values(values, names)
  if mapped is not None:
    encoding = _map(facts, mapped, names)
  else:
    check_colors(facts)
    table = ValueTable(facts)
    encoding = _guess(table) if names is None else _match(table, names)
  disagreements = mask_agreement.disagreements(
    facts, dict(encoding.ids), len(encoding.classes), encoding.by_color
  )
  notes = (*encoding.notes, *reading_notes(facts), *disagreements)
  return encoding._replace(notes=notes)


def class_ids(names: Sequence[str]) -> Encoding:
  """Returns the encoding of masks that hold class ids, and nothing else."""
  return _class_ids(len(names), True, tuple(names))


def class_names(classes: int | Sequence[str] | None) -> tuple[str, ...] | None:
  """Returns the names of classes, of which a number or names are given.

  None, or an empty list, gives None: the classes are then found in the masks.

  Raises:
    UserError: if there are fewer than 2 classes or more than 255.
  """
  if classes is None or (not isinstance(classes, int) and len(classes) == 0):
    return None
  # A string is a sequence as well: its letters would become the classes.
  if isinstance(classes, str) or (isinstance(classes, int) and not 2 <= classes <= IGNORE):
    raise UserError(
      f'data.classes={classes!r} must be a number of 2 to {IGNORE} classes or a list of their '
      'names, the background first.'
    )
  if isinstance(classes, int):
    return numbered_classes(classes)
  return tuple(classes)


def numbered_classes(count: int) -> tuple[str, ...]:
  """Returns default names for `count` classes."""
  return ('background', *(f'class {i}' for i in range(1, count)))


def _look_up(
  values: Integer[np.ndarray, '*space'], ids: Sequence[tuple[int, int]]
) -> Int16[np.ndarray, '*space']:
  """The class id of each value; -1 of those that have none."""
  known = np.array([value for value, _ in ids])
  class_ids = np.array([class_id for _, class_id in ids], np.int16)
  # A table is faster than a search, and volumes are large.
  if values.dtype in (np.uint8, np.uint16):
    table = np.full(np.iinfo(values.dtype).max + 1, -1, np.int16)
    inside = (known >= 0) & (known < len(table))
    table[known[inside]] = class_ids[inside]
    return table[values]
  positions = np.minimum(np.searchsorted(known, values), len(known) - 1)
  return np.where(known[positions] == values, class_ids[positions], np.int16(-1))


def _guess(table: ValueTable) -> Encoding:
  """The encoding where the user gives no classes: only consecutive ids are clear enough."""
  values = table.values
  if two := _two_values(table, FOREGROUND):
    return two
  check_values(table, None)
  ids = [value for value in values if value != IGNORE]
  count = len(ids) if ids == [*range(len(ids))] else len(values)
  classes = f', or data.classes={count} if they are classes' * (count <= IGNORE)
  holder = table.files(values[-1])[0].shown
  if len(values) > MAX_IDS and are_scattered(table.facts):
    raise UserError(
      f'The masks hold {len(values)} different values (such as {values[-1]}, in {holder}), most of '
      'them in many places, as in photographs; put the masks into masks/ and the images into '
      'images/, or save class ids (0 = background, 1 = the first class, ...).'
    )
  if len(values) > MAX_IDS:
    raise UserError(
      f'The masks hold {len(values)} different values (such as {values[-1]}, '
      f'{table.where(values[-1])}, in {holder}), which look like instance ids; '
      f'{INSTANCES}{classes}, or save class ids (0 = background, 1 = the first class, ...).'
    )
  # Of many ids, small instances are no slips.
  stray = mask_agreement.stray_values(table.facts)
  # 255 beside class ids is ignored, which harms nothing.
  stray = [value for value in stray if value != IGNORE or 1 not in values]
  if stray and count - len(stray) <= FEW_IDS + 1:
    raise UserError(mask_agreement.stray_text(table, stray[0]))
  if look_like_instances(table.facts):
    raise UserError(
      f'The mask values {table.listed()} look like instance ids, each being one connected '
      f'component ({table.counts()}); {INSTANCES}{classes}.'
    )
  if values[-1] > IGNORE:
    raise UserError(
      f'The masks hold values above {IGNORE}, which are no class ids: {table.counts()} '
      f'({values[-1]} is in {holder}); say which class each is, as in '
      f"--config.data.values='{table.proposal()}' (class 255 = ignore)."
    )
  # Gaps (0, 2, 5) or other codes (0, 128, 255) have no single meaning.
  if ids != list(range(len(ids))):
    # A class may be absent from all masks, though not most of them.
    some_absent = f', data.classes={ids[-1] + 1} if they are class ids of which some are absent'
    raise UserError(
      f'It is not clear what the mask values {table.listed()} mean ({table.counts()}); say which '
      f"class each is, as in --config.data.values='{table.proposal()}', set data.classes="
      f'{len(values)} if each value is a class{some_absent * (ids[-1] < MAX_IDS)}, or save class '
      'ids 0, 1, 2, ... (255 = ignore).'
    )
  # One bit says only whether there is something.
  binary = all(mask.bits == 1 for mask in table.facts)
  names = FOREGROUND if binary else numbered_classes(len(ids))
  return _class_ids(len(ids), IGNORE in values, names)


def _two_values(table: ValueTable, names: tuple[str, ...]) -> Encoding | None:
  """The encoding of masks of two values, of which the larger is white; None if they are others."""
  low, high = table.values[0], table.values[-1]
  if [low, high] not in TWO_VALUES or len(names) != 2:
    return None
  note = f'masks hold {low} and {high}: read as background and foreground'
  if len(table.values) == 2:
    return Encoding(((low, 0), (high, 1)), names, (note,))
  # One bit has no 255: there 1 is white.
  bits = [mask for mask in table.facts if mask.bits == 1]
  deeper = {value for mask in table.facts if mask.bits != 1 for value in mask.counts}
  if bits and table.values == [0, 1, high] and deeper <= {low, high}:
    return Encoding(((0, 0), (1, 1), (high, 1)), names, (f'{note}, as are 0 and 1 in 1-bit masks',))
  return None


def _match(table: ValueTable, names: tuple[str, ...]) -> Encoding:
  """The encoding where the user gives classes: class ids, or one value for each class."""
  # 255 is foreground here, not IGNORE: with nothing but 0 and IGNORE there would be no object.
  if two := _two_values(table, names):
    return two
  check_values(table, names)
  values = table.values
  ids = [value for value in values if value != IGNORE]
  count = len(names)
  # Class ids: all values below `count`, some perhaps absent. [0, 255] is left out, because the ids
  # would be background alone.
  if ids and ids[-1] < count and values not in TWO_VALUES:
    encoding = _class_ids(count, IGNORE in values, names)
    absent = sorted(set(range(count)) - set(ids))
    if absent:
      note = f'{encoding.notes[0]}; no pixel of {", ".join(names[i] for i in absent)}'
      encoding = encoding._replace(notes=(note,))
    return encoding
  # One value for each class, whatever the values: (0, 128, 255) for three classes.
  if len(values) == count:
    pairs = ', '.join(f'{value} = {name}' for value, name in zip(values, names, strict=True))
    note = f'mask values in increasing order: {pairs}'
    return Encoding(tuple(zip(values, range(count), strict=True)), names, (note,))
  raise UserError(
    f'data.classes asks for {count} classes but the masks hold the values {table.listed()} '
    f'({table.counts()}); save class ids 0..{count - 1} (255 = ignore), set data.classes to the '
    "number of different values, or say which class each is, as in --config.data.values='"
    f"{table.proposal()}'."
  )


def _class_ids(count: int, has_ignore: bool, names: tuple[str, ...]) -> Encoding:
  """The encoding of values that are class ids."""
  note = f'masks hold class ids 0..{count - 1}' + (', 255 is ignored' if has_ignore else '')
  ids = [*range(count)] + [IGNORE] * has_ignore
  return Encoding(tuple(zip(ids, ids, strict=True)), names, (note,))


def _map(facts: Sequence[MaskFacts], mapped: ValueMap, names: tuple[str, ...] | None) -> Encoding:
  """The encoding that the user gives."""
  if not mapped.by_color:
    colored = next((mask for mask in facts if mask.colored), None)
    if colored:
      colors = ValueTable(facts, by_color=True)
      raise UserError(
        f'data.values names values, but {colored.shown} is in color ({colors.counts()}); name '
        f"colors, as in --config.data.values='{colors.proposal()}'."
      )
  table = ValueTable(facts, mapped.by_color)
  given = ', '.join(f'{table.text(v)}:{i}' for v, i in mapped.ids.items() if (v, i) != (0, 0))
  for value in table.values:
    if value not in mapped.ids:
      if mapped.by_color and (soft := table.soft_colors()):
        raise UserError(soft)
      raise UserError(
        f'{table.files(value)[0].shown} holds {table.text(value)} ({table.where(value)}), which '
        f"data.values does not name; add it, as in --config.data.values='{given}, "
        f"{table.text(value)}:0' (0 = background, 255 = ignore)."
      )
  largest = max((i for i in mapped.ids.values() if i != IGNORE), default=0)
  names = names or mapped.names or numbered_classes(largest + 1)
  if largest >= len(names):
    raise UserError(
      f'data.values has the class id {largest} but data.classes has {len(names)} classes (0..'
      f'{len(names) - 1}); increase it.'
    )
  absent = set(range(len(names))) - set(mapped.ids.values())
  held = {mapped.ids[value] for value in table.values} - {IGNORE}
  if absent and len(names) == largest + 1:
    raise UserError(
      f'data.values={given!r} has no value for the class id {min(absent)}; number classes 0, 1, 2, '
      '... without gaps.'
    )
  if len(held) < 2:
    raise UserError(
      f'With data.values={given!r} the masks ({table.counts()}) hold one class, which leaves '
      'nothing to learn; give other values.'
    )
  pairs = ', '.join(
    f'{table.text(value)} = {"ignored" if i == IGNORE else names[i]}'
    for value, i in mapped.ids.items()
  )
  ids = tuple(sorted(mapped.ids.items()))
  return Encoding(ids, names, (f'mask values as data.values says: {pairs}',), mapped.by_color)
