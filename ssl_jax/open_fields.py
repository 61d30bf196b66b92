"""Fields that a page leaves open, to be decided from the data before a run begins.

A page names them in `configure`; they are None until they are decided, and whatever a person sets
in the shell or in Python is no longer None and stays. It imports no JAX, because pages do.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

GROUPS: dict[str, dict[str, type]] = {
  'batch': {'labeled': int, 'unlabeled': int},
  # Of the fields of networks those that the rules set or a person may want to.
  'model': {'name': str, 'pretrained': str, 'backbone': str, 'widths': tuple, 'fixed': int},
  'optimizer': {'lr': float, 'head_lr_multiplier': float},
  'jitter': {'brightness': float, 'contrast': float, 'saturation': float, 'hue': float},
}
"""Fields, by the last word of their name, that are dicts: which of their fields are left open."""

TYPES: dict[str, type] = {
  'scale': float,
  'crop_size': tuple,
  'foreground_prob': float,
  'dice_over': str,
  'normalize': str,
  'steps': int,
  'eval_every': int,
  'checkpoint_every': int,
  'ramp_up_steps': int,
  'labels_first': int,
}
"""Fields, by the last word of their name, that are left open as a whole."""


def leave_open(config: ConfigDict, fields: Sequence[str], minutes: float | int) -> None:
  """Empties fields of a page, to be decided from the data for trainings of so many minutes.

  Called by a page after it has written its dicts, and before `settings.complete`.
  """
  config.configure = tuple(fields)
  config.minutes = float(minutes)
  for name, kind in _leaves(fields):
    parent, _, key = name.rpartition('.')
    section = config
    for part in parent.split('.') if parent else ():
      section = section[part]
    # A placeholder is None, and knows as what type the shell's text is to be read.
    section[key] = placeholder(kind)


def _leaves(fields: Sequence[str]) -> Iterator[tuple[str, type]]:
  """Dotted names of single fields, with their types."""
  for field in fields:
    last = field.rpartition('.')[2]
    if last in GROUPS:
      yield from ((f'{field}.{key}', kind) for key, kind in GROUPS[last].items())
    else:
      yield field, TYPES[last]


def leaves(field: str) -> list[str]:
  """Dotted names of the single fields that an entry of `configure` stands for."""
  return [name for name, _ in _leaves([field])]


def open_leaves(page: Mapping[str, Any]) -> list[str]:
  """Dotted names of the single fields of a page that are still to be decided."""
  names = [name for name, _ in _leaves(page.get('configure') or ())]
  # What a person has taken away, a whole view perhaps, is not to be decided.
  return [name for name in names if has(page, name) and get(page, name) is None]


def without_open(page: Mapping[str, Any]) -> dict[str, Any]:
  """The page without the fields that are still to be decided, which then have their defaults."""
  result = dict(page)
  for name in open_leaves(page):
    result = _without(result, name.split('.'))
  return result


def _without(tree: Mapping[str, Any], path: Sequence[str]) -> dict[str, Any]:
  first, *rest = path
  if not rest:
    return {key: value for key, value in tree.items() if key != first}
  return {**tree, first: _without(tree[first], rest)}


def has(tree: Mapping[str, Any], name: str) -> bool:
  """Whether a tree has a field of this dotted name, empty or not."""
  value: Any = tree
  for part in name.split('.'):
    if not isinstance(value, Mapping) or part not in value:
      return False
    value = value[part]
  return True


def get(tree: Mapping[str, Any], name: str) -> Any:
  """The value of a dotted name; None where there is none."""
  value: Any = tree
  for part in name.split('.'):
    if not isinstance(value, Mapping):
      return None
    value = value.get(part)
  return value


def put(tree: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
  """A copy of the tree in which the field of a dotted name has a value."""
  first, _, rest = name.partition('.')
  if not rest:
    return {**tree, first: value}
  return {**tree, first: put(tree[first], rest, value)}
