"""The training loop: batches in, a state out; a killed run resumes from its last checkpoint."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from ssl_jax import parallel, settings
from ssl_jax.data.stream import Stream
from ssl_jax.errors import Stopped, UserError
from ssl_jax.io.run_log import RunLog
from ssl_jax.training import collapse, feeds, operations, step_memory
from ssl_jax.training.checkpoint import Checkpoints, DamagedCheckpoint
from ssl_jax.training.compilations import Compilations
from ssl_jax.training.compile_times import Program
from ssl_jax.training.idle_time import IdleTime
from ssl_jax.training.learner import first_nonfinite
from ssl_jax.training.progress import Progress
from ssl_jax.types import Learner, Normalization, TrainState

Evaluate = Callable[[int, TrainState, bool], dict[str, float]]
"""Seed, state -> its scores; all of them, or (False) only those by which the best is found."""

Alarm = Callable[[int, Mapping[str, float]], list[str]]
"""Seed, figures of a window of steps -> what is wrong with them."""

NAMED = 8
"""Images of a stream that a message names at most."""

INIT_KEY = 2**31 - 1
"""Folded into a seed's key for its initial weights: no step of a training has this number."""


class SeedRun:
  """One of the seeds that train together: its number, its streams, and its own folder.

  `begin` changes the fresh state that training without a checkpoint starts from; `drawn` is what
  random numbers follow from where it is not the number. Images are standardized by
  `normalization`, if it is not the learner's.
  """

  def __init__(
    self,
    number: int,
    streams: Mapping[str, Stream],
    folder: Path,
    begin: Callable[[TrainState], TrainState] = lambda state: state,
    drawn: int | None = None,
    normalization: Normalization | None = None,
  ):
    self.number = number
    self.streams = streams
    self.folder = folder
    self.begin = begin
    self.normalization = normalization
    self.key = jax.random.key(number if drawn is None else drawn)
    # Both are set when training starts: only then is it known what to keep and where to resume.
    self.checkpoints: Checkpoints
    self.log: RunLog


def no_alarm(seed: int, figures: Mapping[str, float]) -> list[str]:
  """Finds nothing wrong."""
  return []


def train(
  learner: Learner,
  update: Callable,
  seeds: Sequence[SeedRun],
  example: np.ndarray,
  evaluate: Evaluate,
  *,
  loop: settings.Loop,
  label: str,
  best: Sequence[str] = (),
  alarm: Alarm = no_alarm,
  stop: Callable[[], bool] = lambda: False,
) -> list[TrainState]:
  """Trains to `loop.steps` updates, from the seeds' latest common checkpoint if there is one.

  The checkpoints at the ends of `loop.num_snapshots` equal parts of the steps are kept.

  Args:
    learner: gives the initial state and the names of the figures.
    update: the compiled `learner.update`, mapped over states, batches and keys where there are
      several seeds.
    seeds: the seeds that train together.
    example: one image [1, *crop_size, C].
    evaluate: scores a state.
    loop: how long to train, and how often to evaluate, save and log.
    label: what the training is called on the screen.
    best: figures of which the checkpoint with the best is kept.
    alarm: says what is wrong with the figures of a window of steps; told once a seed, when it
      has lasted.
    stop: asked after each step whether to save and stop.

  Returns:
    The state of each seed.

  Raises:
    Stopped: after a save, once `stop()` is true.
    UserError: if a loss or the gradient is not finite.
  """
  parts = loop.num_snapshots
  # With one snapshot this is the last step.
  kept = [round(loop.steps * part / parts) for part in range(1, parts + 1)]
  for seed in seeds:
    seed.checkpoints = Checkpoints(seed.folder / 'checkpoints', best=best, always=kept)
  training = _Training(learner, seeds, evaluate, loop, label, alarm, example)
  feed = feeds.make_feed(learner, update, [seed.streams for seed in seeds], loop, kept)
  stopping = False
  # `step` counts the updates, those of this call included. Batches are a function of the step, so
  # that a resumed run gets the same ones.
  for step, arguments in feed.calls(training.start, loop.steps):
    training.do_steps(feed.update, arguments, step)
    stopping = parallel.should_stop(stop(), step)
    # Snapshots must exist, and a stop must not lose the steps since the last save.
    saving = step % loop.checkpoint_every == 0 or step in kept or stopping
    due = step % loop.eval_every == 0 or step == loop.steps
    # A checkpoint can only be the best of all if it was scored.
    scoring = due or (saving and bool(best))
    if scoring or saving or step % loop.log_every == 0:
      # Before saving: it raises if a loss is not finite, so that no such state replaces a good one.
      training.log_window(step)
    if scoring or saving:
      training.evaluate_and_save(scoring, due, saving, bool(best))
    if stopping:
      break
  return training.finish()


class _Training:
  """What changes while the loop runs: the state, and the figures of the current window."""

  def __init__(
    self,
    learner: Learner,
    seeds: Sequence[SeedRun],
    evaluate: Evaluate,
    loop: settings.Loop,
    label: str,
    alarm: Alarm,
    example: np.ndarray,
  ):
    self.seeds, self.evaluate = seeds, evaluate
    self.loop, self.label, self.alarm = loop, label, alarm
    self.metric_names = learner.metric_names
    self.progress = Progress(label, 0, loop.steps)
    self.compilations = Compilations()
    with self.progress.phase('initializing the network'):
      self.start, self.state = _initial_state(learner, seeds, example)
    self.progress.start_at(self.start)
    # The last step that was done.
    self.step = self.start
    for seed in seeds:
      seed.log = RunLog(seed.folder, self.start, loop.tensorboard)
    # A leading axis of seeds, as in the state; no such axis for a single seed.
    self.key = parallel.stack([seed.key for seed in seeds])
    # Images of all streams and seeds in one step, for the speed.
    self.images = sum(stream.batch for seed in seeds for stream in seed.streams.values())
    # Figures of the calls since the last line of the log, still on the device.
    self.window: list[Mapping[str, jax.Array]] = []
    self.steps_in_window = 0
    # Steps of the window that took no part in timing, because they were compiled.
    self.untimed = 0
    self.began = time.perf_counter()
    self.idle = IdleTime()
    self.compiled = False
    # Of the first call, until they are logged.
    self.compile_seconds: float | None = None
    # That training waited for saves since the last line of the log, those of all seeds.
    self.save_seconds = 0.0
    # Of a step on this device at the speed of its matrix units; None where that is not known.
    self.seconds_at_peak: float | None = None
    self.watches = {seed: collapse.Watch(loop.steps) for seed in seeds}

  def do_steps(self, update: Callable, arguments: tuple, last: int) -> None:
    """Does the steps of a call, up to `last`; the first call waits, because it is compiled."""
    if self.compiled:
      self.idle.batch_is_there()
      # Returns at once: the device computes while the host loads the next batch.
      self.state, figures = update(self.state, *arguments, self.key)
      self.idle.called(figures)
    else:
      figures = self._compile(update, arguments, last - self.step)
      self.untimed = last - self.step
      self.began = time.perf_counter()
    self.window.append(figures)
    self.steps_in_window += last - self.step
    self.step = last

  def _compile(self, update: Callable, arguments: tuple, steps: int) -> Mapping[str, jax.Array]:
    """Does the first call, of so many steps; returns its figures."""
    began = time.perf_counter()
    with self.progress.phase('compiling the training step') as phase:
      program = Program(update, self.state, *arguments, self.key)
      phase.add(program.expectation())
      batches = {name: stream.batch for name, stream in self.seeds[0].streams.items()}
      call = (self.state, *arguments, self.key)
      # Before anything is computed: a process that takes too much is killed without a word.
      needs = step_memory.check(update, call, batches, jax.device_count())
      if needs:
        self.progress.write(f'{self.label}: {needs}.')
      self.state, figures = update(self.state, *arguments, self.key)
      # Otherwise the phase would end before the step has run.
      jax.block_until_ready(figures)
    self.compiled = True
    self.compile_seconds = time.perf_counter() - began
    program.took(self.compile_seconds)
    of_call = operations.seconds_at_peak(program.operations)
    self.seconds_at_peak = of_call / steps if of_call else None
    return figures

  def log_window(self, step: int) -> None:
    """Writes the means over the window to each seed's log, and shows them."""
    stacked = _stacked(self.window, len(self.seeds))
    named = {self.metric_names.get(name, name): values for name, values in stacked.items()}
    per_seed = parallel.unstack(named, len(self.seeds))
    # `_stacked` has waited for the device, so that the seconds cover all steps of the window.
    seconds = time.perf_counter() - self.began
    timed = self.steps_in_window - self.untimed
    # Since the line before, which may be that of an evaluation; kept programs do not count.
    speed: dict[str, float] = {'compilations': self.compilations.new()}
    # A window that holds only the compiled step has no speed.
    if timed:
      rate = timed / seconds
      speed |= {'steps_per_second': rate, 'images_per_second': rate * self.images}
      speed['waiting_for_data'] = self.idle.seconds / seconds
      if self.seconds_at_peak is not None:
        speed['share_of_peak'] = rate * self.seconds_at_peak
    if self.compile_seconds is not None:
      speed['compile_seconds'] = self.compile_seconds
      self.compile_seconds = None
    if self.save_seconds:
      speed['save_seconds'] = self.save_seconds
      self.save_seconds = 0.0
    means = []
    for seed, figures in zip(self.seeds, per_seed, strict=True):
      # `step - steps_in_window` is the last step before the window.
      checked = _check_finite(figures, step - self.steps_in_window, seed, self.seeds)
      means.append(checked | speed)
      seed.log.write(step, means[-1])
      self._tell_collapse(seed, means[-1], step)
    # The screen has one line for all seeds: their mean.
    shown = {name: float(np.mean([figures[name] for figures in means])) for name in means[0]}
    self.progress.skip(self.untimed)
    self.progress.advance(timed, seconds if timed else 0.0, shown)
    # A new window, with a clock of its own.
    self.window = []
    self.steps_in_window = 0
    self.untimed = 0
    self._restart_clock()

  def _restart_clock(self) -> None:
    self.began = time.perf_counter()
    self.idle.begin()

  def _tell_collapse(self, seed: SeedRun, figures: Mapping[str, float], step: int) -> None:
    """Says once of a seed that it looks collapsed, when it has done so for long."""
    faults = self.alarm(seed.number, figures)
    since = self.watches[seed].lasting_since(step, faulty=bool(faults))
    if since is not None:
      reasons = '; '.join(faults)
      self.progress.write(
        f'{self.label}, seed {seed.number}: looks collapsed since step {since}: {reasons}.'
      )

  def evaluate_and_save(self, scoring: bool, all_splits: bool, saving: bool, best: bool) -> None:
    """Scores and saves the state of each seed."""
    with self.progress.phase('evaluating' if scoring else 'saving'):
      # Each seed has a folder of its own, with checkpoints that can be used without the others.
      states = parallel.unstack(self.state, len(self.seeds))
      for seed, state in zip(self.seeds, states, strict=True):
        # Scores go to the log, and with the checkpoint as what it is ranked by.
        began = time.perf_counter()
        scores = self.evaluate(seed.number, state, all_splits) if scoring else {}
        evaluated = time.perf_counter()
        if scoring:
          # Before saving: a run that is killed in between evaluates again, and misses no line.
          cost = {
            'evaluate_seconds': evaluated - began,
            'compilations': self.compilations.new(),
          }
          seed.log.write(int(state.step), scores | cost)
        if saving:
          seed.checkpoints.save(state, scores if best else None)
          self.save_seconds += time.perf_counter() - evaluated
    # Evaluating and saving count in no speed.
    self._restart_clock()

  def finish(self) -> list[TrainState]:
    """The final state of each seed.

    Raises:
      Stopped: if it has not come to the last step.
    """
    self.progress.close()
    self.idle.close()
    for seed in self.seeds:
      # Waits for saves that are still being written.
      seed.checkpoints.close()
    states = parallel.unstack(self.state, len(self.seeds))
    if (reached := int(states[0].step)) < self.loop.steps:
      raise Stopped(
        f'{self.label}: stopped and saved at step {reached} of {self.loop.steps}; '
        f'the same command resumes there.'
      )
    return states


def _initial_state(
  learner: Learner, seeds: Sequence[SeedRun], example: np.ndarray
) -> tuple[int, TrainState]:
  """The step to go on from, and its state, of all seeds together."""
  init = parallel.jit_init(learner.init)
  # Also made when resuming: a checkpoint takes over the shapes and placement of a fresh state.
  fresh = []
  for seed in seeds:
    key = jax.random.fold_in(seed.key, INIT_KEY)
    fresh.append(init(key, example, seed.normalization or learner.normalization))
  start, states = _latest(seeds, fresh)
  for seed in seeds:
    # Steps that some seeds have and others lack are trained again by all.
    seed.checkpoints.drop_after(start)
  return start, parallel.stack(states)


def _latest(seeds: Sequence[SeedRun], fresh: Sequence[TrainState]) -> tuple[int, list[TrainState]]:
  """The latest step of which all seeds have a whole checkpoint, and their states; 0 without one."""
  # A kill between two saves leaves some seeds one checkpoint ahead.
  common = set.intersection(*(seed.checkpoints.steps() for seed in seeds))
  for step in sorted(common, reverse=True):
    try:
      states: list[TrainState] = []
      for seed, like in zip(seeds, fresh, strict=True):
        restored = seed.checkpoints.restore(like, step)
        assert restored is not None  # the step is one of those that are there
        states.append(restored)
    except DamagedCheckpoint as error:
      before = 'the one before it' if step > min(common) else 'the beginning'
      print(f'{error}; training goes on from {before}.', flush=True)
    else:
      return step, states
  return 0, [seed.begin(like) for seed, like in zip(seeds, fresh, strict=True)]


def _stacked(window: list[Mapping[str, jax.Array]], seeds: int) -> dict[str, np.ndarray]:
  """Figures of a window of calls, [seeds, steps] or [steps] each."""
  # One transfer for the whole window: fetching figures every call would make the device wait.
  figures_by_call = jax.device_get(window)
  leading = (seeds,) if seeds > 1 else ()
  stacked = {}
  for name in figures_by_call[0]:
    # A call of several steps brings an axis of steps, one of a single step none.
    parts = [np.reshape(figures[name], (*leading, -1)) for figures in figures_by_call]
    stacked[name] = np.concatenate(parts, -1)
  return stacked


def _check_finite(
  figures: Mapping[str, np.ndarray], before: int, seed: SeedRun, seeds: Sequence[SeedRun]
) -> dict[str, float]:
  """Means over a window of steps.

  Raises:
    UserError: if a figure is not finite; it is named, with its step and the images of that step.
  """
  for offset in range(len(figures['loss'])):
    at_step = {name: values[offset] for name, values in figures.items()}
    if fault := first_nonfinite(at_step):
      # Lets pending saves finish, or the checkpoint that the message promises might be missing.
      for other in seeds:
        other.checkpoints.close()
      raise UserError(
        f'Training stopped at step {before + offset + 1}: {fault} is {float(at_step[fault])} '
        f'(grad_norm {float(at_step["grad_norm"]):.3g}). Its images were '
        f'{_batch_names(seed, before + offset)}. The last good checkpoint in {seed.folder} is '
        f'kept; look at these images, lower optimizer.lr, set optimizer.clip=1, or use '
        f'precision=float32, in a new --workdir.'
      )
  return {name: float(np.mean(values)) for name, values in figures.items()}


def _batch_names(seed: SeedRun, index: int) -> str:
  """The images of a batch, by stream; the first few where there are many."""
  parts = []
  for name, stream in seed.streams.items():
    images = stream.names(index)
    more = f' and {len(images) - NAMED} more' if len(images) > NAMED else ''
    parts.append(f'{name}: {", ".join(images[:NAMED])}{more}')
  return '; '.join(parts)
