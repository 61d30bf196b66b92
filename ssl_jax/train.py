"""The loop: batches in, a state out; it can be killed at any moment and goes on where it was."""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from ssl_jax import data, parallel
from ssl_jax.checkpoint import Checkpoints
from ssl_jax.learner import first_fault
from ssl_jax.record import Record
from ssl_jax.types import Learner, Stopped, TrainState, UserError

Evaluate = Callable[[TrainState, bool], dict[str, float]]
"""A state -> its scores; all of them, or (False) only those by which the best is found."""


def train(
  learner: Learner,
  update: Callable,
  streams: Mapping[str, data.Stream],
  example: np.ndarray,
  evaluate: Evaluate,
  folder: Path,
  *,
  label: str,
  seed: int,
  steps: int,
  eval_every: int,
  checkpoint_every: int,
  log_every: int,
  best: str | None = None,
  tensorboard: bool = False,
  stop: Callable[[], bool] = lambda: False,
) -> TrainState:
  """Trains to `steps` updates, from the latest checkpoint of `folder` if there is one.

  `update` is the compiled `learner.update`, `example` one image [1, *size, C].
  Raises Stopped, after a save, once `stop()` is true, and UserError where a loss or the gradient
  is not finite.
  """
  checkpoints = Checkpoints(folder / 'checkpoints', best=best)
  key = jax.random.key(seed)
  state = parallel.jit_init(learner.init)(jax.random.fold_in(key, 2**31 - 1), example)
  state = checkpoints.restore(state) or state
  start = int(state.step)
  record = Record(folder, start, tensorboard)
  window, began = [], time.perf_counter()
  images = sum(stream.batch for stream in streams.values())
  bar = _bar(label, start, steps)
  bar.set_postfix_str('compiling')

  def flush(step: int) -> None:
    nonlocal window, began
    figures = _check(jax.device_get(window), step - len(window), folder, checkpoints)
    rate = len(window) / (time.perf_counter() - began)
    figures |= {'steps_per_second': rate, 'images_per_second': rate * images}
    record.write(step, figures)
    bar.set_postfix_str(_describe(figures), refresh=False)
    bar.update(len(window))
    window, began = [], time.perf_counter()

  for step, batch in enumerate(data.batches(streams, start, steps), start + 1):
    state, figures = update(state, parallel.shard(batch), key)
    window.append(figures)
    stopping = parallel.should_stop(stop(), step)
    saving = step % checkpoint_every == 0 or step == steps or stopping
    due = step % eval_every == 0 or step == steps
    scoring = due or (saving and best)
    if scoring or saving or step % log_every == 0:
      flush(step)
    scores = evaluate(state, due) if scoring else {}
    if scoring:
      record.write(step, scores)
    if saving:
      checkpoints.save(state, scores if best else None)
    began = time.perf_counter() if scoring or saving else began
    if stopping and step < steps:
      checkpoints.close()
      bar.close()
      raise Stopped(
        f'{label}: stopped and saved at step {step} of {steps}; the same command goes on.'
      )
  bar.close()
  checkpoints.close()
  return state


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
  window: list[Mapping[str, float]], before: int, folder: Path, checkpoints: Checkpoints
) -> dict[str, float]:
  """Means over a window of steps; a figure that is not finite ends the run with its name."""
  for offset, figures in enumerate(window, 1):
    if fault := first_fault(figures):
      checkpoints.close()
      raise UserError(
        f'Training stopped at step {before + offset}: {fault} is {float(figures[fault])} '
        f'(grad_norm {float(figures["grad_norm"]):.3g}). The last good checkpoint in {folder} is '
        f'kept; lower optimizer.lr, set optimizer.clip=1, or use precision=float32, in a new '
        f'--workdir.'
      )
  return {name: float(np.mean([figures[name] for figures in window])) for name in window[0]}
