"""Tells a person what was decided, from what, and how to decide otherwise: configuration.md."""

from collections.abc import Mapping
from typing import Any

from ssl_jax import open_fields
from ssl_jax.data.selection.fingerprint import ClassFacts, Fingerprint
from ssl_jax.io import markdown_tables
from ssl_jax.running import step_time
from ssl_jax.running.configuration_rules import Choice
from ssl_jax.types import CELLS

FILE = 'configuration.md'


def markdown(
  decisions: Mapping[str, Choice], data: Fingerprint, estimate: float | int | None = None
) -> str:
  """The whole page: a table of fields, values and reasons, the facts, and the words to change it.

  Args:
    decisions: by the name of a field.
    data: what they were decided from.
    estimate: seconds of the whole run; None where nothing was measured.
  """
  lines = [
    '# How this run was configured',
    '',
    f'These settings were chosen for your {_kind(data)} before the run began. '
    'Validation and test images were not looked at.',
    '',
    '| field | value | why |',
    '|---|---|---|',
  ]
  for field, choice in decisions.items():
    lines.append(markdown_tables.row([f'`{field}`', words(choice.value), choice.reason]))
  if estimate is not None:
    lines += ['', time_line(estimate)]
  lines += ['', '## What your data are like', '']
  lines += [f'- {fact}' for fact in facts(data)]
  lines += [
    '',
    '## To choose otherwise',
    '',
    'Add any of these words to the command, with a value of your own. Once a training has begun, '
    'its settings stay: give the new run another folder (`--workdir=FOLDER`).',
    '',
  ]
  lines += [f'    {word}' for field in decisions for word in overrides(field, decisions[field])]
  return '\n'.join(lines) + '\n'


def time_line(seconds: float | int) -> str:
  """The sentence on how long the whole run will take."""
  return f'The whole run will take about {step_time.in_words(seconds)} on this machine.'


def words(value: Any) -> str:
  """A value for reading: '128 x 128', or 'labeled 8, unlabeled 8'."""
  if isinstance(value, Mapping):
    return ', '.join(f'{key} {words(inner)}' for key, inner in value.items() if inner is not None)
  if isinstance(value, tuple | list):
    return ' x '.join(map(str, value))
  # A comma in thousands, but no digit more than a fraction has.
  return f'{value:,}' if isinstance(value, int) else str(value)


def overrides(field: str, choice: Choice) -> list[str]:
  """The words of a command that set a field to what was chosen, one for each part of a group."""
  if not isinstance(choice.value, Mapping):
    return [_word(field, choice.value)]
  # In a fixed order, whatever the order of the values.
  parts = [name.rpartition('.')[2] for name in open_fields.leaves(field)]
  values = {part: choice.value.get(part) for part in parts}
  return [_word(f'{field}.{part}', value) for part, value in values.items() if value is not None]


def _word(name: str, value: Any) -> str:
  if isinstance(value, tuple | list):
    # Quoted, because a shell would read the parentheses.
    return f"--config.{name}='({','.join(map(str, value))})'"
  return f'--config.{name}={value}'


def facts(data: Fingerprint) -> list[str]:
  """What the fingerprint says, a sentence each."""
  kind = _kind(data)
  lines = [f'{data.labeled:,} labeled and {data.unlabeled:,} unlabeled {kind}']
  sizes = words(data.median)
  if data.smallest != data.largest:
    sizes += f' (median; {words(data.smallest)} to {words(data.largest)})'
  axes = 'z, y, x' if len(data.median) == 3 else 'rows, columns'
  lines.append(f'size in {"voxels" if len(data.median) == 3 else "pixels"} ({axes}): {sizes}')
  depth = '8 bits' if data.bits == 8 else 'more than 8 bits'
  same = ', all equal: the images are gray' if data.gray_as_color else ''
  lines.append(f'{data.channels} channel{"s" * (data.channels > 1)}{same}, {depth}')
  lines.append(
    f'{data.modality}: saturation {data.saturation:.2f}, median brightness {data.brightness:.2f}, '
    f'mean {_listed(data.mean)}, standard deviation {_listed(data.std)} (of 0 to 1)'
  )
  lines += [_class_line(one, data.task) for one in data.classes]
  return lines


def _kind(data: Fingerprint) -> str:
  if data.task == CELLS:
    return 'patches'
  return 'volumes' if len(data.median) == 3 else 'images'


def _listed(numbers: tuple[float, ...]) -> str:
  return ', '.join(f'{number:.2f}' for number in numbers)


def _class_line(one: ClassFacts, task: str) -> str:
  if task == CELLS:
    return f'{one.name}: {one.share:.1%} of the labeled patches'
  line = (
    f'{one.name}: {one.share:.2%} of the labeled pixels, in {one.present:.0%} of the labeled images'
  )
  if one.objects:
    line += (
      f'; {one.objects:,} objects, {one.diameter:g} pixels across '
      f'(median; 95 % are smaller than {one.diameter_p95:g})'
    )
  return line
