"""Training images that stay in the memory of the device, from which each step takes its batch.

The host only says which images a step takes, and where it crops them; batches are, to the bit,
those of `stream.batches`.
"""

from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from jax import lax

from ssl_jax.data import dataset_stats
from ssl_jax.data.stream import Stream
from ssl_jax.types import IGNORE, Source

MEMORY_SHARE = 0.3
"""Share of the device's memory that images may take; the rest is the network's."""

READERS = 16
"""Threads that read images: decoding them leaves Python's lock."""


class Stored(NamedTuple):
  """The records of a stream as arrays: images at the top left, filled up to one size."""

  image: Any  # [N, *largest, C]
  extent: Any  # [N, n] int32: the size of each image
  label: Any = None  # [N, *largest], or [N] of patches
  point: Any = None  # [N, n]


Plans = Mapping[str, Mapping[str, Any]]
"""By stream, what a step takes: 'row' [B] and 'corner' [B, n], int32."""


def fits(streams_of_seeds: Sequence[Mapping[str, Stream]]) -> bool:
  """Returns whether the images of all seeds fit beside a network, and can be taken from there.

  Crops around objects are chosen by labels, which stay on the host; several processes would need
  the images of all.
  """
  if jax.process_count() > 1:
    return False
  limit = MEMORY_SHARE * _device_memory()
  for streams in streams_of_seeds:
    for stream in streams.values():
      if stream.foreground_prob:
        return False
      limit -= _size_estimate(stream.source)
      if limit < 0:
        return False
  return True


def _device_memory() -> float:
  """Bytes of memory that the device has; of a CPU, the machine's."""
  statistics = jax.local_devices()[0].memory_stats()
  if statistics and 'bytes_limit' in statistics:
    return float(statistics['bytes_limit'])
  return float(psutil.virtual_memory().total)


def _size_estimate(source: Source) -> float:
  """Bytes of a stored source, from a sample of its records."""
  indices = np.unique(np.linspace(0, len(source) - 1, dataset_stats.SAMPLED).astype(int))
  sizes = [source[int(index)]['image'] for index in indices]
  largest = np.max([image.shape for image in sizes], axis=0)
  # One byte more a pixel for the label.
  bytes_per_pixel = sizes[0].shape[-1] * sizes[0].dtype.itemsize + 1
  return float(len(source) * np.prod(largest[:-1], dtype=float) * bytes_per_pixel)


def store(stream: Stream) -> Stored:
  """Reads all records of a stream into arrays on the host."""
  with futures.ThreadPoolExecutor(READERS) as readers:
    records = list(readers.map(stream.source.__getitem__, range(len(stream.source))))
  images = [record['image'] for record in records]
  extent = np.array([image.shape[:-1] for image in images], np.int32)
  # At least the canvas, so that every crop lies within.
  largest = np.maximum(extent.max(axis=0), stream.canvas)
  dtype = np.result_type(*{image.dtype for image in images})
  stored = np.zeros((len(images), *largest, images[0].shape[-1]), dtype)
  for row, image in enumerate(images):
    stored[(row, *(slice(side) for side in image.shape[:-1]))] = image
  label = None
  if 'label' in records[0]:
    labels = [np.asarray(record['label']) for record in records if 'label' in record]
    if labels[0].ndim:
      label = np.full((len(labels), *largest), IGNORE, np.result_type(*{x.dtype for x in labels}))
      for row, mask in enumerate(labels):
        label[(row, *(slice(side) for side in mask.shape))] = mask
    else:  # the one class of a patch
      label = np.array(labels, np.int32)
  point = None
  if 'point' in records[0]:
    point = np.stack([record['point'] for record in records if 'point' in record])
  return Stored(stored, extent, label, point)


def take(stored: Stored, plan: Mapping[str, jax.Array], canvas: Sequence[int]) -> dict[str, Any]:
  """Returns the batch that a plan asks for, as `stream.place_on_canvas` makes it of each record."""
  row, corner = plan['row'], plan['corner']

  def crop(images: jax.Array) -> jax.Array:
    # Axes behind those of space, which are the channels, are taken whole.
    rest = images.shape[1 + len(canvas) :]

    def one(index: jax.Array, start: jax.Array) -> jax.Array:
      starts = [index, *start, *(0 for _ in rest)]
      return lax.dynamic_slice(images, starts, (1, *canvas, *rest))[0]

    return jax.vmap(one)(row, corner)

  extent = jnp.minimum(stored.extent[row], jnp.array(canvas, jnp.int32))
  batch: dict[str, Any] = {'image': crop(stored.image), 'extent': extent}
  if stored.label is not None:
    batch['label'] = crop(stored.label) if stored.label.ndim > 1 else stored.label[row]
  if stored.point is not None:
    batch['point'] = stored.point[row] - corner.astype(jnp.float32)
  return batch


def plan(stream: Stream, steps: range) -> dict[str, np.ndarray]:
  """Returns the plans of the steps of a call, [steps, B] and [steps, B, n]."""
  plans = [stream.plan(step) for step in steps]
  return {name: np.stack([plan[name] for plan in plans]) for name in plans[0]}


def stack(of_seeds: Sequence[Mapping[str, Stored]]) -> Any:
  """Joins the images of several seeds along a new first axis; those of one are returned."""
  if len(of_seeds) == 1:
    return of_seeds[0]
  joined = {}
  for name in of_seeds[0]:
    parts = [stored[name] for stored in of_seeds]
    fields = []
    for of_field in zip(*parts, strict=True):
      fields.append(None if of_field[0] is None else _stack_padded(of_field))
    joined[name] = Stored(*fields)
  return joined


def _stack_padded(arrays: Sequence[np.ndarray]) -> np.ndarray:
  """Stacks arrays after padding them at their ends to one shape; no plan asks for the padding."""
  shape = np.max([array.shape for array in arrays], axis=0)
  padded = []
  for array in arrays:
    widths = [(0, int(more)) for more in shape - array.shape]
    padded.append(np.pad(array, widths))
  return np.stack(padded)
