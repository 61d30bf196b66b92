"""From random-access sources to batches: a batch is a pure function of the seed and the step."""

import functools
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any

import grain
import numpy as np

from ssl_jax import parallel
from ssl_jax.data import dataset_stats
from ssl_jax.io import memmap_arrays
from ssl_jax.types import IGNORE, Record, Source


def canvas_size(source: Source, limit: int | None) -> tuple[int, ...]:
  """Returns the size that holds every sampled image, at most `limit` a side (None: no limit)."""
  # A sample suffices: a larger image that it misses is cropped like any other.
  indices = np.unique(np.linspace(0, len(source) - 1, dataset_stats.SAMPLED).astype(int))
  shapes = [source[int(index)]['image'].shape[:-1] for index in indices]
  return tuple(int(min(side, limit or side)) for side in np.max(shapes, axis=0))


def place_on_canvas(
  record: Record,
  canvas: tuple[int, ...],
  rng: np.random.Generator,
  foreground_prob: float | int = 0.0,
) -> dict[str, Any]:
  """Brings a record to the size of the canvas, so that records can be stacked to a batch.

  A smaller image lies at the top left and is padded (IGNORE in the label); of a larger one a random
  crop is taken.

  Args:
    record: an image with or without label and point.
    canvas: one length for each axis of space.
    rng: chooses the crop.
    foreground_prob: if above 0, the middle of the crop lies, as near as the borders let it, with
      this probability on a pixel of any class but the background, otherwise on one of the
      background.

  Returns:
    'image', 'extent' (the part of the canvas that is no padding, int32), and 'label' and 'point'
    where the record has them.
  """
  image = record['image']
  space = image.shape[:-1]
  is_larger = any(side > c for side, c in zip(space, canvas, strict=True))
  # In an image no larger than the canvas there is nothing to choose.
  if foreground_prob and 'label' in record and is_larger:
    corner = _balanced_corner(record, canvas, rng, foreground_prob)
  else:
    corner = _random_corner(space, canvas, rng)
  # A slice that ends beyond the image is cut by NumPy; padding fills the rest.
  crop = tuple(slice(start, start + c) for start, c in zip(corner, canvas, strict=True))
  extent = [min(side, c) for side, c in zip(space, canvas, strict=True)]
  padding = [(0, c - e) for c, e in zip(canvas, extent, strict=True)]
  # The padded pixels are 0. `extent` tells views which pixels they are, so that none is trained on.
  placed: dict[str, Any] = {
    'image': np.pad(image[crop], [*padding, (0, 0)]),
    'extent': np.array(extent, np.int32),
  }
  if 'label' in record:
    label = record['label']
    if isinstance(label, np.ndarray) and label.ndim > 0:
      placed['label'] = np.pad(label[crop], padding, constant_values=IGNORE)
    else:  # the one class of a patch
      placed['label'] = np.int32(label)
  if 'point' in record:
    # The cell in coordinates of the crop.
    placed['point'] = record['point'] - np.array(corner, np.float32)
  return placed


def _random_corner(
  space: Sequence[int], canvas: Sequence[int], rng: np.random.Generator
) -> list[int]:
  """The corner of a crop; uniform over all crops inside the image, 0 along an axis that fits."""
  corner = []
  for side, c in zip(space, canvas, strict=True):
    corner.append(int(rng.integers(max(side - c, 0) + 1)))
  return corner


def _balanced_corner(
  record: Record, canvas: tuple[int, ...], rng: np.random.Generator, foreground_prob: float | int
) -> list[int]:
  """The corner of a crop around a pixel of the foreground, or of the background."""
  label = np.asanyarray(record['label'])
  foreground = record.get('foreground')
  # Volumes bring these indices; looking for them reads the whole label.
  if foreground is None:
    foreground = memmap_arrays.foreground_indices(label)
  # A flat index into the label.
  index = memmap_arrays.draw_index(foreground, label.size, rng, foreground_prob)
  corner = []
  for middle, side, c in zip(
    np.unravel_index(index, label.shape), label.shape, canvas, strict=True
  ):
    # The drawn pixel is in the middle, unless the crop would leave the image.
    corner.append(int(np.clip(middle - c // 2, 0, max(side - c, 0))))
  return corner


class Stream:
  """An endless stream: `stream[step]` is this process's share of the step's batch.

  Args:
    source: the records.
    batch: how many records a batch has, of all processes together.
    canvas: the size of the images in a batch.
    seed: of the order and the crops.
    shuffle: whether every epoch has an order of its own; otherwise it is the source's.
    foreground_prob: as for `place_on_canvas`.
  """

  def __init__(
    self,
    source: Source,
    batch: int,
    canvas: tuple[int, ...],
    seed: int,
    shuffle: bool = True,
    foreground_prob: float | int = 0.0,
  ):
    self.source, self.batch, self.canvas = source, batch, canvas
    self.foreground_prob = foreground_prob
    self._seed, self._shuffle = seed, shuffle

    def place(record: Record, rng: np.random.Generator) -> dict[str, Any]:
      # Looked up now, because a stage that trains several seeds gives all of them one canvas.
      return place_on_canvas(record, self.canvas, rng, foreground_prob)

    self._examples = self._in_order(source).random_map(place)

  def _in_order(self, source: Any) -> grain.MapDataset:
    """The items of a source in the order of this stream, without end."""
    # Grain derives the order and the numbers for `place` from the seed and the index alone, so a
    # resumed run gets the same batches without reading those before.
    examples = grain.MapDataset.source(source).seed(self._seed)
    if self._shuffle:
      examples = examples.shuffle()
    return examples.repeat()

  def _rows(self, examples: grain.MapDataset, step: int) -> dict[str, np.ndarray]:
    # Only the rows of this process are read; together the processes load the whole batch.
    first = step * self.batch
    rows: list[Any] = [examples[first + row] for row in parallel.process_rows(self.batch)]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

  def __getitem__(self, step: int) -> dict[str, np.ndarray]:
    return self._rows(self._examples, step)

  def names(self, step: int) -> list[str]:
    """Returns the names of the images of a step, of all processes."""
    order = self._in_order(range(len(self.source)))
    first = step * self.batch
    rows: list[Any] = [order[row] for row in range(first, first + self.batch)]
    return [str(self.source[row]['name']) for row in rows]

  def plan(self, step: int) -> dict[str, np.ndarray]:
    """Returns the images of a step by number, 'row' [B], and the 'corner' [B, n] of each crop.

    It reads no image, once it knows their sizes; `foreground_prob` is not regarded.
    """
    return self._rows(self._plans, step)

  @functools.cached_property
  def _plans(self) -> grain.MapDataset:
    # Sizes are needed, because a crop is uniform over all that lie in the image.
    with futures.ThreadPoolExecutor() as readers:
      read = readers.map(self.source.__getitem__, range(len(self.source)))
      spaces = [record['image'].shape[:-1] for record in read]
    rows = self._in_order(range(len(spaces)))

    def plan(row: int, rng: np.random.Generator) -> dict[str, Any]:
      corner = _random_corner(spaces[row], self.canvas, rng)
      return {'row': np.int32(row), 'corner': np.array(corner, np.int32)}

    return rows.random_map(plan)


def share_canvases(streams_of_seeds: Sequence[Mapping[str, Stream]]) -> None:
  """Gives streams of one name one canvas, which holds that of each."""
  for name in streams_of_seeds[0]:
    of_seeds = [streams[name] for streams in streams_of_seeds]
    largest = np.max([stream.canvas for stream in of_seeds], axis=0)
    for stream in of_seeds:
      stream.canvas = tuple(int(side) for side in largest)


def stream_seed(seed: int, name: str) -> int:
  """Returns a seed for the stream of this name; it is the same in all runs and on all machines."""
  # crc32, because Python's `hash` of a text differs from process to process. The large factor keeps
  # the streams of neighboring seeds apart.
  return (seed * 1_000_003 + zlib.crc32(name.encode())) % 2**31


def member_seed(seed: int, member: int) -> int:
  """Returns the seed of an ensemble member; of member 0 it is the seed itself."""
  # A large step: a member never gets the small seed of another run.
  return (seed + 1_000_033 * member) % 2**31


def batches(
  streams_of_seeds: Sequence[Mapping[str, Stream]], start: int, stop: int
) -> Iterator[dict[str, Any]]:
  """Yields the batches of the steps start..stop-1, by stream; threads read ahead.

  Each array has a leading axis for the seeds, unless there is only one.
  """
  if start >= stop:
    return iter(())

  def batch(step: int) -> dict[str, Any]:
    of_seeds = []
    for streams in streams_of_seeds:
      of_seeds.append({name: stream[step] for name, stream in streams.items()})
    # [seeds, B, ...]
    return parallel.stack_arrays(of_seeds)

  # Two threads prepare up to four batches while the device computes on the current one.
  steps = grain.MapDataset.range(start, stop).map(batch)
  return iter(steps.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)))
