"""What a person sees while a network trains: the phase, the speed, and the time that is left."""

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping

from tqdm import tqdm

from ssl_jax import parallel
from ssl_jax.io import terminal

LINE_EVERY = 15.0
"""Seconds between lines where the output is no terminal."""

MUCH_WAITING = 0.1
"""Share of the time that is worth a word."""

WIDTH = 100
"""Columns of a line where the terminal does not say, or says 0."""


class Phase:
  """What goes on besides training, in words."""

  def __init__(self, name: str):
    self.name = name

  def add(self, text: str) -> None:
    """Adds what has become known of it, if anything has, in brackets."""
    if text:
      self.name = f'{self.name} ({text})'


class Progress:
  """One line that follows a training; the time left is computed from training steps alone.

  Compiling and evaluating are phases of their own, with their seconds, and count in no speed.
  """

  def __init__(self, label: str, start: int, steps: int):
    self._label = label
    self._step = start
    self._steps = steps
    self._timed_steps = 0
    self._timed_seconds = 0.0
    # In a file or a pipe, redrawing would leave thousands of copies of the line.
    self._live = terminal.is_live(sys.stderr)
    self._last_line = 0.0
    self._figures = ''
    # Only a line of text: tqdm's own bar would count evaluation and compilation in the speed.
    self._bar = tqdm(
      total=0,
      bar_format='{desc}',
      ncols=shutil.get_terminal_size((WIDTH, 24)).columns or WIDTH,
      disable=not (parallel.is_main() and self._live),
    )

  def start_at(self, step: int) -> None:
    """Counts from a step on: the last that a resumed training has done."""
    self._step = step

  @contextlib.contextmanager
  def phase(self, name: str) -> Iterator[Phase]:
    """Says that something else than training goes on, and for how long."""
    phase = Phase(name)
    ended = threading.Event()
    began = time.perf_counter()

    # A thread counts the seconds, because the main one is busy in a call that may last minutes.
    def tick() -> None:
      while not ended.wait(1.0 if self._live else LINE_EVERY):
        self._show(f'{phase.name}, {time.perf_counter() - began:.0f} s', force=True)

    self._show(name)
    # A daemon does not keep the process alive after an error.
    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
      yield phase
    finally:
      ended.set()
      # Otherwise a last tick could overwrite what training shows next.
      thread.join()

  def advance(self, steps: int, seconds: float, figures: Mapping[str, float]) -> None:
    """Counts steps that took so many seconds of training, and shows their figures."""
    self._step += steps
    # Apart from `_step`, which also counts the steps before a resumption and compiled ones.
    self._timed_steps += steps
    self._timed_seconds += seconds
    self._figures = _describe(figures)
    self._show(self._speed())

  def skip(self, steps: int) -> None:
    """Counts steps whose seconds say nothing of the speed: the first, which is compiled."""
    self._step += steps

  def write(self, text: str) -> None:
    """Prints a line of its own."""
    if parallel.is_main():
      self._bar.write(text, file=sys.stderr)

  def close(self) -> None:
    """Leaves the last state as a line."""
    self._show(self._speed(), force=True)
    self._bar.close()

  def _speed(self) -> str:
    if not self._timed_steps:
      return ''
    # The mean since the start: steadier than the speed of the last window.
    seconds_per_step = self._timed_seconds / self._timed_steps
    left = (self._steps - self._step) * seconds_per_step
    return f'{1 / max(seconds_per_step, 1e-9):.2f} steps/s  {_clock(left)} left'

  def _show(self, state: str, force: bool = False) -> None:
    """Redraws the line of a terminal or notebook; elsewhere prints one, but not too often."""
    parts = [f'{self._label}: {self._step}/{self._steps} steps', state, self._figures]
    text = '  '.join(part for part in parts if part)
    if self._live:
      # tqdm cuts the text to the width of the terminal.
      self._bar.set_description_str(text)
      return
    now = time.perf_counter()
    # A log file gets a line every LINE_EVERY seconds, however often training reports.
    if parallel.is_main() and (force or now - self._last_line >= LINE_EVERY):
      self._last_line = now
      print(text, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
  """Seconds as h:mm:ss or m:ss."""
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02d}:{rest:02d}' if hours else f'{minutes}:{rest:02d}'


def _describe(figures: Mapping[str, float]) -> str:
  """The speed in images, and the losses and mask rates of the methods."""
  parts = []
  if 'images_per_second' in figures:
    parts.append(f'{figures["images_per_second"]:.0f} images/s')
  if 'share_of_peak' in figures:
    parts.append(f'{figures["share_of_peak"]:.0%} of the matrix peak')
  waiting = figures.get('waiting_for_data', 0.0)
  if waiting >= MUCH_WAITING:
    parts.append(f'{waiting:.0%} of the time waiting for images')
  parts.append(f'loss {figures["loss"]:.3f}')
  # Terms of methods only: a line has no room for all figures, which metrics.jsonl holds.
  for name, value in figures.items():
    if name.startswith('loss/'):
      parts.append(f'{name.removeprefix("loss/")} {value:.3f}')
    elif name.endswith('/mask_rate'):
      parts.append(f'{name} {value:.0%}')
  return '  '.join(parts)
