"""The loop: batches in, a state out; it can be killed at any moment and goes on where it was."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from ssl_jax import parallel
from ssl_jax.data import stream as data
from ssl_jax.errors import Stopped, UserError
from ssl_jax.io.run_log import RunLog
from ssl_jax.training import collapse
from ssl_jax.training.checkpoint import Checkpoints
from ssl_jax.training.learner import first_nonfinite
from ssl_jax.types import Learner, TrainState

Evaluate = Callable[[TrainState, bool], dict[str, float]]
"""A state -> its scores; all of them, or (False) only those by which the best is found."""


KNOBS = ('steps', 'eval_every', 'checkpoint_every', 'log_every', 'tensorboard', 'snapshots')
"""Fields of a config that `train` takes as they are."""


class SeedRun:
  """One of the seeds that train together: its number, its streams, and its own folder.

  `begin` changes the fresh state that training without a checkpoint starts from; `drawn` is what
  random numbers follow from where it is not the number.
  """

  def __init__(
    self,
    number: int,
    streams: Mapping[str, data.Stream],
    folder: Path,
    begin: Callable[[TrainState], TrainState] = lambda state: state,
    drawn: int | None = None,
  ):
    self.number, self.streams, self.folder, self.begin = number, streams, folder, begin
    self.key = jax.random.key(number if drawn is None else drawn)
    self.checkpoints: Checkpoints
    self.record: RunLog


def train(
  learner: Learner,
  update: Callable,
  seeds: Sequence[SeedRun],
  example: np.ndarray,
  evaluate: Evaluate,
  *,
  label: str,
  steps: int,
  eval_every: int,
  checkpoint_every: int,
  log_every: int,
  snapshots: int = 1,
  best: Sequence[str] = (),
  alarm: Callable[[Mapping[str, float]], list[str]] = lambda figures: [],
  tensorboard: bool = False,
  stop: Callable[[], bool] = lambda: False,
) -> list[TrainState]:
  """Trains to `steps` updates, from the latest checkpoints of the seeds' folders if there are any.

  `update` is the compiled `learner.update`, mapped over states, batches and keys where there are
  several seeds; `example` is one image [1, *size, C]. The checkpoints that end `snapshots` equal
  parts of the steps are kept, and those with the `best` of these figures. What `alarm` says of the
  figures of a window is told, once a seed, when training should have settled. Raises Stopped, after
  a save, once `stop()` is true, and UserError where a loss or the gradient is not finite.
  """
  kept = [round(steps * part / snapshots) for part in range(1, snapshots + 1)]
  for seed in seeds:
    seed.checkpoints = Checkpoints(seed.folder / 'checkpoints', best=best, always=kept)
  state, start = _begin(learner, seeds, example)
  for seed in seeds:
    seed.record = RunLog(seed.folder, start, tensorboard)
  key = parallel.stack([seed.key for seed in seeds])
  window, began, told = [], time.perf_counter(), set()
  images = sum(stream.batch for seed in seeds for stream in seed.streams.values())
  bar = _bar(label, start, steps)
  bar.set_postfix_str('compiling')

  def flush(step: int) -> None:
    nonlocal window, began
    each = parallel.unstack(_stacked(window), len(seeds))
    rate = len(window) / (time.perf_counter() - began)
    speed = {'steps_per_second': rate, 'images_per_second': rate * images}
    means = []
    for seed, figures in zip(seeds, each, strict=True):
      means.append(_check(figures, step - len(window), seed, seeds) | speed)
      seed.record.write(step, means[-1])
      faults = alarm(means[-1]) if step > collapse.SETTLED * steps else []
      if faults and seed not in told and parallel.is_main():
        told.add(seed)
        bar.write(
          f'{label}, seed {seed.number}: looks collapsed at step {step}: {"; ".join(faults)}.'
        )
    shown = {name: float(np.mean([own[name] for own in means])) for name in means[0]}
    bar.set_postfix_str(_describe(shown), refresh=False)
    bar.update(len(window))
    window, began = [], time.perf_counter()

  stopping = False
  for step, batch in enumerate(data.batches([s.streams for s in seeds], start, steps), start + 1):
    state, figures = update(state, parallel.shard(batch, len(seeds)), key)
    window.append(figures)
    stopping = parallel.should_stop(stop(), step)
    saving = step % checkpoint_every == 0 or step in kept or stopping
    due = step % eval_every == 0 or step == steps
    scoring = due or (saving and best)
    if scoring or saving or step % log_every == 0:
      flush(step)
    if scoring or saving:
      for seed, own in zip(seeds, parallel.unstack(state, len(seeds)), strict=True):
        scores = evaluate(own, due) if scoring else {}
        if scoring:
          seed.record.write(step, scores)
        if saving:
          seed.checkpoints.save(own, scores if best else None)
      began = time.perf_counter()
    if stopping:
      break
  bar.close()
  for seed in seeds:
    seed.checkpoints.close()
  states = parallel.unstack(state, len(seeds))
  if (reached := int(states[0].step)) < steps:
    raise Stopped(
      f'{label}: stopped and saved at step {reached} of {steps}; the same command goes on.'
    )
  return states


def _begin(
  learner: Learner, seeds: Sequence[SeedRun], example: np.ndarray
) -> tuple[TrainState, int]:
  """The state to go on from, of all seeds together, and the number of its steps."""
  init = parallel.jit_init(learner.init)
  fresh = [init(jax.random.fold_in(seed.key, 2**31 - 1), example) for seed in seeds]
  # A kill between two saves leaves some seeds one checkpoint ahead.
  start = max(set.intersection(*(seed.checkpoints.steps() for seed in seeds)), default=0)
  for seed in seeds:
    seed.checkpoints.drop_after(start)
  if start:
    pairs = zip(seeds, fresh, strict=True)
    return parallel.stack([s.checkpoints.restore(like, start) for s, like in pairs]), start
  return parallel.stack([s.begin(like) for s, like in zip(seeds, fresh, strict=True)]), 0


def _stacked(window: list[Mapping[str, jax.Array]]) -> dict[str, np.ndarray]:
  """Figures of a window of steps, [seeds, steps] or [steps] each."""
  window = jax.device_get(window)
  return {name: np.stack([figures[name] for figures in window], -1) for name in window[0]}


def _bar(label: str, start: int, steps: int) -> tqdm:
  shape = '{desc} {n_fmt}/{total_fmt} steps  {rate_noinv_fmt}  {remaining} left{postfix}'
  return tqdm(
    total=steps,
    initial=start,
    desc=label,
    unit=' steps',
    bar_format=shape,
    mininterval=0.5 if sys.stderr.isatty() else 15,
    disable=not parallel.is_main(),
  )


def _describe(figures: Mapping[str, float]) -> str:
  parts = [f'{figures["images_per_second"]:.0f} images/s', f'loss {figures["loss"]:.3f}']
  parts += [f'{n[5:]} {v:.3f}' for n, v in figures.items() if n.startswith('loss/')]
  parts += [f'trusted {v:.0%}' for n, v in figures.items() if n.endswith('/trusted')]
  return '  '.join(parts)


def _check(
  figures: Mapping[str, np.ndarray], before: int, seed: SeedRun, seeds: Sequence[SeedRun]
) -> dict[str, float]:
  """Means over a window of steps; a figure that is not finite ends the run with its name."""
  for offset in range(len(figures['loss'])):
    own = {name: values[offset] for name, values in figures.items()}
    if fault := first_nonfinite(own):
      for each in seeds:
        each.checkpoints.close()
      raise UserError(
        f'Training stopped at step {before + offset + 1}: {fault} is {float(own[fault])} '
        f'(grad_norm {float(own["grad_norm"]):.3g}). The last good checkpoint in {seed.folder} is '
        f'kept; lower optimizer.lr, set optimizer.clip=1, or use precision=float32, in a new '
        f'--workdir.'
      )
  return {name: float(np.mean(values)) for name, values in figures.items()}
