"""Starts backbones from weights of torchvision's ResNets (BSD-3), read from a file."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from safetensors.numpy import load_file

from ssl_jax.errors import UserError
from ssl_jax.io.torch_state_dict import read_state_dict
from ssl_jax.types import TrainState

LEAVES = {
  ('params', 'kernel'): 'weight',
  # Torch calls both a convolution's kernel and the factor of a normalization 'weight'.
  ('params', 'scale'): 'weight',
  ('params', 'bias'): 'bias',
  ('batch_stats', 'mean'): 'running_mean',
  ('batch_stats', 'var'): 'running_var',
}
"""Flax's collection and leaf -> torch's name of it."""


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
  """Returns the arrays of a .pth, .pt, .npz or .safetensors file by name.

  Raises:
    UserError: if the file is of another kind, or cannot be read as a state dict.
  """
  path = Path(path)
  try:
    # Read without torch, and without unpickling arbitrary objects.
    if path.suffix in ('.pth', '.pt'):
      return read_state_dict(path)
    if path.suffix == '.npz':
      with np.load(path) as arrays:
        return dict(arrays)
    if path.suffix == '.safetensors':
      return load_file(path)
  except Exception as error:
    # Three readers, each with errors of its own; they mean the same to the user.
    raise UserError(
      f'{path} (model.pretrained) holds no state dict: {error}; save the state dict alone.'
    ) from error
  raise UserError(f'{path} (model.pretrained) is not .pth, .pt, .npz or .safetensors.')


def torch_name(path: tuple[str, ...]) -> str:
  """('params', 'layer1_0', 'conv1', 'kernel') -> 'layer1.0.conv1.weight'."""
  # 'layer1_0' is block 0 of stage 1, which torch writes as 'layer1.0'.
  collection, *modules, leaf = path
  modules = [re.sub(r'_(\d+)$', r'.\1', name) for name in modules]
  return '.'.join([*modules, LEAVES[collection, leaf]])


def _from_torch(name: str, value: np.ndarray, like: jax.Array, source: str) -> np.ndarray:
  """Returns an array of torch in Flax's layout, with the dtype of `like`."""
  # Only convolutions have four axes; vectors need no transposition.
  if value.ndim == 4:
    value = value.transpose(2, 3, 1, 0)  # OIHW -> HWIO
    if value.shape[2] == 3 and like.shape[2] == 1:
      value = value.sum(2, keepdims=True)  # a grey image is three equal channels
  if value.shape != like.shape:
    raise UserError(
      f'{source}: {name} has shape {value.shape}, and this network needs {like.shape} (channels '
      f'last); is it a file of another backbone?'
    )
  # Files in half precision are allowed; the parameters stay float32.
  return value.astype(like.dtype)


def with_backbone(
  state: TrainState, arrays: Mapping[str, np.ndarray], source: str = 'model.pretrained'
) -> TrainState:
  """Returns the state with its backbone, and that of its moving average, from a ResNet's weights.

  Whatever else the arrays hold (the classifier) is ignored.

  Args:
    state: a fresh state.
    arrays: a state dict of torchvision's.
    source: where the arrays come from, for messages.

  Raises:
    UserError: if the network has no backbone, or the first array that is missing or has another
      shape.
  """
  if 'backbone' not in state.student['params']:
    raise UserError(f'{source}: this model has no backbone that could have pretrained weights.')
  # {'params': ..., 'batch_stats': ...} of the backbone alone.
  fresh = {kind: tree['backbone'] for kind, tree in state.student.items()}
  weights: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(fresh)
  loaded: dict[Any, jax.Array] = {}
  # The loop is over what the network needs, which is why additional arrays are ignored.
  for path, like in weights.items():
    name = torch_name(path)
    if name not in arrays:
      raise UserError(f'{source} holds no {name!r}, which this backbone needs.')
    # On the same devices as the array that it replaces.
    loaded[path] = jax.device_put(_from_torch(name, arrays[name], like, source), like.sharding)
  backbone = traverse_util.unflatten_dict(loaded)
  # The head and the decoder keep their random initial weights.
  student = {kind: {**tree, 'backbone': backbone[kind]} for kind, tree in state.student.items()}
  return state.starting_from(student)
