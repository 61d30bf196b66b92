"""Refuses stages that cannot mean what their author hopes, before the first begins.

settings.py knows the fixed fields; here the parts are asked about theirs: methods, views, network,
data set, and what a stage needs of earlier ones.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ssl_jax import build, parallel, registry
from ssl_jax.errors import UserError
from ssl_jax.parsing.stage_list import StageSpec
from ssl_jax.settings import Settings, range_text
from ssl_jax.types import MASKS, Splits
from ssl_jax.views import recipes

METHOD_RANGES: dict[str, tuple[float, float]] = {
  'weight': (0.0, math.inf),
  'dice': (0.0, math.inf),
  'threshold': (0.0, 1.0),
  'ramp_up_steps': (0, 10**9),
  'tsa_steps': (0, 10**9),
  'lambda_u': (0.0, math.inf),
  'mu': (0.0, 1.0),
  'temperature': (1e-6, math.inf),
  'alpha': (1e-6, math.inf),
  'clip': (1e-12, 1.0),
  'feature_dropout': (0.0, 1.0),
  'dropped_images': (0.0, 1.0),
}
"""Ranges (inclusive) of arguments of methods, by name; a method of one's own may use the names."""


def validate(specs: Sequence[StageSpec]) -> None:
  """Checks all stages of a run, the data they need included.

  Raises:
    UserError: with all that is wrong, a line each. Data are read only if the fields are right.
  """
  problems: list[str] = []
  for spec in specs:
    # Stage after stage, for each may change any field.
    problems += settings_problems(spec.settings)
    where = f'stages.{spec.name}'
    problems += registry.kwargs_problems('stages', spec.run, spec.stage_kwargs, where)
  # Later checks rely on the earlier ones: inputs on known stages, data on valid fields.
  raise_problems(problems)
  raise_problems(_input_problems(specs))
  raise_problems(_data_problems(specs))


def raise_problems(problems: Iterable[str]) -> None:
  """Raises UserError with the problems, each once: stages share most of their settings."""
  # A dict keeps the order of the stages.
  unique = list(dict.fromkeys(problems))
  if unique:
    raise UserError('\n'.join(unique))


def settings_problems(settings: Settings) -> list[str]:
  """What is wrong with the parts that the settings of a stage name, one sentence each."""
  problems: list[str] = []
  # Names and types of the arguments are read from the parts' files, without importing them.
  for kind, part in (('datasets', settings.data), ('models', settings.model)):
    problems += _collect(registry.kwargs_problems, kind, part.name, part.kwargs)
  if settings.redraw and not problems and not build.can_draw(settings.data):
    problems.append(
      f'redraw=True: the data set {settings.data.name} has no argument `draw`, so all seeds have '
      f'the same labels; take redraw away.'
    )
  problems += methods_problems(settings)
  problems += recipes.recipe_problems(settings.views, set(settings.batch))
  # Known only here, where JAX knows the devices.
  for name, size in settings.batch.items():
    problems += _collect(_try, parallel.check_batch, name, size)
  # Every network has the head 'class'; `heads` adds others.
  if settings.match:
    heads = ('class', *(settings.heads or ()))
    if settings.match.head not in heads:
      problems.append(f'match.head={settings.match.head!r} is not one of {", ".join(heads)}.')
  # Dropout is one rate, or a tuple of rates in networks that drop at several places.
  rates = settings.model.kwargs.get('dropout', ())
  for rate in rates if isinstance(rates, tuple) else (rates,):
    if isinstance(rate, int | float) and not 0 <= rate <= 1:
      problems.append(f'model.dropout={rate} is not in 0..1.')
  return problems


def methods_problems(settings: Settings) -> list[str]:
  """What is wrong with the methods of a stage, one sentence each; no data are needed for it."""
  problems: list[str] = []
  for name, kwargs in settings.methods.items():
    found = _collect(registry.kwargs_problems, 'methods', name, kwargs)
    # Wrong values are reported before the method is built, which would fail in a less helpful way.
    found += _range_problems(name, kwargs)
    # A method may refuse values by itself; better now than after hours of earlier stages.
    problems += found or _collect(_try, registry.build, 'methods', name, kwargs)
  problems += _combination_problems(settings.methods)
  return problems


def _collect(ask: Callable[..., list[str]], *arguments: Any) -> list[str]:
  """The problems that a function returns, or the one that it raises."""
  try:
    return ask(*arguments)
  except UserError as error:
    return str(error).splitlines()


def _try(call: Callable[..., Any], *arguments: Any) -> list[str]:
  call(*arguments)
  return []


def _range_problems(method: str, kwargs: Mapping[str, Any]) -> list[str]:
  problems = []
  for key, value in kwargs.items():
    # Types were checked before; None and texts have no range.
    if key not in METHOD_RANGES or not isinstance(value, int | float):
      continue
    low, high = METHOD_RANGES[key]
    if not low <= value <= high:
      problems.append(
        f'methods.{method}.{key}={value} is not in the range {range_text(low, high)}.'
      )
  return problems


def _combination_problems(methods: Mapping[str, Any]) -> list[str]:
  """A method file may say which others it NEEDS beside it, and which it REPLACES."""
  problems = []
  for name in methods:
    # An unknown name has its own message already.
    if name not in registry.known('methods'):
      continue
    module = registry.find('methods', name)
    for other in getattr(module, 'REPLACES', ()):
      if other in methods:
        problems.append(f'methods: {name} does what {other} does; take one of them away.')
    for other in getattr(module, 'NEEDS', ()):
      if other not in methods:
        problems.append(f'methods: {name} works beside {other}; add it.')
  return problems


def stages_read(spec: StageSpec) -> dict[str, tuple[str, tuple[str, ...]]]:
  """The stages that a stage reads: name -> the argument that names it, and the kinds it may be."""
  inputs: dict[str, tuple[str, tuple[str, ...]]] = {}
  # A stage's file declares the arguments that name earlier stages, and the kinds they may be.
  for key, kind in registry.find('stages', spec.run).INPUT_STAGES.items():
    # One name, several names, or a dict of names by stream (`replay`).
    named = spec.stage_kwargs.get(key) or ()
    if isinstance(named, Mapping):
      named = tuple(named.values())
    for name in (named,) if isinstance(named, str) else named:
      inputs[name] = (key, (kind,) if isinstance(kind, str) else kind)
  return inputs


def _input_problems(specs: Sequence[StageSpec]) -> list[str]:
  """A stage reads only stages that stand before it, and of the kind that it can read."""
  problems = []
  # Grows with the loop, so a stage can only read those that stand before it.
  earlier: dict[str, StageSpec] = {}
  for spec in specs:
    for name, (key, kinds) in stages_read(spec).items():
      if name in earlier and earlier[name].run in kinds:
        continue
      fitting = [other.name for other in earlier.values() if other.run in kinds]
      guess = registry.nearest(name, fitting)
      problems.append(
        f'stages.{spec.name}: {key}={name!r} is no {" or ".join(kinds)} stage before it{guess}; '
        f'there is {", ".join(fitting) or "none"}.'
      )
    earlier[spec.name] = spec
  return problems


def _data_problems(specs: Sequence[StageSpec]) -> list[str]:
  """What the stages themselves say of their data, and of the stages they read."""
  problems = []
  earlier: dict[str, StageSpec] = {}
  for spec in specs:
    splits = build.splits(spec.settings.data)
    # The stage's own check may assume that the data are of a task that it is for.
    found = _task_problems(spec, splits)
    if not found:
      check = registry.find('stages', spec.run).check
      found = _collect(_try, check, spec, earlier, splits)
    problems += found
    earlier[spec.name] = spec
  return problems


def _task_problems(spec: StageSpec, splits: Splits) -> list[str]:
  """A stage, method or model file may say which TASKS it is for; without that it is for masks."""
  parts = [('stages', spec.run)]
  if spec.run == 'train':
    parts += [('models', spec.settings.model.name)]
    parts += [('methods', name) for name in spec.settings.methods]
  problems = []
  for kind, name in parts:
    if splits.task in _tasks(kind, name):
      continue
    # The message lists what could stand in its place.
    fitting = [other for other in registry.known(kind) if splits.task in _tasks(kind, other)]
    problems.append(
      f'stages.{spec.name}: {name} (of {kind}) is not for {splits.task}, which data.name='
      f'{spec.settings.data.name} has; {", ".join(fitting)} are.'
    )
  return problems


def _tasks(kind: str, name: str) -> tuple[str, ...]:
  return getattr(registry.find(kind, name), 'TASKS', (MASKS,))
