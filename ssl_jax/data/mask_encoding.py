"""What the values in a set of mask files mean: class ids, 0 and 255, or nothing we may guess."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8
from scipy import ndimage

from ssl_jax.errors import UserError
from ssl_jax.types import IGNORE

MAX_IDS = 64
"""More distinct values than this are instance ids, unless the user names that many classes."""

FEW_IDS = 4
"""More ids than this may be instance ids: they are if nearly each is one connected component."""

MIN_CONNECTED = 0.95
"""The fraction of connected ids above which they are taken for instance ids."""


class Encoding(NamedTuple):
  """How mask values become class ids."""

  values: tuple[int, ...]  # the value of each class id, in order
  ignore: bool  # whether 255 means IGNORE
  classes: tuple[str, ...]  # names
  note: str  # says to the user how the values are read

  def __call__(self, mask: Integer[np.ndarray, 'h w']) -> UInt8[np.ndarray, 'h w']:
    """Turns a mask's values, all of them known ones, into class ids; IGNORE stays."""
    if self.values == tuple(range(len(self.values))):
      return mask.astype(np.uint8)
    # `values` is sorted, so the position found is the class id. No encoding that comes here has
    # IGNORE: each of its values, 255 included, is a class.
    return np.searchsorted(self.values, mask).astype(np.uint8)


def count_connected_ids(mask: Integer[np.ndarray, 'h w']) -> tuple[int, int]:
  """Counts a mask's ids (0 and 255 aside), and those that are one connected component each."""
  ids = np.setdiff1d(mask, [0, IGNORE])
  if len(ids) == 0 or ids[0] < 0 or len(ids) > MAX_IDS:
    return 0, 0
  # [H, W]: ids renumbered 1, 2, ... without gaps, as `find_objects` needs them; 0 elsewhere.
  ranks = np.where(np.isin(mask, ids), np.searchsorted(ids, mask) + 1, 0)
  connected = 0
  for rank, box in enumerate(ndimage.find_objects(ranks), start=1):
    # Only the bounding box of an id is searched. Pixels that touch at a corner are connected.
    _, components = ndimage.label(ranks[box] == rank, np.ones((3, 3)))
    connected += components == 1
  return len(ids), connected


def find_encoding(
  masks: Mapping[tuple[int, ...], Path],
  connected_fraction: float,
  classes: int | Sequence[str] | None,
) -> Encoding:
  """Decides what mask values mean from all masks together.

  Args:
    masks: each combination of values that a mask holds -> the first file that does.
    connected_fraction: how many of the pairs of a mask and an id in it are one connected
      component, as instances are.
    classes: the number or the names of the classes, if the user gives them.

  Raises:
    UserError: naming a file, if the values could mean several things or do not fit the classes.
  """
  names = class_names(classes)
  # A file for each value, so that messages can name one.
  file_of: dict[int, Path] = {}
  for combination, path in masks.items():
    for value in combination:
      file_of.setdefault(value, path)
  values = sorted(file_of)
  if values[0] < 0:
    raise UserError(
      f'{file_of[values[0]]} holds the negative value {values[0]}; save class ids >= 0.'
    )
  # 255 is foreground here, not IGNORE: with nothing but 0 and IGNORE there would be no object.
  if values == [0, IGNORE] and (names is None or len(names) == 2):
    note = 'masks hold 0 and 255: read as background and foreground'
    return Encoding((0, IGNORE), False, names or ('background', 'foreground'), note)
  if values == [0, 1, IGNORE]:
    # If one mask holds both 1 and 255, they mean different things; else 255 may be another 1.
    both_in_one = any({1, IGNORE} <= set(combination) for combination in masks)
    if not both_in_one:
      raise UserError(
        f'{file_of[1]} holds class ids up to 1, but {file_of[IGNORE]} holds {IGNORE} and no 1, so '
        f'that {IGNORE} may be the same class or mean unknown; save all masks alike.'
      )
  if names is None:
    return _guess(file_of, connected_fraction)
  return _match(file_of, names)


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


def _guess(file_of: Mapping[int, Path], connected_fraction: float) -> Encoding:
  """The encoding where the user gives no classes: only consecutive ids are clear enough."""
  values = sorted(file_of)
  ids = [value for value in values if value != IGNORE]
  if len(values) > MAX_IDS:
    raise UserError(
      f'The masks hold {len(values)} different values (such as {values[-1]} in '
      f'{file_of[values[-1]]}), which look like instance ids; save class ids instead '
      '(0 = background, 1 = the first class, ...).'
    )
  # Instances are nearly always one piece each, classes rarely.
  if len(ids) > FEW_IDS and connected_fraction > MIN_CONNECTED:
    raise UserError(
      f'The mask values {_list_values(file_of)} look like instance ids, each being one connected '
      f'component; save class ids instead, or set data.classes={len(ids)} if they are classes.'
    )
  if len(ids) < 2:
    raise UserError(
      f'The masks hold only the value{"s" * (len(values) > 1)} {_list_values(file_of)}, which '
      'leaves nothing to learn; check that they are the right files.'
    )
  # Gaps (0, 2, 5) or other codes (0, 128, 255) have no single meaning.
  if ids != list(range(len(ids))):
    raise UserError(
      f'It is not clear what the mask values {_list_values(file_of)} mean; save class ids 0, 1, 2, '
      f'... (255 = ignore), or set data.classes={len(values)} if each value is a class.'
    )
  has_ignore = IGNORE in file_of
  names = numbered_classes(len(ids))
  return Encoding(tuple(ids), has_ignore, names, _note_on_ids(len(ids), has_ignore))


def _match(file_of: Mapping[int, Path], names: tuple[str, ...]) -> Encoding:
  """The encoding where the user gives classes: class ids, or one value for each class."""
  values = sorted(file_of)
  ids = [value for value in values if value != IGNORE]
  has_ignore = IGNORE in file_of
  count = len(names)
  # Class ids: all values below `count`, some perhaps absent. [0, 255] is left out, because the ids
  # would be background alone.
  if ids and ids[-1] < count and values != [0, IGNORE]:
    note = _note_on_ids(count, has_ignore)
    absent = sorted(set(range(count)) - set(ids))
    if absent:
      note += f'; no pixel of {", ".join(names[i] for i in absent)}'
    return Encoding(tuple(range(count)), has_ignore, names, note)
  # One value for each class, whatever the values: (0, 128, 255) for three classes.
  if len(values) == count:
    pairs = ', '.join(f'{value} = {name}' for value, name in zip(values, names, strict=True))
    return Encoding(tuple(values), False, names, f'mask values in increasing order: {pairs}')
  raise UserError(
    f'data.classes asks for {count} classes but the masks hold the values '
    f'{_list_values(file_of)}; save class ids 0..{count - 1} (255 = ignore), or set data.classes '
    'to the number of different values.'
  )


def _note_on_ids(count: int, has_ignore: bool) -> str:
  return f'masks hold class ids 0..{count - 1}' + (', 255 is ignored' if has_ignore else '')


def _list_values(file_of: Mapping[int, Path]) -> str:
  """The values, at most eight, and a file that holds the largest."""
  values = sorted(file_of)
  more = ', ...' if len(values) > 8 else ''
  first = ', '.join(map(str, values[:8]))
  return f'{first}{more} ({values[-1]} is in {file_of[values[-1]]})'
