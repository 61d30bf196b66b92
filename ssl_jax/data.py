"""From random-access sources to batches: the batch is a pure function of the seed and the step."""

import csv
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grain
import jax
import numpy as np

from ssl_jax import images, masks, parallel, pieces
from ssl_jax.types import IGNORE, MASKS, Source, Splits

SAMPLE = 256
"""Images looked at to find the intensities and the canvas; all of them in a small set."""
PIXELS = 2**30
"""Of large images and volumes, only as many are looked at as hold so many pixels."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Facts(NamedTuple):
  """What was found in the data and prediction needs: kept beside the checkpoints as data.json."""

  classes: tuple[str, ...]
  channels: int
  intensity: tuple[float, float] | None  # raw values that became 0 and 1; None for 8 bits
  mean: tuple[float, ...]  # of the training images in [0, 1], per channel
  std: tuple[float, ...]
  counts: Mapping[str, int]  # images per split
  fingerprint: int  # of images, masks and splits: a resumed run must see the same
  task: str = MASKS
  scale: float = 1.0  # how much smaller than their files the images were
  preparation: Mapping | None = None  # how volumes were prepared

  def standardize(self, pixels: Any) -> Any:
    """[..., C] in [0, 1] -> zero mean, unit variance per channel, as the network wants it."""
    return (pixels - np.float32(self.mean)) / np.float32(self.std)


def unit(image: np.ndarray) -> np.ndarray:
  """uint8 or float32 [..., C] -> float32 in [0, 1]."""
  return image.astype(np.float32) / 255 if image.dtype == np.uint8 else image


def _spread(source: Source) -> list[int]:
  """Indices from the first to the last image, at most SAMPLE, and of PIXELS in all."""
  most = int(np.clip(PIXELS // np.prod(source[0]['image'].shape[:-1]), 2, SAMPLE))
  return np.unique(np.linspace(0, len(source) - 1, most).astype(int)).tolist()


def _sample(splits: Splits) -> Iterator[np.ndarray]:
  for source in (splits.labeled, splits.unlabeled):
    if source is not None:
      for index in _spread(source):
        yield source[index]['image']


def _per_channel(image: np.ndarray) -> np.ndarray:
  return image.mean(tuple(range(image.ndim - 1)))


def _ends(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  axes = tuple(range(image.ndim - 1))
  return image.min(axes), image.max(axes)


def find_facts(splits: Splits, normalize: str = 'data') -> Facts:
  """Reads what prediction will need off the training images, never off val or test.

  `normalize`: 'data' for the training images' own mean and deviation, 'minmax' for their minimum
  and maximum, which become 0 and 1, 'imagenet' for ImageNet's mean and deviation.
  """
  sums = [(_per_channel(x), _per_channel(x**2)) for x in map(unit, _sample(splits))]
  mean, square = (np.mean([s[i] for s in sums], axis=0) for i in (0, 1))
  std = np.sqrt(np.maximum(square - mean**2, 1e-6))
  channels = len(mean)
  if normalize == 'imagenet' and channels == 3:
    mean, std = IMAGENET
  if normalize == 'minmax':
    low = np.min([_ends(image)[0] for image in map(unit, _sample(splits))], 0)
    high = np.max([_ends(image)[1] for image in map(unit, _sample(splits))], 0)
    mean, std = low, np.maximum(high - low, 1e-3)
  named = {n: getattr(splits, n) for n in ('labeled', 'unlabeled', 'val', 'test')}
  counts = {n: len(source) for n, source in named.items() if source is not None}
  return Facts(
    classes=tuple(splits.classes),
    channels=channels,
    intensity=splits.intensity,
    mean=tuple(round(float(m), 6) for m in mean),
    std=tuple(round(float(s), 6) for s in std),
    counts=counts,
    fingerprint=zlib.crc32(repr((*counts.items(), splits.digest)).encode()),
    task=splits.task,
    scale=splits.scale,
    preparation=splits.preparation,
  )


def class_shares(source: Source, classes: Sequence[str]) -> dict[str, float]:
  """The share of each class among the labeled pixels (or patches) of a sample."""
  total = np.zeros(len(classes))
  for index in _spread(source):
    label = np.asarray(source[index]['label'])
    total += np.bincount(label[label != IGNORE], minlength=len(classes))[: len(classes)]
  return dict(zip(classes, (total / max(total.sum(), 1)).tolist(), strict=True))


def canvas_of(source: Source, limit: int | None) -> tuple[int, ...]:
  """The size that holds every sampled image, at most `limit` a side (None: no limit)."""
  indices = np.unique(np.linspace(0, len(source) - 1, SAMPLE).astype(int))
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
  marked = record.get(pieces.MARKED)
  marked = pieces.foreground(label) if marked is None else marked
  middle = np.unravel_index(pieces.draw(marked, label.size, rng, foreground), label.shape)
  room = [max(s - c, 0) for s, c in zip(label.shape, canvas, strict=True)]
  return [int(np.clip(m - c // 2, 0, r)) for m, c, r in zip(middle, canvas, room, strict=True)]


class PseudoLabeled:
  """A Source of unlabeled images with the masks that a stage wrote for some of them.

  Each of `folders` holds masks/ and labels.csv, whose first two columns are the index of an
  image in `source` and its name.
  """

  def __init__(self, source: Source, folders: Sequence[Path]):
    self._source, self._rows = source, []
    for folder in folders:
      with (folder / 'labels.csv').open(newline='') as file:
        rows = [(int(row['index']), row['name']) for row in csv.DictReader(file)]
      self._rows += [(index, folder, name) for index, name in rows]

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, index: int) -> dict:
    at, folder, name = self._rows[index]
    record = {key: value for key, value in self._source[at].items() if key != pieces.MARKED}
    return record | masks.taught(folder, name)


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
    rows = [self.examples[step * self.batch + row] for row in parallel.rows(self.batch)]
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


def prepared(image: np.ndarray, facts: Facts, name: str) -> np.ndarray:
  """A new image as training saw its own: float32 [h, w, facts.channels] in [0, 1], scaled."""
  ready = images.to_channels(images.rescale(image, facts.intensity, name), facts.channels, name)
  if facts.scale == 1:
    return ready
  size = [max(round(n * facts.scale), 1) for n in ready.shape[:2]]
  return images.resized(ready, size, smooth=True)
