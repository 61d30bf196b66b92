"""Look-up by file name: a method, model, data set or stage is found because its file is there."""

import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from ssl_jax.errors import UserError

EXPORTS = {'methods': 'method', 'models': 'Model', 'datasets': 'load', 'stages': 'stage'}
KEYS = {'methods': 'methods.{}', 'models': 'model', 'datasets': 'data'}
"""Where a config has the knobs of each kind."""


def known(kind: str) -> list[str]:
  """Names of all methods, models, data sets or stages, in alphabetical order."""
  package = importlib.import_module(f'ssl_jax.{kind}')
  names = sorted(m.name for m in pkgutil.iter_modules(package.__path__))
  modules = ((name, importlib.import_module(f'ssl_jax.{kind}.{name}')) for name in names)
  return [name for name, module in modules if hasattr(module, EXPORTS[kind])]


def find(kind: str, name: str) -> ModuleType:
  """The module `ssl_jax/<kind>/<name>.py`; an unknown name lists the known ones."""
  if str(name).isidentifier() and importlib.util.find_spec(f'ssl_jax.{kind}.{name}'):
    module = importlib.import_module(f'ssl_jax.{kind}.{name}')
    if hasattr(module, EXPORTS[kind]):
      return module
  raise UserError(f'There is no {name!r} in {kind}; the known ones are {", ".join(known(kind))}.')


def build(kind: str, name: str, knobs: Mapping[str, Any], **given: Any) -> Any:
  """Calls what `find(kind, name)` exports with the knobs of a config; a wrong knob is named."""
  make = getattr(find(kind, name), EXPORTS[kind])
  check_kwargs(make, knobs, KEYS[kind].format(name), given)
  return make(**given, **knobs)


def check_kwargs(make: Callable, knobs: Mapping, where: str, given: Iterable = ()) -> None:
  """Raises UserError naming a knob that `make` does not take, or one that it lacks.

  `where` is the knobs' place in the config; `given` are arguments that come from elsewhere.
  """
  hidden = {'parent', 'name', *given}  # what Flax adds, and what is not the user's to set
  accepted = [p for p in inspect.signature(make).parameters if p not in hidden]
  for knob in knobs:
    if knob not in accepted:
      raise UserError(f'config.{where} has no knob {knob!r}; it has {", ".join(accepted)}.')
  for name, parameter in inspect.signature(make).parameters.items():
    if parameter.default is parameter.empty and name not in {*hidden, *knobs}:
      raise UserError(f'config.{where} lacks {name!r}: give it as --config.{where}.{name}=...')
