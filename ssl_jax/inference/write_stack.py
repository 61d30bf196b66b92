"""Predicts a stack or a large image by blocks, and writes what is wanted of it."""

import shutil
from collections.abc import Mapping

from ssl_jax.data.image_kind import FileNotes
from ssl_jax.errors import UserError
from ssl_jax.inference import outline_files, stacks, write_planes
from ssl_jax.inference.cleaning import Cleaning
from ssl_jax.inference.outputs import ROIS, Wanted
from ssl_jax.inference.prediction_folder import PredictionFolder, Source
from ssl_jax.io import planes
from ssl_jax.io.planes import Planes
from ssl_jax.types import PredictFn


def check_wanted(image: Planes, wanted: Wanted) -> None:
  """Checks that of a large plane nothing is wanted that needs the whole of it in memory.

  Raises:
    UserError: naming the options.
  """
  if not image.is_large():
    return
  asked = {
    '--geojson': wanted.geojson,
    '--rois': wanted.rois,
    '--largest, --min_size or --fill_holes': wanted.cleaning != Cleaning(),
  }
  names = [name for name, is_asked in asked.items() if is_asked]
  if names:
    raise UserError(
      f'{image.name} has more than {planes.LARGE / 1e6:g} megapixels a plane and is predicted by '
      f'blocks, without {", ".join(names)}; leave this out, or save parts of the image.'
    )


def write(
  predict_fn: PredictFn,
  image: Planes,
  task: stacks.BlockTask,
  out: PredictionFolder,
  files: Mapping[str, str],
  source: Source,
  notes: FileNotes,
) -> None:
  """Predicts and writes one file; what is done of it is kept if that is stopped.

  Args:
    predict_fn: gives the class probabilities of a batch.
    image: the file.
    task: how it is predicted, and what is wanted.
    out: folder to write to.
    files: what is written, by kind.
    source: the file, as the record knows it.
    notes: conversions and doubts are added to them.

  Raises:
    UserError: if its pixels are of another kind than those of the training, or something is wanted
      that is not possible.
  """
  # Before anything is predicted.
  check_wanted(image, task.wanted)
  if ROIS in files:
    size = image.header.height, image.header.width
    outline_files.check_roi_size(out.path / files[ROIS], size)
  stacks.check(image, task.stats, notes)
  store = task.store(out.blocks_of(source), image)
  stacks.predict_blocks(predict_fn, image, store, task)
  write_planes.write_all(image, store, task, out, files, source)
  shutil.rmtree(store.folder)
