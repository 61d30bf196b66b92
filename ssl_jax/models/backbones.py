"""Backbones by name, and which of their parameters learn nothing."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError
from ssl_jax.models import efficientnet_lite, resnet

STRIDES = (0, 2, 4, 8, 16, 32)
"""What a model's `fixed` may be: nothing, or the backbone up to that stride."""


def make(
  name: str,
  output_stride: int = 32,
  dtype: Any = jnp.float32,
  frozen: bool | None = None,
  fixed: int = 0,
) -> nn.Module:
  """Returns the backbone of a network, which has to be called within it.

  Args:
    name: of a ResNet (resnet.DEPTHS) or an EfficientNet-Lite (efficientnet_lite.COEFFICIENTS).
    output_stride: the stride of its last features, 8, 16 or 32.
    dtype: of its features.
    frozen: whether the statistics of batch normalization stay as they are; None: no.
    fixed: the stride up to which nothing learns; 0: everything does.

  Raises:
    UserError: if there is no such backbone, or it cannot have such a stride.
  """
  if fixed not in STRIDES:
    raise UserError(f'model.fixed={fixed} is not one of {", ".join(map(str, STRIDES))}.')
  if output_stride not in (8, 16, 32):
    raise UserError(f'model.output_stride={output_stride} is not 8, 16 or 32.')
  known = {
    **dict.fromkeys(resnet.DEPTHS, resnet.Backbone),
    **dict.fromkeys(efficientnet_lite.COEFFICIENTS, efficientnet_lite.Backbone),
  }
  if name not in known:
    raise UserError(f'model.backbone={name!r} is not one of {", ".join(known)}.')
  return known[name](name, output_stride, dtype, bool(frozen), fixed, name='backbone')


def stride_of(name: str, module: str) -> int:
  """Returns the stride of the features that a module of a backbone takes part in first."""
  if name in efficientnet_lite.COEFFICIENTS:
    return efficientnet_lite.stride_of(name, module)
  return resnet.stride_of(module)


def learning_mask(network: nn.Module, params: Mapping[str, Any]) -> dict[str, Any]:
  """Returns, for every parameter of a network, whether it learns.

  All do, but those of a backbone up to the stride that the network's field `fixed` names.
  """
  mask = jax.tree.map(lambda _: True, dict(params))
  fixed = getattr(network, 'fixed', 0)
  name = getattr(network, 'backbone', None)
  if not fixed or not isinstance(name, str):
    return mask
  for module, parameters in params['backbone'].items():
    if stride_of(name, module) <= fixed:
      mask['backbone'][module] = jax.tree.map(lambda _: False, parameters)
  return mask
