"""Generated images, and the real ones beside which they are shown."""

import functools
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from ssl_jax import parallel
from ssl_jax.data import stream as data
from ssl_jax.evaluation import figures
from ssl_jax.io import images
from ssl_jax.views import make_views

COLUMNS, SHOWN = 4, 16
"""Images in a row of a grid, and on it."""


def real(config: Mapping, streams: Mapping[str, data.Stream], count: int) -> np.ndarray:
  """So many images of the view 'real', in [0, 1]: a training would see others."""

  @functools.partial(jax.jit, out_shardings=parallel.replicated())
  def make(batch, key):
    return make_views.make_views(config['views'], batch, config['size'], key)['real'].image

  found, step = [], 0
  while sum(map(len, found)) < count:
    batch = {name: stream[step] for name, stream in streams.items()}
    found.append(np.asarray(make(parallel.shard(batch), jax.random.key(step))))
    step += 1
  return np.concatenate(found)[:count]


def grid(path: Path, painted: np.ndarray, real: np.ndarray) -> None:
  """Draws painted images on the left and real ones on the right, as many of each."""
  if parallel.is_main():
    figures.beside(path, [[_tiled(painted), _tiled(real)]], ['generated', 'real'])


def _tiled(found: np.ndarray) -> np.ndarray:
  """Images [n, H, W, C] in [0, 1] in rows of COLUMNS, as one of RGB; a line of white between."""
  edged = np.pad(found, [(0, 0), (0, 1), (0, 1), (0, 0)], constant_values=1.0)
  rows = [np.concatenate([*edged[i : i + COLUMNS]], 1) for i in range(0, len(edged), COLUMNS)]
  whole = np.concatenate([row for row in rows if row.shape == rows[0].shape])
  return images.to_channels((np.clip(whole, 0, 1) * 255 + 0.5).astype(np.uint8), 3)


def variety(found: np.ndarray) -> float:
  """How much images differ from each other: a pixel's deviation, mean over pixels."""
  return float(found.std(0).mean())
