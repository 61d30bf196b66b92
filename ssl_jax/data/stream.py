"""From random-access sources to batches: the batch is a pure function of the seed and the step."""

import zlib
from collections.abc import Iterator, Mapping, Sequence

import grain
import jax
import numpy as np

from ssl_jax import parallel
from ssl_jax.data import dataset_stats
from ssl_jax.io import memmap_arrays
from ssl_jax.types import IGNORE, Source


def canvas_of(source: Source, limit: int | None) -> tuple[int, ...]:
  """The size that holds every sampled image, at most `limit` a side (None: no limit)."""
  indices = np.unique(np.linspace(0, len(source) - 1, dataset_stats.SAMPLE).astype(int))
  largest = np.max([source[int(i)]['image'].shape[:-1] for i in indices], axis=0)
  return tuple(int(min(side, limit or side)) for side in largest)


def place(
  record: Mapping, canvas: tuple[int, ...], rng: np.random.Generator, foreground: float = 0.0
) -> dict:
  """One record on the canvas: padded at the bottom/right, a random piece where it is larger.

  With `foreground` the middle of the piece lies, as near as the borders let it, with that
  probability on a pixel of any class but the background, else on one of the background.
  """
  image = record['image']
  space = image.shape[:-1]
  if foreground and 'label' in record and any(s > c for s, c in zip(space, canvas, strict=True)):
    corner = _balanced(record, canvas, rng, foreground)
  else:
    corner = [int(rng.integers(max(s - c, 0) + 1)) for s, c in zip(space, canvas, strict=True)]
  piece = tuple(slice(at, at + c) for at, c in zip(corner, canvas, strict=True))
  extent = [min(s, c) for s, c in zip(space, canvas, strict=True)]
  margin = [(0, c - e) for c, e in zip(canvas, extent, strict=True)]
  placed = {
    'image': np.pad(image[piece], [*margin, (0, 0)]),
    'extent': np.array(extent, np.int32),
  }
  if 'label' in record:
    label = record['label']
    of_pixels = np.ndim(label) > 0
    placed['label'] = (
      np.pad(label[piece], margin, constant_values=IGNORE) if of_pixels else np.int32(label)
    )
  if 'point' in record:
    placed['point'] = record['point'] - np.array(corner, np.float32)
  return placed


def _balanced(
  record: Mapping, canvas: tuple[int, ...], rng: np.random.Generator, foreground: float
) -> list[int]:
  """The corner of a piece about a pixel of the foreground, or of the background."""
  label = record['label']
  marked = record.get(memmap_arrays.MARKED)
  marked = memmap_arrays.foreground(label) if marked is None else marked
  middle = np.unravel_index(memmap_arrays.draw(marked, label.size, rng, foreground), label.shape)
  room = [max(s - c, 0) for s, c in zip(label.shape, canvas, strict=True)]
  return [int(np.clip(m - c // 2, 0, r)) for m, c, r in zip(middle, canvas, room, strict=True)]


class Stream:
  """An endless stream: `stream[step]` is this process's share of the step's batch.

  Every epoch has an order of its own, or the source's where it is not to `shuffle`; `foreground` is
  as `place` takes it.
  """

  def __init__(
    self,
    source: Source,
    batch: int,
    canvas: tuple[int, ...],
    seed: int,
    shuffle: bool = True,
    foreground: float = 0.0,
  ):
    self.batch = batch
    examples = grain.MapDataset.source(source).seed(seed)
    examples = examples.shuffle() if shuffle else examples
    self.examples = examples.repeat().random_map(
      lambda record, rng: place(record, canvas, rng, foreground)
    )

  def __getitem__(self, step: int) -> dict[str, np.ndarray]:
    rows = [self.examples[step * self.batch + row] for row in parallel.process_rows(self.batch)]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def stream_seed(seed: int, name: str) -> int:
  """A seed of its own for each stream, stable between runs and machines."""
  return (seed * 1_000_003 + zlib.crc32(name.encode())) % 2**31


def member_seed(seed: int, member: int) -> int:
  """What the random numbers of a member of an ensemble follow from; of member 0 it is the seed."""
  return (seed + 1_000_033 * member) % 2**31


def batches(seeds: Sequence[Mapping[str, Stream]], start: int, stop: int) -> Iterator[dict]:
  """Batches of the steps start..stop-1, read ahead by threads while the device works.

  Each array has the leading axis of the seeds, unless there is only one.
  """
  if start >= stop:
    return iter(())

  def batch(step: int) -> dict:
    each = [{name: stream[step] for name, stream in streams.items()} for streams in seeds]
    return each[0] if len(each) == 1 else jax.tree.map(lambda *rows: np.stack(rows), *each)

  steps = grain.MapDataset.range(start, stop).map(batch)
  return iter(steps.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)))
