"""Optimizers and schedules by name; every learning rate is a function of the iteration."""

from collections.abc import Mapping

import jax
import optax

from ssl_jax.errors import UserError


def poly(lr: float, steps: int, power: float = 0.9) -> optax.Schedule:
  """lr * (1 - step / steps) ** power."""
  return lambda step: lr * (1 - step / steps).clip(0) ** power


def cosine(lr: float, steps: int, end: float = 0.0) -> optax.Schedule:
  """Half a cosine from lr to end * lr."""
  return optax.cosine_decay_schedule(lr, steps, end)


def step(lr: float, steps: int, at: tuple = (0.5, 0.75), factor: float = 0.1) -> optax.Schedule:
  """lr, multiplied by `factor` at each of the fractions `at` of the steps."""
  return optax.piecewise_constant_schedule(lr, {int(a * steps): factor for a in at})


def constant(lr: float, steps: int) -> optax.Schedule:
  """The same lr throughout."""
  return optax.constant_schedule(lr)


SCHEDULES = {f.__name__: f for f in (poly, cosine, step, constant)}


def schedule(knobs: Mapping, lr: float, steps: int) -> optax.Schedule:
  """The schedule that a config names, after `warmup` steps of linear rise (default 0)."""
  knobs = dict(knobs)
  warmup = knobs.pop('warmup', 0)
  name = knobs.pop('name')
  if warmup >= steps:
    raise UserError(f'schedule.warmup={warmup} leaves nothing of steps={steps}; make it smaller.')
  main = SCHEDULES[name](lr, steps - warmup, **knobs)
  if not warmup:
    return main
  return optax.join_schedules([optax.linear_schedule(0.0, lr, warmup), main], [warmup])


def _is_head(params: Mapping) -> Mapping:
  """True for every parameter outside `backbone`."""
  return {name: jax.tree.map(lambda _, n=name: n != 'backbone', p) for name, p in params.items()}


OPTIMIZERS = ('sgd', 'adam', 'rmsprop')


def make(
  name: str,
  lr: optax.Schedule,
  momentum: float = 0.9,
  nesterov: bool = False,
  weight_decay: float = 0.0,
  head: float = 1.0,
  clip: float = 0.0,
) -> optax.GradientTransformation:
  """SGD or RMSProp (squares remembered at 0.99) with L2 weight decay, as torch has them, or AdamW.

  `head` multiplies the learning rate of all that is not the backbone, in networks that have one;
  `clip` bounds the gradient's global norm (0: no bound).
  """
  decay = optax.add_decayed_weights(weight_decay)
  parts = [optax.clip_by_global_norm(clip)] if clip else []
  if name == 'sgd':
    parts += [decay, optax.trace(momentum, nesterov)]
  elif name == 'adam':
    parts += [optax.scale_by_adam(b1=momentum), decay]
  elif name == 'rmsprop':
    parts += [decay, optax.scale_by_rms(0.99, eps_in_sqrt=False), optax.trace(momentum, nesterov)]
  else:
    raise UserError(f'optimizer.name={name!r} is unknown; it may be {", ".join(OPTIMIZERS)}.')
  if head != 1.0:
    parts.append(
      optax.masked(
        optax.scale(head), lambda params: _is_head(params) if 'backbone' in params else
        jax.tree.map(lambda _: False, params)
      )
    )  # fmt: skip
  return optax.chain(*parts, optax.scale_by_learning_rate(lr))
