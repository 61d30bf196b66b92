"""Export as StableHLO: a program of jax.export, its weights, and a loader without ssl_jax."""

from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array

from ssl_jax import export_network
from ssl_jax.errors import UserError
from ssl_jax.export_network import Network
from ssl_jax.io import atomic
from ssl_jax.io.run_log import replace_text

PLATFORMS = ('cpu', 'cuda', 'tpu')
"""Devices for which the program is lowered."""

WEIGHTS, LOADER = 'weights.npz', 'load.py'

LOADER_TEXT = '''\
"""Class probabilities and masks without ssl_jax: pip install jax flatbuffers pillow."""

import sys
from pathlib import Path

import jax
import numpy as np
from jax import export
from PIL import Image

HERE = Path(__file__).parent
WEIGHTS = dict(np.load(HERE / 'weights.npz'))


def predict(images):
  """Images [B, H, W, C] as their files hold them -> probabilities [B, H, W, classes], masks."""
  program = export.deserialize((HERE / f'program_{images.dtype}.stablehlo').read_bytes())
  return jax.jit(program.call)(WEIGHTS, images)


if __name__ == '__main__':  # python load.py IMAGE.png MASK.png
  pixels = np.asarray(Image.open(sys.argv[1]))
  mask = predict(pixels.reshape(1, *pixels.shape[:2], -1))[1]
  Image.fromarray(np.asarray(mask)[0]).save(sys.argv[2])
'''


def write(network: Network, out: Path) -> list[str]:
  """Writes a program for each kind of numbers, the weights and the loader; returns their names.

  Raises:
    UserError: if the package that writes programs is missing.
  """
  names = [f'program_{dtype}.stablehlo' for dtype in network.dtypes()]
  for dtype, name in zip(network.dtypes(), names, strict=True):
    program = serialized(network, np.dtype(dtype))
    with atomic.replacing(out / name) as temporary:
      temporary.write_bytes(program)
  # Of arrays alone: such a file is read without running any code in it (pickle).
  with atomic.replacing(out / WEIGHTS) as temporary:
    np.savez(temporary, **network.weights)
  replace_text(out / LOADER, LOADER_TEXT)
  return [*names, WEIGHTS, LOADER]


def serialized(network: Network, dtype: np.dtype) -> bytes:
  """Returns the program `weights, images -> probabilities, masks` for images of any size.

  Raises:
    UserError: if the package that writes programs is missing.
  """

  def program(weights: Mapping[str, Array], images: Array) -> tuple[Array, Array]:
    probs = export_network.probabilities(network, weights, images)
    return probs, export_network.mask_of(probs)

  sizes = export.symbolic_shape(f'b, h, w, {network.stats.channels}')
  weights = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in network.weights.items()}
  images = jax.ShapeDtypeStruct(sizes, jnp.dtype(dtype))
  exported = export.export(jax.jit(program), platforms=PLATFORMS)(weights, images)
  try:
    return bytes(exported.serialize())
  except ImportError as error:
    raise UserError('StableHLO needs a package more: pip install flatbuffers.') from error
