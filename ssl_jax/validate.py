"""Refuses a config that cannot mean what its author hopes, in one sentence."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ssl_jax import augment, find, optimizers, parallel
from ssl_jax.stages import STAGES
from ssl_jax.types import UserError

CHOICES = {
  'teacher': ('student', 'average'),
  'precision': ('float32', 'bfloat16'),
  'normalize': ('data', 'imagenet'),
  'schedule.name': tuple(optimizers.SCHEDULES),
  'optimizer.name': ('sgd', 'adam'),
}

RANGES = {  # inclusive; a knob that a config leaves out has its default
  'seed': (0, 2**31 - 1),
  'replicas': (1, 1000),
  'steps': (1, 10**9),
  'eval_every': (1, 10**9),
  'checkpoint_every': (1, 10**9),
  'log_every': (1, 10**9),
  'average': (0, 1),
  'batch.labeled': (1, 10**6),
  'batch.unlabeled': (1, 10**6),
  'optimizer.lr': (0, math.inf),
  'optimizer.momentum': (0, 1),
  'optimizer.weight_decay': (0, math.inf),
  'optimizer.head': (0, math.inf),
  'optimizer.clip': (0, math.inf),
  'schedule.warmup': (0, 10**9),
}


def _get(config: Mapping, key: str) -> Any:
  value: Any = config
  for part in key.split('.'):
    if part not in value:
      return None
    value = value[part]
  return value


def _without(knobs: Mapping, *names: str) -> dict:
  return {name: value for name, value in knobs.items() if name not in names}


def validate(config: Mapping) -> None:
  """Raises UserError naming the first key whose value is missing, out of range or unknown."""
  for key, choices in CHOICES.items():
    if _get(config, key) not in choices:
      raise UserError(f'{key}={_get(config, key)!r} is not one of {", ".join(choices)}.')
  for key, (low, high) in RANGES.items():
    value = _get(config, key)
    if value is not None and not low <= value <= high:
      raise UserError(f'{key}={value} is not in {low}..{high}.')
  for name, size in config['batch'].items():
    parallel.check_batch(name, size)
  if not (len(config['size']) in (2, 3) and min(config['size']) >= 8):
    raise UserError(f'size={config["size"]} is not two or three sides of at least 8 pixels.')
  if config['teacher'] == 'average' and not config['average']:
    raise UserError("teacher='average' needs a decay; set average to 0.99, say.")
  if not config['methods']:
    raise UserError('methods is empty, so nothing would be learnt; add supervised, say.')
  for name, knobs in config['methods'].items():
    find.check_knobs(find.find('methods', name).method, knobs, f'methods.{name}')
  find.check_knobs(optimizers.make, _without(config['optimizer'], 'name'), 'optimizer')
  shape = optimizers.SCHEDULES[config['schedule']['name']]
  knobs = _without(config['schedule'], 'name', 'warmup')
  find.check_knobs(shape, knobs, 'schedule', given=('lr', 'steps'))
  find.find('models', config['model']['name'])
  find.find('datasets', config['data']['name'])
  augment.check_recipes(config['views'], set(config['batch']))
  for stage in config['stages']:
    _check_stage(stage, config, (other['name'] for other in config['stages']))


def _check_stage(stage: Mapping, config: Mapping, names: Iterable[str]) -> None:
  name = stage.get('name', '')
  if not name or not all(c.isalnum() or c in '_-' for c in name) or list(names).count(name) > 1:
    raise UserError(f'stages: {name!r} is no good name; use letters, digits, _ and -, each once.')
  if stage.get('run', 'train') not in STAGES:
    raise UserError(f'stages.{name}: run={stage["run"]!r} is not one of {", ".join(STAGES)}.')
