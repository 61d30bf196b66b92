"""The fields of a page that a shell may set, with the choices of each."""

import contextlib
import dataclasses
import io
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from ssl_jax import registry, settings
from ssl_jax.parsing import page_files

GROUPS = {
  'data': settings.Data,
  'model': settings.Model,
  'optimizer': settings.Optimizer,
  'schedule': settings.Schedule,
  'gan': settings.Gan,
}


def read(page: Path) -> dict[str, list[str]]:
  """Returns the dotted names of a page's fields, and their choices where there are some.

  Of a page that cannot be run there are none.
  """
  sys.path.insert(0, str(page_files.pages_root()))  # pages import each other as configs.NAME
  # Whatever a page of a person does wrong is told when it is run, not at a Tab.
  with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
    config = runpy.run_path(str(page))['get_config']()
    return _flatten(config, '', _choices())
  return {}


def _flatten(
  config: ConfigDict, prefix: str, choices: Mapping[str, list[str]]
) -> dict[str, list[str]]:
  found: dict[str, list[str]] = {}
  for name in config:
    value = config[name]
    if isinstance(value, ConfigDict):
      found |= _flatten(value, f'{prefix}{name}.', choices)
      continue
    boolean = config.get_type(name) is bool
    found[f'{prefix}{name}'] = choices.get(f'{prefix}{name}', ['True', 'False'] if boolean else [])
  return found


def _choices() -> dict[str, list[str]]:
  """Choices by the dotted name of a field."""
  found = {'model.name': registry.known('models'), 'data.name': registry.known('datasets')}
  for prefix, section in {'': settings.Settings, **GROUPS}.items():
    for field in dataclasses.fields(section):
      if field.metadata.get('choices'):
        name = f'{prefix}.{field.name}' if prefix else field.name
        found[name] = list(field.metadata['choices'])
  return found
