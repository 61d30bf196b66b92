"""Optimizers and schedules; every learning rate is a function of the step."""

from collections.abc import Mapping
from typing import Any

import jax
import optax

from ssl_jax import settings
from ssl_jax.errors import UserError


def schedule(shape: settings.Schedule, lr: float, steps: int) -> optax.Schedule:
  """The learning rate over `steps` updates, with a linear warm-up where asked for.

  'poly' is lr * (1 - step / steps) ** power, 'cosine' half a cosine from lr to end * lr, 'step'
  multiplies lr by `factor` at each of the fractions `at` of the steps.

  Raises:
    UserError: if the warm-up leaves no step.
  """
  if shape.warmup >= steps:
    raise UserError(
      f'schedule.warmup={shape.warmup} leaves nothing of steps={steps}; make it smaller.'
    )
  rest = steps - shape.warmup
  if shape.name == 'poly':
    main = optax.polynomial_schedule(lr, 0.0, shape.power, rest)
  elif shape.name == 'cosine':
    main = optax.cosine_decay_schedule(lr, rest, shape.end)
  elif shape.name == 'step':
    drops = {int(fraction * rest): shape.factor for fraction in shape.at}
    main = optax.piecewise_constant_schedule(lr, drops)
  else:
    main = optax.constant_schedule(lr)
  if not shape.warmup:
    return main
  rise = optax.linear_schedule(0.0, lr, shape.warmup)
  return optax.join_schedules([rise, main], [shape.warmup])


def make(optimizer: settings.Optimizer, lr: optax.Schedule) -> optax.GradientTransformation:
  """SGD or RMSProp with L2 weight decay as torch has them, or AdamW.

  The squares of RMSProp decay at 0.99. In a network with a backbone, `head_lr_multiplier`
  multiplies the learning rate of all other layers; `clip` bounds the gradient's global norm.

  Raises:
    UserError: if the name is unknown.
  """
  decay = optax.add_decayed_weights(optimizer.weight_decay)
  momentum = optax.trace(optimizer.momentum, optimizer.nesterov)
  parts = [optax.clip_by_global_norm(optimizer.clip)] if optimizer.clip else []
  if optimizer.name == 'sgd':
    parts += [decay, momentum]
  elif optimizer.name == 'adam':
    parts += [optax.scale_by_adam(b1=optimizer.b1), decay]
  elif optimizer.name == 'rmsprop':
    parts += [decay, optax.scale_by_rms(0.99, eps_in_sqrt=False), momentum]
  else:
    known = ', '.join(settings.OPTIMIZERS)
    raise UserError(f'optimizer.name={optimizer.name!r} is unknown; it may be {known}.')
  if optimizer.head_lr_multiplier != 1.0:
    parts.append(optax.masked(optax.scale(optimizer.head_lr_multiplier), _outside_backbone))
  return optax.chain(*parts, optax.scale_by_learning_rate(lr))


def _outside_backbone(params: Mapping[str, Any]) -> dict[str, Any]:
  """True for every parameter outside `backbone`; False for all in networks that have none."""
  if 'backbone' not in params:
    return jax.tree.map(lambda _: False, params)
  mask = {}
  for name, parameters in params.items():
    inside = name == 'backbone'
    mask[name] = jax.tree.map(lambda _, outside=not inside: outside, parameters)
  return mask
