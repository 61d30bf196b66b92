"""Predicts a stack or a large image by blocks, and writes its masks, instances and overlays."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from ssl_jax.errors import UserError
from ssl_jax.inference import stacks, write_planes
from ssl_jax.inference.block_store import BlockStore, grid_of
from ssl_jax.inference.cleaning import Cleaning
from ssl_jax.inference.image_outputs import Wanted
from ssl_jax.inference.prediction_folder import PredictionFolder, Source
from ssl_jax.io.planes import Planes
from ssl_jax.types import PredictFn


def check_wanted(path: Path, wanted: Wanted) -> None:
  """Checks that nothing is wanted that needs a whole image in memory.

  Raises:
    UserError: naming the options.
  """
  asked = {
    '--probabilities': wanted.probabilities,
    '--uncertainty': wanted.uncertainty,
    '--geojson': wanted.geojson,
    '--rois': wanted.rois,
    '--largest, --min_size or --fill_holes': wanted.cleaning != Cleaning(),
  }
  names = [name for name, is_asked in asked.items() if is_asked]
  if names:
    raise UserError(
      f'{path} is a stack or a large image, which is predicted by blocks, without '
      f'{", ".join(names)}; leave this out, or save single images.'
    )


def write(
  predict_fn: PredictFn,
  image: Planes,
  task: stacks.BlockTask,
  out: PredictionFolder,
  files: Sequence[str],
  source: Source,
) -> None:
  """Predicts and writes one file that was checked; what is done of it is kept if it is stopped."""
  store = BlockStore(out.blocks_of(source), grid_of(image))
  stacks.predict_blocks(predict_fn, image, store, task)
  write_planes.write_all(image, store, task.stats, out, files, source)
  shutil.rmtree(store.folder)
