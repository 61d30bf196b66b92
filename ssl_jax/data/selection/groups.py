"""Groups of images that belong together: of one patient, animal, plate or movie.

Images of one group are like copies of each other, so a group is on one side of every split.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ssl_jax.errors import UserError
from ssl_jax.io import csv_tables
from ssl_jax.io.folders import file_names, listing

COLUMNS = ('name', 'group')
"""Columns of a CSV of groups; others are ignored."""

MIN_GROUPED = 0.6
"""Fraction of the images that have another of their group, if their names tell groups."""

SERIES = re.compile(r'(t|time|frame|z|slice)\d{2,}$', re.IGNORECASE)
"""Ends of the names of images that were taken one after another, or above one another."""

UNITS = re.compile(r'[A-Za-z]*\d+|[A-Za-z]+')
"""What names are made of: mouse1_s02 of mouse1 and s02."""

ReadGroup = Callable[[str], str]
"""The name of an image -> its group."""


def group_reader(group: str) -> ReadGroup:
  """Returns what reads the group (patient, animal, slide) of an image.

  Args:
    group: regular expression; its first group, or all that it matches in a name, names the group.
      Or the path of a CSV with the columns name and group. Empty: every image is a group of its
      own.

  Raises:
    UserError: if it is neither; the reader, if it does not tell the group of a name.
  """
  if not group:
    return lambda name: name
  if group.lower().endswith('.csv'):
    return _table_reader(Path(group).expanduser())
  try:
    compiled = re.compile(group)
  except re.error as error:
    raise UserError(f'data.group={group!r} is no regular expression: {error}.') from error

  def read(name: str) -> str:
    match = compiled.search(name)
    if match is None:
      raise UserError(
        f'data.group={group!r} does not match the name {name}; all names of labeled images must '
        'name their group.'
      )
    # A group of the expression that took no part in the match is None.
    return (match.group(1) if compiled.groups else None) or match.group()

  return read


def _table_reader(path: Path) -> ReadGroup:
  """Reads groups from a CSV."""
  shown = f'data.group: {path}'
  group_of: dict[str, str] = {}
  for row in csv_tables.read_table(path, COLUMNS, shown).rows:
    name, group = (row.cells[column] for column in COLUMNS)
    if not name or not group:
      raise UserError(f'{shown}, line {row.line} lacks a name or a group; complete it.')
    keys = {file_names.normal(name)}
    # With or without the ending of the file; mouse0.1 has none.
    if name.lower().endswith((*listing.IMAGES.endings, *listing.VOLUMES.endings)):
      keys.add(file_names.normal(file_names.stem(Path(name))))
    for key in keys:
      if group_of.setdefault(key, group) != group:
        raise UserError(
          f'{shown}, line {row.line} puts {name} into the group {group}, and an earlier line into '
          f'{group_of[key]}; correct one of them.'
        )

  def read(name: str) -> str:
    key = file_names.normal(name)
    if key not in group_of:
      raise UserError(f'{shown} has no line for {name}; add its name and its group.')
    return group_of[key]

  return read


def grouped_names_note(names: Sequence[str]) -> str:
  """Returns a note where the names of images look grouped; '' where they do not.

  Plain numbered names (im1, im2; train_1, test_1) are none.
  """
  units = {name: tuple(UNITS.findall(name)) for name in names}
  if len(names) < 4:
    return ''
  # The finest groups first: of plate1_well2_site3 the well.
  for length in range(max(map(len, units.values())) - 1, 0, -1):
    members: dict[tuple[str, ...], list[str]] = {}
    for name in names:
      members.setdefault(units[name][:length], []).append(name)
    shared = [of_group for of_group in members.values() if len(of_group) > 1]
    numbered = all(any(part[-1].isdigit() for part in group) for group in members)
    if len(members) > 1 and numbered and sum(map(len, shared)) >= MIN_GROUPED * len(names):
      example = max(shared, key=len)
      pattern = _pattern(members)
      how = f"data.group='{pattern}'" if pattern else 'data.group=FILE.csv (name, group)'
      return (
        f'names look grouped ({", ".join(example[:2])}, ...: {len(members)} groups): if images of '
        f'a group are of one patient, animal or movie, give {how}, so that none is in training and '
        'test'
      )
  series = [name for name in names if SERIES.search(name)]
  if len(series) == len(names):
    return (
      f'names look like those of one movie or stack ({", ".join(names[:2])}, ...): neighbors in it '
      'are nearly equal, so test images of another one (data.test) tell more'
    )
  return ''


def _pattern(members: Mapping[tuple[str, ...], Sequence[str]]) -> str:
  """A regular expression that reads the groups off the names; '' if none of a simple kind does."""
  group, names = next(iter(members.items()))
  # From the beginning of the name to the end of the last unit of the group.
  end = 0
  for unit in group:
    end = names[0].index(unit, end) + len(unit)
  parts = re.split(r'(\d+)', names[0][:end])
  numbered = ''.join(r'\d+' if part.isdigit() else re.escape(part) for part in parts)
  for pattern in (f'^({numbered})', '^(.+)[_.-]', '^(.+?)[_.-]'):
    if _reads_groups(pattern, members):
      return pattern
  return ''


def _reads_groups(pattern: str, members: Mapping[tuple[str, ...], Sequence[str]]) -> bool:
  """Whether a regular expression tells these groups of names, and no others."""
  found: set[str] = set()
  for names in members.values():
    matches = [re.match(pattern, name) for name in names]
    of_group = {match.group(1) for match in matches if match}
    if None in matches or len(of_group) != 1 or of_group & found:
      return False
    found |= of_group
  return True
