"""Predicts a stack or a large image by blocks, and writes what is wanted of it."""

import shutil
from collections.abc import Sequence

from ssl_jax.errors import UserError
from ssl_jax.inference.blocks import stacks, write_planes
from ssl_jax.inference.writing import outline_files
from ssl_jax.inference.writing.cleaning import Cleaning
from ssl_jax.inference.writing.outputs import ROIS, Wanted
from ssl_jax.inference.writing.prediction_folder import PredictionFolder, Source
from ssl_jax.io.stacks import planes
from ssl_jax.io.stacks.planes import Planes
from ssl_jax.types import PredictFn


def check(
  image: Planes, task: stacks.BlockTask, out: PredictionFolder, files: Sequence[str]
) -> None:
  """Checks, before anything is predicted, that what is wanted of a file is possible.

  Args:
    image: the file.
    task: how it is predicted, and what is wanted.
    out: folder to write to.
    files: what is written, in the order of `write_planes.templates`.

  Raises:
    UserError: if something needs the whole of a large plane in memory, or a plane is too large for
      the outlines of ImageJ.
  """
  if image.is_large():
    _check_large(image, task.wanted)
  named = dict(zip(write_planes.templates(image, task.wanted, task.stats), files, strict=True))
  if ROIS in named:
    size = image.header.height, image.header.width
    outline_files.check_roi_size(out.path / named[ROIS], size)


def _check_large(image: Planes, wanted: Wanted) -> None:
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
  files: Sequence[str],
  source: Source,
) -> None:
  """Predicts and writes one file that was checked; what is done of it is kept if it is stopped.

  Args:
    predict_fn: gives the class probabilities of a batch.
    image: the file.
    task: how it is predicted, and what is wanted.
    out: folder to write to.
    files: what is written, in the order of `write_planes.templates`.
    source: the file, as the record knows it.
  """
  store = task.store(out.blocks_of(source), image)
  stacks.predict_blocks(predict_fn, image, store, task)
  write_planes.write_all(image, store, task, out, files, source)
  shutil.rmtree(store.folder)
