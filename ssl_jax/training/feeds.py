"""Where the batches of a training come from: the host, one by one, or images on the device.

With images on the device several steps are one call, so that it never waits for the host. How many
makes no difference to the result; the program for batches of the host rounds differently.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grain
import jax
from jax import lax

from ssl_jax import parallel, settings
from ssl_jax.data import on_device
from ssl_jax.data.stream import Stream, batches
from ssl_jax.errors import UserError
from ssl_jax.types import Learner


class HostFeed:
  """Batches that the host loads, one step a call: `update(state, *arguments, key)`."""

  def __init__(self, update: Callable, streams_of_seeds: Sequence[Mapping[str, Stream]]):
    self.update = update
    self._streams = streams_of_seeds

  def calls(self, start: int, stop: int) -> Iterator[tuple[int, tuple]]:
    """Yields the last step of each call, and the call's arguments; threads read ahead."""
    for step, batch in enumerate(batches(self._streams, start, stop), start + 1):
      yield step, (parallel.shard(batch, len(self._streams)),)


@functools.lru_cache(maxsize=4)
def _jit_updates(
  update: Callable, canvases: tuple[tuple[str, tuple[int, ...]], ...], seeds: int
) -> Callable:
  """Compiles several steps as one call: state, stored images, plans, key -> state, figures.

  Cached, so that the seeds of a stage, which train one after another, share the program.
  """

  def updates(
    state: Any, data: Mapping[str, on_device.Stored], plans: on_device.Plans, key: jax.Array
  ) -> tuple[Any, Any]:
    def one(state: Any, plan: Any) -> tuple[Any, Any]:
      batch = {name: on_device.take(data[name], plan[name], canvas) for name, canvas in canvases}
      return update(state, batch, key)

    # Figures get a leading axis of steps.
    return lax.scan(one, state, plans)

  return parallel.jit_updates(updates, seeds)


class DeviceFeed:
  """Batches from images on the device: `update(state, *arguments, key)` does the steps of a call.

  Args:
    update: a learner's update of one step, not compiled.
    streams_of_seeds: the streams of each seed.
    per_call: steps in a call; calls end at its multiples.
  """

  def __init__(
    self, update: Callable, streams_of_seeds: Sequence[Mapping[str, Stream]], per_call: int
  ):
    self.per_call = per_call
    self._streams = streams_of_seeds
    stored = []
    for streams in streams_of_seeds:
      stored.append({name: on_device.store(stream) for name, stream in streams.items()})
    self._data = parallel.replicate(on_device.stack(stored))
    # Seeds have the same streams, of one canvas.
    canvases = {name: stream.canvas for name, stream in streams_of_seeds[0].items()}
    self.update = _jit_updates(update, tuple(canvases.items()), len(streams_of_seeds))

  def calls(self, start: int, stop: int) -> Iterator[tuple[int, tuple]]:
    """Yields the last step of each call, and the call's arguments; threads plan ahead."""
    if start >= stop:
      return
    # All calls end at multiples; the first is shorter where a resumed run begins between two.
    ends = [*range(start - start % self.per_call + self.per_call, stop, self.per_call), stop]
    ranges = [range(first, last) for first, last in itertools.pairwise([start, *ends])]

    def plan(steps: range) -> Any:
      of_seeds = []
      for streams in self._streams:
        of_seeds.append({name: on_device.plan(stream, steps) for name, stream in streams.items()})
      return parallel.stack_arrays(of_seeds)

    planned = grain.MapDataset.source(ranges).map(plan)
    ahead = planned.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
    for steps, plans in zip(ranges, ahead, strict=True):
      yield steps.stop, (self._data, parallel.shard_plans(plans, len(self._streams)))


def steps_per_call(most: int, *boundaries: int) -> int:
  """Returns the largest number of steps up to `most` of which all boundaries are multiples."""
  common = math.gcd(*boundaries)
  return max(n for n in range(1, min(most, common) + 1) if common % n == 0)


def make_feed(
  learner: Learner,
  update: Callable,
  streams: Sequence[Mapping[str, Stream]],
  loop: settings.Loop,
  kept: Sequence[int],
) -> HostFeed | DeviceFeed:
  """Returns where batches come from: the device, if images shall be there and fit, or the host.

  Args:
    learner: has the update of one step, not compiled.
    update: the same, compiled, for batches of the host.
    streams: of each seed.
    loop: says whether images shall be on the device, and when something is logged or saved.
    kept: steps whose checkpoints stay.

  Raises:
    UserError: if the images shall be on the device, and cannot.
  """
  wanted = loop.data_on_device
  if wanted is None:
    wanted = parallel.has_accelerator()
  if not wanted:
    return HostFeed(update, streams)
  if not on_device.fits(streams):
    if loop.data_on_device:
      raise UserError(
        'data_on_device=True, but the images do not fit into the memory of the device, or are '
        'cropped around objects (foreground_prob), or several processes train; leave it out.'
      )
    return HostFeed(update, streams)
  # A call must not go past a step at which something is logged, saved or scored.
  boundaries = (loop.log_every, loop.checkpoint_every, loop.eval_every, loop.steps, *kept)
  per_call = steps_per_call(loop.steps_per_call, *boundaries)
  return DeviceFeed(learner.update, streams, per_call)
