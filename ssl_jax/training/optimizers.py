"""Optimizers and schedules; every learning rate is a function of the step."""

from collections.abc import Callable, Mapping
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
  # What follows the warm-up is the whole schedule, compressed into the remaining steps.
  rest = steps - shape.warmup
  if shape.name == 'poly':
    main = optax.polynomial_schedule(lr, 0.0, shape.power, rest)
  elif shape.name == 'cosine':
    main = optax.cosine_decay_schedule(lr, rest, shape.end)
  elif shape.name == 'step':
    # Step -> factor; factors of several drops multiply.
    drops = {int(fraction * rest): shape.factor for fraction in shape.at}
    main = optax.piecewise_constant_schedule(lr, drops)
  else:
    main = optax.constant_schedule(lr)
  if not shape.warmup:
    return main
  rise = optax.linear_schedule(0.0, lr, shape.warmup)
  # `main` counts from 0 at the end of the warm-up.
  return optax.join_schedules([rise, main], [shape.warmup])


def make(
  optimizer: settings.Optimizer,
  lr: optax.Schedule,
  learns: Callable[[Any], Any] | None = None,
) -> optax.GradientTransformation:
  """SGD or RMSProp with L2 weight decay as torch has them, or AdamW.

  The squares of RMSProp decay at 0.99. In a network with a backbone, `head_lr_multiplier`
  multiplies the learning rate of all other layers; `clip` bounds the gradient's global norm.
  `learns` maps parameters to whether each learns; those that do not stay as they are, without
  weight decay as well.

  Raises:
    UserError: if the name is unknown.
  """
  # Adds weight_decay * weight to whatever comes in, so that its place in the chain matters.
  decay = optax.add_decayed_weights(optimizer.weight_decay)
  momentum = optax.trace(optimizer.momentum, optimizer.nesterov)
  # First of all, so that the bound is on the loss's gradient, without weight decay.
  parts = [optax.clip_by_global_norm(optimizer.clip)] if optimizer.clip else []
  if optimizer.name == 'sgd':
    # Before the momentum: the decay is part of the gradient (L2), as in torch.optim.SGD.
    parts += [decay, momentum]
  elif optimizer.name == 'adam':
    # After the scaling: the decay is independent of the gradient's size (AdamW).
    parts += [optax.scale_by_adam(b1=optimizer.b1), decay]
  elif optimizer.name == 'rmsprop':
    # Torch adds epsilon outside of the square root.
    parts += [decay, optax.scale_by_rms(0.99, eps_in_sqrt=False), momentum]
  else:
    known = ', '.join(settings.OPTIMIZERS)
    raise UserError(f'optimizer.name={optimizer.name!r} is unknown; it may be {known}.')
  if optimizer.head_lr_multiplier != 1.0:
    # After momentum and scaling it multiplies the update itself, and thus the learning rate.
    parts.append(optax.masked(optax.scale(optimizer.head_lr_multiplier), _outside_backbone))
  parts.append(optax.scale_by_learning_rate(lr))
  if learns is None:
    return optax.chain(*parts)

  def still(params: Any) -> Any:
    return jax.tree.map(lambda learning: not learning, learns(params))

  # Last of all, so that nothing is added to a zero.
  return optax.chain(*parts, optax.masked(optax.set_to_zero(), still))


def _outside_backbone(params: Mapping[str, Any]) -> dict[str, Any]:
  """True for every parameter outside `backbone`; False for all in networks that have none."""
  if 'backbone' not in params:
    return jax.tree.map(lambda _: False, params)
  mask = {}
  for name, parameters in params.items():
    inside = name == 'backbone'
    # `outside` is bound now; otherwise all lambdas would see the last value of the loop.
    mask[name] = jax.tree.map(lambda _, outside=not inside: outside, parameters)
  return mask
