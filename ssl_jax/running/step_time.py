"""How long trainings take on this machine: one update measured, a whole run estimated."""

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from ssl_jax import build, parallel
from ssl_jax.data import dataset_stats, stream
from ssl_jax.errors import Stopped, UserError
from ssl_jax.parsing import stage_list
from ssl_jax.parsing.stage_list import StageSpec
from ssl_jax.settings import Inputs, Learning, Settings
from ssl_jax.types import Splits

FEWEST, MOST = 5, 40
"""Updates that are timed, the compiled one not counted."""

ENOUGH = 10.0
"""Seconds after which no further update is timed."""

COMPILES = 1.5
"""What a training compiles, its prediction included, where its update alone counts 1."""

PASSES = {'segment': 8.0}
"""Stages that predict whole test images: how many times they see each pixel (windows overlap)."""


class StepTime(NamedTuple):
  """What was measured of one training."""

  seconds: float  # of an update
  compile_seconds: float
  work: float  # of the training that was timed, see `work`


def work(settings: Settings) -> float:
  """How much a step of a stage computes, in images that are learned from.

  An image of which another view is made is only predicted, by the teacher: a third of the work.
  """
  streams = stage_list.view_streams(settings.views)
  sources = {view['source'] for name, view in settings.views.items() if view['source'] != name}
  total = 0.0
  for name, stream_name in streams.items():
    only_predicted = name in sources and name not in settings.batch
    total += settings.batch.get(stream_name, 0) * (1 / 3 if only_predicted else 1)
  return total


def costliest(specs: Sequence[StageSpec]) -> StageSpec:
  """The training whose steps compute the most, of those that read the data set alone.

  Raises:
    UserError: if there is none.
  """
  # Streams that earlier stages write are not there yet.
  trainings = [
    spec
    for spec in specs
    if spec.run == 'train' and set(spec.settings.batch) <= {'labeled', 'unlabeled'}
  ]
  if not trainings:
    raise UserError('No stage trains on the images alone, so no step can be timed; set steps.')
  return max(trainings, key=lambda spec: work(spec.settings))


def seeds_together(settings: Settings) -> int:
  """The number of seeds that one program trains, as stages/train.py does."""
  vmap_seeds = settings.vmap_seeds
  if vmap_seeds is None:
    vmap_seeds = parallel.has_accelerator()
  return settings.num_seeds if vmap_seeds else 1


def measure(settings: Settings, splits: Splits, stop: Callable[[], bool]) -> StepTime:
  """Times updates of a state that is thrown away, on real batches, their reading included.

  Raises:
    Stopped: if it was asked to stop.
  """
  inputs = settings.part(Inputs)
  stats = dataset_stats.compute_stats(splits, settings.normalize)
  learner = build.learner(settings.part(Learning), inputs, settings.steps, stats)
  together = seeds_together(settings)
  seeds = range(settings.seed, settings.seed + together)
  # The same program as the training's, but for the numbers that are about to be decided.
  update = parallel.jit_update(learner.update, together)
  init = parallel.jit_init(learner.init)
  example = np.zeros((1, *settings.crop_size, stats.channels), np.float32)
  keys = [jax.random.key(seed) for seed in seeds]
  state = parallel.stack([init(key, example, learner.normalization) for key in keys])
  key = parallel.stack(keys)
  streams = [build.streams(inputs, splits, seed) for seed in seeds]
  durations: list[float] = []
  began = time.perf_counter()
  for batch in stream.batches(streams, 0, MOST + 1):
    if stop():
      raise Stopped('Stopped before the first training began; the same command starts it.')
    state, metrics = update(state, parallel.shard(batch, together), key)
    jax.block_until_ready(metrics)
    now = time.perf_counter()
    durations.append(now - began)
    began = now
    # All processes of a run must take the same number of updates.
    timed = len(durations) - 1
    if timed >= FEWEST and parallel.from_main(sum(durations[1:])) > ENOUGH:
      break
  # Not the first: it was compiled, and while it was, batches were read ahead.
  seconds = parallel.from_main(float(np.median(durations[1:])))
  return StepTime(seconds, parallel.from_main(durations[0]), work(settings))


def run_seconds(specs: Sequence[StageSpec], timed: StepTime, splits: Splits) -> float:
  """Roughly how long a whole run takes: trainings of all seeds, evaluations, predictions."""
  pixels = sum(_pixels(source) for source in (splits.val, splits.test))
  total = 0.0
  for spec in specs:
    settings = spec.settings
    crop = math.prod(settings.crop_size)
    # A step sees each pixel forward and backward, which takes three times as long as to predict.
    of_pixel = timed.seconds / (3 * timed.work * crop)
    if spec.run == 'train':
      together = seeds_together(settings)
      evaluations = settings.steps // settings.eval_every + 2
      step = timed.seconds * work(settings) / timed.work
      steps = settings.steps
      if spec.stage_kwargs.get('equal_minutes'):
        # As many of them as take the time of the costliest.
        steps = round(steps * timed.work / work(settings))
      one = steps * step + evaluations * pixels * of_pixel
      # What is compiled for the first seed serves the others.
      total += COMPILES * timed.compile_seconds + one * settings.num_seeds / together
    elif spec.run == 'detect':
      # Windows of the crop's size, `stride` pixels apart.
      windows = crop / spec.stage_kwargs.get('stride', 8) ** 2
      total += pixels * of_pixel * windows * settings.num_seeds
    else:
      total += pixels * of_pixel * PASSES.get(spec.run, 0.0) * settings.num_seeds
  return total


def _pixels(source: object) -> float:
  """Pixels of all images of a split, from a sample of them."""
  if source is None:
    return 0.0
  indices = dataset_stats.sampled_indices(source)[:8]
  sizes = [math.prod(source[index]['image'].shape[:-1]) for index in indices]
  return float(np.mean(sizes)) * len(source)


def in_words(seconds: float | int) -> str:
  """A time for people: '40 seconds', '25 minutes', '3 hours 10 minutes'."""
  if seconds < 10:
    return 'a few seconds'
  if seconds < 90:
    return f'{round(seconds)} seconds'
  minutes = round(seconds / 60)
  if minutes < 120:
    return f'{minutes} minutes'
  # Nobody needs the minute of an estimate of hours.
  hours, rest = divmod(round(minutes / 10) * 10, 60)
  return f'{hours} hours {rest} minutes' if rest else f'{hours} hours'
