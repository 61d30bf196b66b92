"""Export as StableHLO: a program of jax.export, its weights, and a loader without ssl_jax."""

import json
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array

from ssl_jax.errors import UserError
from ssl_jax.exports import exported_network, volume_files
from ssl_jax.exports.exported_network import Network
from ssl_jax.io import atomic
from ssl_jax.io.run_log import replace_text
from ssl_jax.types import CELLS

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


LOADER_OF_PATCHES = '''\
"""Classes of patches and places of their cells without ssl_jax: pip install jax flatbuffers."""

from pathlib import Path

import jax
import numpy as np
from jax import export

HERE = Path(__file__).parent
WEIGHTS = dict(np.load(HERE / 'weights.npz'))


def predict(patches):
  """Patches [B, H, W, C] as files hold them -> class probabilities [B, classes], points [B, 2].

  Points are x and y of the cell as fractions of the side of a patch, from its left and top edge.
  """
  program = export.deserialize((HERE / f'program_{patches.dtype}.stablehlo').read_bytes())
  return jax.jit(program.call)(WEIGHTS, patches)
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
  names += [WEIGHTS, LOADER]
  text = LOADER_OF_PATCHES if network.stats.task == CELLS else LOADER_TEXT
  if len(network.window or ()) == 3:
    about = volume_files.about(network.settings, network.stats)
    replace_text(out / volume_files.FILE, json.dumps(about, indent=2) + '\n')
    names.append(volume_files.FILE)
    text = volume_files.LOADER_TEXT
  replace_text(out / LOADER, text)
  return names


def serialized(network: Network, dtype: np.dtype) -> bytes:
  """Returns the program `weights, images -> exported_network.outputs` for any number of images.

  Raises:
    UserError: if the package that writes programs is missing.
  """

  def program(weights: Mapping[str, Array], images: Array) -> tuple[Array, Array]:
    return exported_network.outputs(network, weights, images)

  sizes = export.symbolic_shape(f'b, {network.space()}, {network.stats.channels}')
  weights = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in network.weights.items()}
  images = jax.ShapeDtypeStruct(sizes, jnp.dtype(dtype))
  exported = export.export(jax.jit(program), platforms=PLATFORMS)(weights, images)
  try:
    return bytes(exported.serialize())
  except ImportError as error:
    raise UserError('StableHLO needs a package more: pip install flatbuffers.') from error
