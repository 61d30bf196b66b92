"""From the words of a config to typed settings and back, with a sentence for all that is wrong."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from ssl_jax import open_fields, registry
from ssl_jax.errors import UserError
from ssl_jax.settings import NESTED, PAGE_FIELDS, Optimizer, Settings, range_text

FIELDS = tuple(field.name for field in dataclasses.fields(Settings))
"""Names of the fields that a stage may change."""


def parse(tree: Mapping[str, Any]) -> Settings:
  """The settings that a config's words mean; fields that it lacks have their defaults.

  Only the tree itself is checked here; `ssl_jax.running.validate` asks the parts about theirs.

  Raises:
    UserError: if fields are unknown, or values of the wrong type, range or choice: all of them.
  """
  settings, problems = parse_all(tree)
  if problems:
    raise UserError('\n'.join(problems))
  return settings


def parse_all(tree: Mapping[str, Any]) -> tuple[Settings, list[str]]:
  """As `parse`; returns the problems, one sentence each, beside what could be read."""
  problems: list[str] = []
  # Fields of the whole run are checked by stage_list.
  tree = open_fields.without_open(tree)
  own = {key: value for key, value in tree.items() if key not in PAGE_FIELDS}
  side = own.get('crop_size')
  if isinstance(side, list | tuple) and len(side) == 1:
    side = side[0]  # how the shell reads --config.crop_size=96
  # One number means a square.
  if isinstance(side, int):
    own['crop_size'] = (side, side)
  settings = _section(Settings, own, '', problems)
  # Relations between fields are checked only if each is right: a wrong one holds its default here,
  # which could give a misleading second message.
  problems += _cross_checks(settings) if not problems else []
  return settings, problems


def _section(kind: type, tree: Mapping[str, Any], where: str, problems: list[str]) -> Any:
  """An object of a dataclass of settings; what is wrong is added to `problems`."""
  # The annotations as types: the fields' own `type` may be text.
  hints = typing.get_type_hints(kind)
  fields = {field.name: field for field in dataclasses.fields(kind) if field.name != 'kwargs'}
  # Sections with `kwargs` (data, model) also accept fields of the part that they name; those are
  # checked later, by registry.kwargs_problems.
  open_kwargs = 'kwargs' in hints
  values: dict[str, Any] = {}
  extra: dict[str, Any] = {}
  for key, value in tree.items():
    if key in fields:
      metadata = fields[key].metadata
      before = len(problems)
      parsed = _value(hints[key], value, f'{where}{key}', metadata, problems)
      if len(problems) == before:  # a wrong value leaves the default, so that others are checked
        values[key] = parsed
    elif open_kwargs:
      # None means that the part's own default applies.
      if value is not None:
        extra[key] = value
    else:
      there = where.rstrip('.') or 'the config'
      problems.append(
        f'{where}{key} is no field of {there}{registry.nearest(key, fields)}; '
        f'see docs/configuration.md.'
      )
  if open_kwargs:
    values['kwargs'] = extra
  return kind(**values)


def _value(
  hint: Any, value: Any, where: str, metadata: Mapping[str, Any], problems: list[str]
) -> Any:
  """A value as its field holds it; what is wrong with it is added to `problems`."""
  # An optional field is a union with None; at most one other type is in it.
  options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
  if value is None and type(None) in options:
    return None
  # From here on the value is not None, so None is dropped from the type.
  hint = next(option for option in options if option is not type(None))
  if dataclasses.is_dataclass(hint):
    if isinstance(value, Mapping):
      return _section(typing.cast(type, hint), value, f'{where}.', problems)
    problems.append(f'{where}={value!r} is not a dict of fields.')
    return _default_of(hint)
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin is tuple:
    if not isinstance(value, list | tuple):
      problems.append(f'{where}={value!r} is not a tuple of numbers.')
      return ()
    # All tuples of settings hold numbers of one type: tuple[int, ...] or tuple[float, ...].
    for part in value:
      _check_scalar(arguments[0], part, where, metadata, problems)
    return tuple(value)
  if origin is Mapping:
    return _mapping(arguments[1], value, where, metadata, problems)
  _check_scalar(hint, value, where, metadata, problems)
  return value


def _mapping(
  kind: Any, value: Any, where: str, metadata: Mapping[str, Any], problems: list[str]
) -> dict[str, Any]:
  """An open dict: of numbers (batch, heads), or of dicts whose empty fields are left out."""
  if not isinstance(value, Mapping):
    problems.append(f'{where}={value!r} is not a dict.')
    return {}
  entries = {}
  for name, entry in value.items():
    # The annotation of the mapping's values says which of the two kinds it is.
    if kind is int:
      _check_scalar(int, entry, f'{where}.{name}', metadata, problems)
      entries[name] = entry
    elif not isinstance(entry, Mapping):
      problems.append(f'{where}.{name}={entry!r} is not a dict of fields.')
    else:
      entries[name] = {key: field for key, field in entry.items() if field is not None}
  return entries


_SCALARS = {int: 'a whole number', float: 'a number', bool: 'True or False', str: 'a text'}


def _check_scalar(
  kind: Any, value: Any, where: str, metadata: Mapping[str, Any], problems: list[str]
) -> None:
  """Adds a sentence where a value has another type than its field, or is out of range."""
  if not registry.fits(value, kind.__name__):
    problems.append(f'{where}={value!r} is not {_SCALARS[kind]}.')
    return
  low, high, choices = (metadata.get(key) for key in ('low', 'high', 'choices'))
  if choices and value not in choices:
    guess = registry.nearest(str(value), choices)
    problems.append(f'{where}={value!r} is not one of {", ".join(choices)}{guess}.')
  # Texts have no range, and a field with one bound has both.
  bounded = low is not None and high is not None and not isinstance(value, str)
  if bounded and not low <= value <= high:
    problems.append(f'{where}={value} is not in the range {range_text(low, high)}.')


def _default_of(hint: Any) -> Any:
  return hint()


def _cross_checks(settings: Settings) -> list[str]:
  """What is wrong between fields that are right by themselves."""
  problems = []
  if settings.teacher == 'ema' and not settings.ema_decay:
    problems.append("teacher='ema' needs a decay; set ema_decay to 0.99, say.")
  if len(settings.crop_size) not in (2, 3):
    problems.append(f'crop_size={settings.crop_size} has neither two nor three sides.')
  if settings.schedule.warmup >= settings.steps:
    problems.append(
      f'schedule.warmup={settings.schedule.warmup} leaves nothing of steps={settings.steps}; '
      f'make it smaller.'
    )
  if not settings.methods:
    problems.append('methods is empty; say dict(supervised=dict()).')
  optimizer = settings.optimizer
  # A changed field that has no effect is a mistake, not a preference: someone who tunes it would
  # see no difference and draw a wrong conclusion.
  if optimizer.name == 'adam' and optimizer.momentum != Optimizer.momentum:
    problems.append('optimizer.momentum is for sgd and rmsprop; adam has optimizer.b1.')
  if optimizer.name != 'adam' and optimizer.b1 != Optimizer.b1:
    problems.append(f'optimizer.b1 is for adam; {optimizer.name} has optimizer.momentum.')
  return problems


def to_dict(settings: Settings) -> dict[str, Any]:
  """The settings as nested dicts of the words of a config; the inverse of `parse`."""
  tree = dataclasses.asdict(settings)
  for name in NESTED:
    # The shell and the pages write a part's fields beside ours, without a `kwargs` between.
    tree[name] |= tree[name].pop('kwargs')
  return tree


def first_difference(then: object, now: object, key: str = '') -> str | None:
  """The first key at which two configs as JSON differ, and both values; None if they are equal."""
  if isinstance(then, dict) and isinstance(now, dict):
    # Keys of both sides, in the order of the first.
    for name in [*then, *(n for n in now if n not in then)]:
      inner = f'{key}.{name}' if key else name
      if difference := first_difference(then.get(name), now.get(name), inner):
        return difference
    return None
  return None if then == now else f'{key} was {_shown(then)}, now it is {_shown(now)}'


def _shown(value: object) -> str:
  """A value of a config; None stands for what is not given, or left to the program."""
  return 'open' if value is None else repr(value)


def tuples(value: Any) -> Any:
  """A config as read from JSON, with its lists as the tuples they were."""
  if isinstance(value, Mapping):
    return {key: tuples(inner) for key, inner in value.items()}
  return tuple(map(tuples, value)) if isinstance(value, list | tuple) else value
