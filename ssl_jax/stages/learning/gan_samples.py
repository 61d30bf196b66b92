"""What stages with a GAN share: its settings, generated images and the real ones beside them."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

from ssl_jax import parallel
from ssl_jax.data.stream import Stream
from ssl_jax.errors import UserError
from ssl_jax.evaluation import figures
from ssl_jax.io import images
from ssl_jax.settings import Gan, Inputs, Settings
from ssl_jax.views import make_views

COLUMNS = 4
"""Images in a row of a grid."""

SAMPLES = 16
"""Images in a grid."""


def game_of(settings: Settings, where: str) -> Gan:
  """Returns the settings of the game.

  Raises:
    UserError: if the config has none.
  """
  if settings.gan is None:
    raise UserError(f'{where} needs config.gan; configs/gan_self_training_em.py has one.')
  return settings.gan


def real_images(
  inputs: Inputs, streams: Mapping[str, Stream], count: int
) -> Float[np.ndarray, 'n h w c']:
  """Returns so many images of the view 'real', in [0, 1], drawn apart from those of a training."""

  # Copied to all devices, so that every process can read the images.
  @functools.partial(jax.jit, out_shardings=parallel.replicated())
  def make(batch: Any, key: jax.Array) -> jax.Array:
    return make_views.make_views(inputs.views, batch, inputs.crop_size, key)['real'].image

  # Keys of their own: the training folds its steps into the key of its seed.
  batches, step = [], 0
  while sum(map(len, batches)) < count:
    batch = {name: stream[step] for name, stream in streams.items()}
    batches.append(np.asarray(make(parallel.shard(batch), jax.random.key(step))))
    step += 1
  return np.concatenate(batches)[:count]


def draw_grid(
  path: Path, generated: Float[np.ndarray, 'n h w c'], real: Float[np.ndarray, 'm h w c']
) -> None:
  """Draws generated images on the left and as many real ones on the right."""
  if parallel.is_main():
    count = min(len(generated), len(real))
    row = [_tiled(generated[:count]), _tiled(real[:count])]
    figures.beside(path, [row], ['generated', 'real'])


def _tiled(samples: Float[np.ndarray, 'n h w c']) -> UInt8[np.ndarray, 'H W 3']:
  """Images in [0, 1] in rows of COLUMNS, as one RGB image with white lines between."""
  # [n, h + 1, w + 1, c], with a white line at the right and at the bottom of each.
  edged = np.pad(samples, [(0, 0), (0, 1), (0, 1), (0, 0)], constant_values=1.0)
  rows = [np.concatenate([*edged[i : i + COLUMNS]], 1) for i in range(0, len(edged), COLUMNS)]
  # A last row that is not full is left out.
  grid = np.concatenate([row for row in rows if row.shape == rows[0].shape])
  return images.to_rgb((np.clip(grid, 0, 1) * 255 + 0.5).astype(np.uint8))


def variety(samples: Float[np.ndarray, 'n h w c']) -> float:
  """Returns how much images differ: the standard deviation of a pixel, mean over pixels."""
  # If all samples are the same image (mode collapse), every pixel has deviation 0.
  return float(samples.std(0).mean())
