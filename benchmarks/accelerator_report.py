"""What the parts of the accelerator benchmark share: time that is left, rows, and timing.

It imports neither JAX nor PyTorch, because the process of each library uses it.
"""

import json
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Clock:
  """The time that is left, and what compilation is likely to take of it."""

  def __init__(self, minutes: float):
    self.end = time.perf_counter() + 60 * minutes
    self.compilations: dict[str, list[float]] = {}

  def left(self) -> float:
    """Seconds until the minutes end."""
    return self.end - time.perf_counter()

  def took(self, kind: str, seconds: float) -> None:
    """Notes how long a program of a kind took to compile."""
    self.compilations.setdefault(kind, []).append(seconds)

  def expected(self, kind: str) -> float:
    """Seconds that the next program of a kind may take: the median of the last three."""
    last = self.compilations.get(kind, [])[-3:]
    # Nothing is known before the first, which is therefore always tried.
    return statistics.median(last) if last else 0.0

  def too_late(self, kind: str) -> str:
    """Why a program of a kind is not compiled any more; empty if there is time."""
    needed = self.expected(kind)
    if self.left() > max(needed, 1.0):
      return ''
    return f'skipped: needs {needed:.0f} s, {max(self.left(), 0):.0f} s are left'


class Report:
  """Rows, printed and kept in files as they come, and tables of them at the end.

  `accelerator.jsonl` has a line for each piece of news, `accelerator.json` all that is known of
  each row. Both are up to date at any moment, so that a killed process leaves what it measured.
  """

  def __init__(self, folder: Path, about: dict[str, Any]):
    folder.mkdir(parents=True, exist_ok=True)
    self.folder = folder
    self.about = about
    self.rows: dict[tuple[str, str], dict[str, Any]] = {}
    self.begin = time.perf_counter()
    # What is being done, for the note of a process that ends in the middle of it.
    self.doing = 'nothing'
    # The timer that ends the process writes from its own thread.
    self.lock = threading.RLock()

  def add(self, part: str, name: str, **figures: Any) -> None:
    """Prints figures of a row, and keeps them beside those that it has already."""
    rounded = {key: _rounded(value) for key, value in figures.items() if value is not None}
    at = round(time.perf_counter() - self.begin, 1)
    with self.lock:
      self.rows.setdefault((part, name), {}).update(rounded)
      words = '  '.join(f'{key}={value}' for key, value in rounded.items())
      print(f'[{at:6.1f}] {part} {name}: {words}', flush=True)
      line = {'part': part, 'name': name, 'at_s': at, **rounded}
      with (self.folder / 'accelerator.jsonl').open('a') as file:
        file.write(json.dumps(line) + '\n')
      rows = [{'part': p, 'name': n, **row} for (p, n), row in self.rows.items()]
      text = json.dumps({**self.about, 'rows': rows}, indent=2)
      (self.folder / 'accelerator.json').write_text(text + '\n')

  def get(self, part: str, name: str, figure: str) -> Any:
    """A figure of a row, or None if it has not been measured."""
    return self.rows.get((part, name), {}).get(figure)

  def print_tables(self) -> None:
    """Prints a Markdown table of each part."""
    with self.lock:
      for part in dict.fromkeys(part for part, _ in self.rows):
        rows = {name: row for (p, name), row in self.rows.items() if p == part}
        columns = list(dict.fromkeys(key for row in rows.values() for key in row))
        print(f'\n| {part} | ' + ' | '.join(columns) + ' |')
        print('|---' * (len(columns) + 1) + '|')
        for name, row in rows.items():
          print(f'| {name} | ' + ' | '.join(str(row.get(key, '-')) for key in columns) + ' |')
      print(flush=True)


def _rounded(value: Any) -> Any:
  """A number with four significant digits."""
  if isinstance(value, float):
    return float(f'{value:.4g}')
  return value


def step_seconds(
  advance: Callable[[], Any], wait: Callable[[Any], Any], block_s: float, blocks: int
) -> float:
  """Median over blocks of the time of a step; only the last step of a block is waited for.

  `advance` starts a step and returns what `wait` waits for.
  """
  for _ in range(2):
    wait(advance())
  begin = time.perf_counter()
  wait(advance())
  once = time.perf_counter() - begin
  steps = max(1, round(block_s / once))
  times = []
  for _ in range(blocks):
    begin = time.perf_counter()
    for _ in range(steps):
      last = advance()
    wait(last)
    times.append((time.perf_counter() - begin) / steps)
  return statistics.median(times)
