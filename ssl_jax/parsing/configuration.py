"""Writes docs/configuration.md: `python -m ssl_jax.parsing.configuration > docs/configuration.md`.

Every field with its type, default, range and help, read off settings.py, and the arguments of every
method, model, data set and stage, read off their files. A test holds the page to the code.
"""

import ast
import dataclasses
import sys
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_jax import registry, settings
from ssl_jax.views import recipes

INTRODUCTION = """# Configuration

Every field of a config. A page of `configs/` starts from `settings.defaults()`, in which each field
has the default below, and changes some. Any field can also be set from the shell:

    python main.py --config=configs/your_images.py --config.steps=500 --config.optimizer.lr=0.001

Unknown fields and wrong values are refused before anything is trained, all in one message, and
`--dry_run` shows what a config comes to. This page is written by
`python -m ssl_jax.parsing.configuration > docs/configuration.md`.
"""

# Headings of the page -> the dataclasses whose fields are at the top level of a config.
SECTIONS = {
  'Seeds': settings.Seeds,
  'Length of a training': settings.Loop,
  'Checkpoint': settings.Selection,
  'Inputs': settings.Inputs,
  'Methods and network': settings.Learning,
}
# Fields that are dicts -> the dataclasses that say what those may hold.
NESTED = {
  'data': settings.Data,
  'data.drop_instances': settings.DropInstances,
  'model': settings.Model,
  'optimizer': settings.Optimizer,
  'schedule': settings.Schedule,
  'match': settings.Match,
  'gan': settings.Gan,
}
KINDS = {
  'methods': ('Methods', '`config.methods = dict(NAME=dict(...))`; their loss terms are summed.'),
  'models': ('Models', '`config.model = dict(name=NAME, ...)`.'),
  'datasets': ('Data sets', '`config.data = dict(name=NAME, ...)`.'),
  'stages': ('Stages', '`config.stages = (dict(name=..., run=NAME, ...), ...)`.'),
}
# Written here, because no dataclass holds the keys of a stage (see stage_list.SPECIAL).
STAGE_KEYS = {
  'name': 'Name of the stage and of its folder.',
  'run': 'What it does: a file of stages/ (default: train).',
  'control_of': 'Name of a stage; this one is its supervised control: without all that only '
  'unlabeled images need.',
  'without': "Dotted names of fields to take away, as in `('methods.fixmatch', 'views.weak')`.",
  'any field': "Replaces the field for this stage, as in `{'optimizer.lr': 1e-4}`.",
}


def page() -> str:
  """The whole page, as Markdown."""
  blocks = [INTRODUCTION, '## Fields\n']
  # Fields at the top level, section by section.
  for title, section in SECTIONS.items():
    blocks.append(f'### {title}\n\n{_table(section, "")}')
  # Fields inside dicts, written with their dotted names.
  for prefix, section in NESTED.items():
    about = (section.__doc__ or '').splitlines()[0]
    blocks.append(f'### `{prefix}`\n\n{about}\n\n{_table(section, f"{prefix}.")}')
  rows = [f'| `{name}` | {about} |' for name, about in settings.PAGE_FIELDS.items()]
  blocks.append('\n'.join(['### The run\n', '| field | |', '|---|---|', *rows]))
  rows = [f'| `{name}` | {about} |' for name, about in STAGE_KEYS.items()]
  blocks.append('\n'.join(['### Keys of a stage\n', '| key | |', '|---|---|', *rows]))
  blocks.append(_views())
  # The parts: whatever file is in methods/, models/, datasets/ and stages/.
  for kind, (title, where) in KINDS.items():
    blocks.append(f'## {title}\n\n{where}')
    blocks += [_part(kind, name) for name in registry.known(kind)]
  return '\n\n'.join(block.strip() for block in blocks) + '\n'


def _table(section: type, prefix: str) -> str:
  """The fields of a dataclass as a table."""
  hints = typing.get_type_hints(section)
  lines = ['| field | type | default | range or choices | |', '|---|---|---|---|---|']
  for field in dataclasses.fields(section):
    # Arguments of parts and nested sections have tables of their own.
    if field.name == 'kwargs' or dataclasses.is_dataclass(hints[field.name]):
      continue
    default = field.default
    # Mutable defaults are given as factories.
    if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
      default = field.default_factory()
    lines.append(
      f'| `{prefix}{field.name}` | {_type(hints[field.name])} | `{default!r}` | '
      f'{_range(field.metadata)} | {field.metadata["help"]} |'
    )
  return '\n'.join(lines)


def _type(hint: Any) -> str:
  """A type in words that a table can hold."""
  # str(int) would be "<class 'int'>", while str() of a union or a generic reads as in the source.
  text = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
  for long in ('collections.abc.', 'typing.', 'ssl_jax.settings.'):
    text = text.replace(long, '')
  # A pipe would end the cell of a Markdown table.
  return '`' + text.replace(' | ', '` or `') + '`'


def _range(metadata: Mapping[str, Any]) -> str:
  if metadata.get('choices'):
    return ', '.join(f'`{choice}`' for choice in metadata['choices'])
  if metadata.get('low') is None:
    return ''
  return settings.range_text(metadata['low'], metadata['high'])


def _views() -> str:
  """The fields of a view."""
  lines = [
    '### Fields of a view\n',
    '`config.views = dict(NAME=dict(source=..., ...))`. An absent field, None or 0 means off.\n',
    '| field | |',
    '|---|---|',
    '| `source` | The stream (`labeled`, `unlabeled`, ...) or view that it is made of. |',
  ]
  for rules in (recipes.GEOMETRIC, recipes.CROP_CHOICE, recipes.PHOTOMETRIC):
    for name, rule in rules.items():
      # A field is either a rule itself or a dict of rules (`blur.sigma`).
      if isinstance(rule, recipes.Rule):
        lines.append(f'| `{name}` | {rule.words} |')
        continue
      for inner, inner_rule in rule.items():
        lines.append(f'| `{name}.{inner}` | {inner_rule.words} |')
  return '\n'.join(lines)


def _part(kind: str, name: str) -> str:
  """A method, model, data set or stage: its first sentence and its arguments."""
  # Parsed, not imported, so the page can be written without JAX.
  path = registry.path(kind, name)
  about = (ast.get_docstring(ast.parse(path.read_text())) or '').splitlines()
  lines = [f'### `{name}`', '', about[0] if about else '']
  parameters = registry.parameters(kind, name)
  if parameters:
    lines += ['', '| argument | type | default |', '|---|---|---|']
    for key, parameter in parameters.items():
      default = 'required' if parameter.required else f'`{parameter.default!r}`'
      kind_text = parameter.annotation.replace(' | ', '` or `')
      lines.append(f'| `{key}` | `{kind_text}` | {default} |')
  return '\n'.join(lines)


def main() -> int:
  """Prints the page."""
  sys.stdout.write(page())
  return 0


def path() -> Path:
  """Where the page stands in the repository."""
  return Path(__file__).resolve().parents[2] / 'docs' / 'configuration.md'


if __name__ == '__main__':
  sys.exit(main())
