"""Refuses a config that cannot mean what its author hopes, in one sentence."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ssl_jax import build, parallel, registry
from ssl_jax.errors import UserError
from ssl_jax.inference import cluster_matching
from ssl_jax.training import optimizers
from ssl_jax.training.checkpoint import SELECTABLE
from ssl_jax.types import MASKS, Splits, StageSpec
from ssl_jax.views import recipes

CHOICES = {
  'teacher': ('student', 'average'),
  'precision': ('float32', 'bfloat16'),
  'normalize': ('data', 'minmax', 'imagenet'),
  'select': ('last', *SELECTABLE),
  'schedule.name': tuple(optimizers.SCHEDULES),
  'optimizer.name': optimizers.OPTIMIZERS,
}

REQUIRED = (
  *('seed', 'replicas', 'steps', 'eval_every', 'checkpoint_every', 'log_every', 'tensorboard'),
  'snapshots',
  *('select', 'shuffle_unlabeled'),
  *('data.name', 'batch', 'size', 'normalize', 'views', 'methods', 'teacher', 'average'),
  *('model.name', 'precision', 'optimizer.name', 'optimizer.lr', 'schedule.name', 'stages'),
)

RANGES = {  # inclusive, of whole numbers where the limits are; a knob left out has its default
  'seed': (0, 2**31 - 1),
  'replicas': (1, 1000),
  'steps': (1, 10**9),
  'eval_every': (1, 10**9),
  'checkpoint_every': (1, 10**9),
  'log_every': (1, 10**9),
  'snapshots': (1, 1000),
  'average': (0.0, 1.0),
  'foreground': (0.0, 1.0),
  'data.seed': (0, 2**31 - 1),
  'optimizer.lr': (0.0, math.inf),
  'optimizer.momentum': (0.0, 1.0),
  'optimizer.weight_decay': (0.0, math.inf),
  'optimizer.head': (0.0, math.inf),
  'optimizer.clip': (0.0, math.inf),
  'schedule.warmup': (0, 10**9),
}
OF_METHODS = {  # of any method that has a knob of this name
  'weight': (0.0, math.inf),
  'dice': (0.0, math.inf),
  'threshold': (0.0, 1.0),
  'ramp': (0, 10**9),
  'unlabeled': (0.0, math.inf),
  'mu': (0.0, 1.0),
  'temperature': (1e-6, math.inf),
  'alpha': (1e-6, math.inf),
  'clip': (1e-12, 1.0),
}


def _get(config: Mapping, key: str) -> Any:
  value: Any = config
  for part in key.split('.'):
    if not isinstance(value, Mapping) or part not in value:
      return None
    value = value[part]
  return value


def require(config: Mapping) -> None:
  """Raises UserError naming the first field that a config lacks, or a stage of no good name."""
  for key in REQUIRED:
    if _get(config, key) is None:
      raise UserError(f'The config lacks {key}; configs/quickstart.py shows one that has it.')
  names = [stage.get('name', '') for stage in config['stages']]
  for name, stage in zip(names, config['stages'], strict=True):
    if not name or not all(c.isalnum() or c in '_-' for c in name) or names.count(name) > 1:
      raise UserError(f'stages: {name!r} is no good name; use letters, digits, _ and -, each once.')
    registry.find('stages', stage.get('run', 'train'))
  for cell in config.get('table', ()):
    for key in ('stage', 'control'):
      if cell.get(key) and cell[key] not in names:
        raise UserError(f'table: {key}={cell[key]!r} is the name of no stage.')


def _without(knobs: Mapping, *names: str) -> dict:
  return {name: value for name, value in knobs.items() if name not in names}


def validate(config: Mapping) -> None:
  """Raises UserError naming the first key whose value is missing, out of range or unknown."""
  for key, choices in CHOICES.items():
    if _get(config, key) not in choices:
      raise UserError(f'{key}={_get(config, key)!r} is not one of {", ".join(choices)}.')
  for key, (low, high) in RANGES.items():
    _check_range(key, _get(config, key), low, high)
  for name, size in config['batch'].items():
    _check_range(f'batch.{name}', size, 1, 10**6)
    parallel.check_batch(name, size)
  if not (len(config['size']) in (2, 3) and min(config['size']) >= 8):
    raise UserError(f'size={config["size"]} is not two or three sides of at least 8 pixels.')
  if config['teacher'] == 'average' and not config['average']:
    raise UserError("teacher='average' needs a decay; set average to 0.99, say.")
  if not config['methods'] or not isinstance(config['methods'], Mapping):
    raise UserError('methods is no dict with a method in it; say dict(supervised=dict()).')
  for name, knobs in config['methods'].items():
    registry.check_kwargs(registry.find('methods', name).method, knobs, f'methods.{name}')
    for knob, (low, high) in OF_METHODS.items():
      _check_range(f'methods.{name}.{knob}', knobs.get(knob), low, high)
    registry.build('methods', name, knobs)  # it may refuse them, before hours of earlier stages
  registry.check_kwargs(optimizers.make, _without(config['optimizer'], 'name'), 'optimizer')
  shape = optimizers.SCHEDULES[config['schedule']['name']]
  knobs = _without(config['schedule'], 'name', 'warmup')
  registry.check_kwargs(shape, knobs, 'schedule', given=('lr', 'steps'))
  registry.find('models', config['model']['name'])
  registry.find('datasets', config['data']['name'])
  recipes.check_recipes(config['views'], set(config['batch']))
  for name, outputs in (config.get('heads') or {}).items():
    _check_range(f'heads.{name}', outputs, 1, 10**4)
  if match := config.get('match'):
    heads = ('class', *(config.get('heads') or ()))
    for knob, choices in (('head', heads), ('how', tuple(cluster_matching.HOW))):
      if match.get(knob) not in choices:
        raise UserError(f'match.{knob}={match.get(knob)!r} is not one of {", ".join(choices)}.')
  _check_sum(config['methods'])
  dropout = config['model'].get('dropout') or ()
  for rate in dropout if isinstance(dropout, tuple) else (dropout,):
    _check_range('model.dropout', rate, 0.0, 1.0)


def _check_sum(methods: Mapping) -> None:
  """A method file may say which others it NEEDS beside it, and which it REPLACES."""
  for name in methods:
    module = registry.find('methods', name)
    for other in getattr(module, 'REPLACES', ()):
      if other in methods:
        raise UserError(f'methods: {name} does what {other} does; take one of them away.')
    for other in getattr(module, 'NEEDS', ()):
      if other not in methods:
        raise UserError(f'methods: {name} works beside {other}; add it.')


def _check_range(key: str, value: Any, low: float, high: float) -> None:
  if value is None:
    return
  kinds, kind = ((int,), 'whole number') if isinstance(low, int) else ((int, float), 'number')
  if not isinstance(value, kinds) or isinstance(value, bool):
    raise UserError(f'{key}={value!r} is not a {kind}.')
  if not low <= value <= high:
    raise UserError(f'{key}={value} is not in {low}..{high}.')


def check_stages(plans: Sequence[StageSpec]) -> None:
  """Raises UserError for a stage that cannot do its work, before the first begins.

  A stage file's INPUT_STAGES says which of its parameters name earlier stages, and of what kind; its
  `check` asks for whatever else it needs.
  """
  earlier: dict[str, StageSpec] = {}
  for plan in plans:
    module = registry.find('stages', plan.kind)
    where = f'stages.{plan.name}'
    registry.check_kwargs(module.stage, plan.own, where, given=('config', 'folder', 'stop'))
    found = build.splits(plan.config['data'])
    _check_task(plan, found)
    for name, (key, kind) in stages_read(plan).items():
      kinds = (kind,) if isinstance(kind, str) else kind
      if name not in earlier or earlier[name].kind not in kinds:
        known = ', '.join(n for n, p in earlier.items() if p.kind in kinds) or 'none'
        said = ' or '.join(kinds)
        raise UserError(f'{where}: {key}={name!r} is no {said} stage before it; there is {known}.')
    module.check(plan, earlier, found)
    earlier[plan.name] = plan


def _check_task(plan: StageSpec, found: Splits) -> None:
  """A stage, method or model file may say which TASKS it is for; without that it is for masks."""
  parts = [('stages', plan.kind)]
  if plan.kind == 'train':
    parts += [('models', plan.config['model']['name'])]
    parts += [('methods', name) for name in plan.config['methods']]
  for kind, name in parts:
    fitting = [n for n in registry.known(kind) if found.task in _tasks(kind, n)]
    if name not in fitting:
      raise UserError(
        f'stages.{plan.name}: {name} (of {kind}) is not for {found.task}, which data.name='
        f'{plan.config["data"]["name"]} has; {", ".join(fitting)} are.'
      )


def _tasks(kind: str, name: str) -> tuple[str, ...]:
  return getattr(registry.find(kind, name), 'TASKS', (MASKS,))


def stages_read(plan: StageSpec) -> dict[str, tuple[str, str | tuple[str, ...]]]:
  """The stages that a stage reads: name -> the parameter that names it, and the kinds it may be."""
  found = {}
  for key, kind in registry.find('stages', plan.kind).INPUT_STAGES.items():
    named = plan.own.get(key) or ()
    named = named.values() if isinstance(named, Mapping) else named
    found |= {name: (key, kind) for name in ((named,) if isinstance(named, str) else named)}
  return found
