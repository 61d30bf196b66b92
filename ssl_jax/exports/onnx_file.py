"""Export as ONNX: one file with the weights inside, for images of any size.

We write it ourselves (onnx_program.py). jax2onnx 0.17 needs an older Orbax than training does, so
that both cannot be in one environment.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ssl_jax.errors import UserError
from ssl_jax.exports import exported_network, needed_packages, onnx_program
from ssl_jax.exports.exported_network import Network
from ssl_jax.io import atomic

FILE = 'network.onnx'

INPUT, OUTPUT = 'image', 'probabilities'


def write(network: Network, out: Path) -> list[str]:
  """Writes the network with all of its outputs; returns the name of the file.

  Raises:
    UserError: if the package onnx is missing, or the network has an operation that is not written.
  """
  model = to_model(network, with_mask=True)
  with atomic.replacing(out / FILE) as temporary:
    temporary.write_bytes(model.SerializeToString())
  return [FILE]


def to_model(network: Network, with_mask: bool) -> Any:
  """Returns the network as an onnx.ModelProto: float32 pixels [B, C, *space] as files hold them.

  Args:
    network: what is exported.
    with_mask: whether the second of its outputs is written as well.

  Raises:
    UserError: as `write` does.
  """
  needed_packages.check('onnx')

  def program(weights: Mapping[str, Array], images: Array) -> tuple[Array, ...]:
    # Programs of other fields have the channels first.
    probs, more = exported_network.outputs(network, weights, jnp.moveaxis(images, 1, -1))
    outputs = jnp.moveaxis(probs, -1, 1), more
    return outputs if with_mask else outputs[:1]

  names = INPUT, network.outputs() if with_mask else (OUTPUT,)
  shape = f'b, {network.stats.channels}, {network.space()}'
  classes = {str(number): name for number, name in enumerate(network.stats.classes)}
  try:
    return onnx_program.to_onnx(program, network.weights, shape, np.float32, names, classes)
  except NotImplementedError as error:
    raise UserError(
      f'The network {network.settings.model.name} cannot be written as ONNX ({error}); '
      '--format=stablehlo knows every operation.'
    ) from error
