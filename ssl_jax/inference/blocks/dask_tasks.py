"""What a worker of Dask does for `predict`: groups of files, and planes, tiles and blocks of one.

Each function takes a Call and its other arguments as bytes, so that Dask need not look into them;
arrays of tiles come from other tasks, and Dask moves them. Networks are kept by the process.
"""

import pickle
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from ssl_jax import build, parallel
from ssl_jax.data.masks.image_kind import FileNotes
from ssl_jax.errors import UserError
from ssl_jax.inference import run_networks
from ssl_jax.inference.averaging import Copy
from ssl_jax.inference.blocks import stacks, write_planes
from ssl_jax.inference.blocks.block_store import BlockStore
from ssl_jax.inference.blocks.regions import GivenTiles, PlaneRegions, TileStore
from ssl_jax.inference.blocks.stacks import BlockTask
from ssl_jax.inference.images import ImagePredictor, multiple_of
from ssl_jax.inference.shared_shapes import Size
from ssl_jax.inference.write_predictions import Task
from ssl_jax.inference.writing.input_files import Files, Job
from ssl_jax.inference.writing.prediction_folder import PredictionFolder, Record, Written
from ssl_jax.io.folders import lock
from ssl_jax.io.stacks.planes import Planes
from ssl_jax.running import dask_worker
from ssl_jax.types import PredictFn


class NetworkChoice(NamedTuple):
  """Which networks predict, and how."""

  run: str  # absolute path
  seed: int | None
  copies: tuple[Copy, ...]
  spread: bool
  digest: str  # of what they are: those of a training that goes on are others later


class Call(NamedTuple):
  """A call of `predict`, as its tasks know it."""

  chosen: NetworkChoice
  task: Task
  versions: bytes  # see dask_worker.check_here
  out: Path | None = None  # absolute; None before there is a folder
  round: int = 0  # of the folder's record
  holder: str = ''  # the text of the folder's lock
  sizes: tuple[tuple[Size, int], ...] = ()  # of all images, with their numbers


class Outcome(NamedTuple):
  """What became of some files."""

  refused: Sequence[str]
  said: Sequence[str]
  notes: FileNotes
  lines: Sequence[tuple[str, Written]]  # of the record


class GivenFiles(Files):
  """Files that a task names; what there is to say is kept for the outcome."""

  def __init__(self, jobs: Sequence[Job]):
    super().__init__()
    self._jobs = jobs
    self.said: list[str] = []

  def __iter__(self) -> Iterator[Job]:
    yield from self._jobs

  def say(self, sentence: str) -> None:
    """Keeps a sentence."""
    self.said.append(sentence)


class SharedFolder(PredictionFolder):
  """The folder of predictions as a worker sees it; the process that was called keeps the record."""

  def __init__(self, call: Call):
    assert call.out is not None
    super().__init__(call.out, True, Record(call.round, {}))
    self._holder = call.holder
    self.lines: list[tuple[str, Written]] = []

  def _append(self, file: str, line: Written) -> None:
    # A call that was killed has left tasks behind, and the folder may be another call's by now.
    if lock.text(self.path) != self._holder:
      raise UserError(f'{self.path} no longer belongs to the call that this task is of.')
    if line.sha256 is not None:
      self.lines.append((file, line))


class _Loaded(NamedTuple):
  """Networks that a worker keeps."""

  chosen: NetworkChoice
  predict_fn: PredictFn
  notes: Sequence[str]


_kept: list[_Loaded] = []
_loading = threading.Lock()


def _networks(call: Call) -> _Loaded:
  """The networks of a call, which the process loads once."""
  dask_worker.check_here(call.versions)
  with _loading:
    if not _kept or _kept[0].chosen != call.chosen:
      # Before the others are loaded, for whom there may be no memory beside them.
      _kept.clear()
      logging.set_verbosity(logging.FATAL)
      build.keep_compiled()
      parallel.check_devices()
      networks = run_networks.find(Path(call.chosen.run), call.chosen.seed)
      predict_fn, notes = networks.predict_fn(call.chosen.copies, call.chosen.spread)
      _kept.append(_Loaded(call.chosen, predict_fn, notes))
    return _kept[0]


def _predict_fn(call: Call) -> PredictFn:
  """The networks of a call, as images of its sizes go through them."""
  predict_fn = _networks(call).predict_fn
  if not isinstance(predict_fn, ImagePredictor):
    return predict_fn
  return predict_fn._replace(sizes=call.sizes)


def load(payload: bytes) -> tuple[Sequence[str], int]:
  """Loads the networks; returns notes on them, and of what the sides of their tiles are multiples.

  Raises:
    UserError: if a network cannot predict yet.
  """
  loaded = _networks(pickle.loads(payload))
  return loaded.notes, multiple_of(loaded.predict_fn)


def predict_files(payload: bytes) -> Outcome:
  """Predicts and writes whole images, or volumes."""
  call, jobs = pickle.loads(payload)
  files, out = GivenFiles(jobs), SharedFolder(call)
  call.task.predict(_predict_fn(call), files, out)
  return Outcome(files.refused, files.said, files.notes, out.lines)


class StackJob(NamedTuple):
  """A stack or a large image, whose parts are tasks of their own."""

  job: Job  # without its planes, which each worker opens
  folder: Path  # of its blocks
  task: BlockTask
  axes: str | None


_opened: list[tuple[StackJob, Planes]] = []


def _open(stack: StackJob) -> tuple[Planes, BlockStore]:
  """The planes of a file and its blocks; the file stays open while its parts are predicted."""
  with _loading:
    if not _opened or _opened[0][0].folder != stack.folder:
      for _, image in _opened:
        image.close()
      _opened.clear()
      image = stacks.open_planes(stack.job.source.path, stack.axes)
      assert image is not None  # it was opened by the process that was called
      _opened.append((stack, image))
    image = _opened[0][1]
  return image, stack.task.store(stack.folder, image)


def predict_planes(payload: bytes) -> None:
  """Predicts and stores small planes of a stack."""
  call, stack, blocks = pickle.loads(payload)
  predict_fn = _predict_fn(call)
  image, store = _open(stack)
  for block, data in stacks.whole_planes(predict_fn, image, store.grid, blocks, stack.task):
    store.write(block, data)


def predict_tile(payload: bytes) -> np.ndarray:
  """Returns the class probabilities [h, w, k] of a tile of a large plane."""
  call, stack, plane, tile = pickle.loads(payload)
  predict_fn = _predict_fn(call)
  image, _ = _open(stack)
  return _regions(predict_fn, image, plane, stack, TileStore(None)).tile(*tile)


def predict_block(payload: bytes, *tiles: np.ndarray) -> None:
  """Puts a block of a large plane together from its tiles, and stores it."""
  call, stack, block, places = pickle.loads(payload)
  predict_fn = _predict_fn(call)
  image, store = _open(stack)
  given = GivenTiles(dict(zip(places, tiles, strict=True)))
  regions = _regions(predict_fn, image, block.plane, stack, given)
  store.write(block, stacks.block_of_tiles(regions, image, store.grid, block, stack.task))


def _regions(
  predict_fn: PredictFn, image: Planes, plane: int, stack: StackJob, tiles: TileStore
) -> PlaneRegions:
  return PlaneRegions(predict_fn, image, plane, stack.task.stats, stack.task.budget, tiles)


def write_stack(payload: bytes) -> Outcome:
  """Writes the files of a stack or a large image whose blocks are stored."""
  call, stack = pickle.loads(payload)
  dask_worker.check_here(call.versions)
  files, out = GivenFiles([stack.job]), SharedFolder(call)
  source = stack.job.source

  def write() -> None:
    image, store = _open(stack)
    write_planes.write_all(image, store, stack.task, out, stack.job.files, source)

  files.attempt(source.path, write)
  return Outcome(files.refused, files.said, files.notes, out.lines)
