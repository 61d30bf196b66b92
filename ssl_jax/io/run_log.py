"""The files that tell of a run: metrics.jsonl, done.json; written so that a kill spoils none."""

import json
from collections.abc import Mapping
from pathlib import Path

from ssl_jax import parallel
from ssl_jax.io import atomic


class RunLog:
  """metrics.jsonl, one line a window of steps; TensorBoard beside it where asked."""

  def __init__(self, folder: Path, start: int, tensorboard: bool):
    self.path = folder / 'metrics.jsonl'
    self.writer = None
    if not parallel.is_main():
      return
    lines = self.path.read_text().splitlines() if self.path.exists() else []
    # A killed run may have written ahead of its last checkpoint.
    kept = [line for line in lines if _step_of(line) <= start]
    replace_text(self.path, ''.join(line + '\n' for line in kept))
    if tensorboard:
      from tensorboardX import SummaryWriter

      self.writer = SummaryWriter(str(folder / 'tensorboard'), purge_step=start + 1)

  def write(self, step: int, figures: Mapping[str, float]) -> None:
    """Appends one line."""
    if not parallel.is_main():
      return
    with self.path.open('a') as file:
      file.write(json.dumps({'step': step, **figures}) + '\n')
    for name, value in figures.items() if self.writer else ():
      self.writer.add_scalar(name, value, step)


def _step_of(line: str) -> float:
  try:
    return json.loads(line)['step']
  except (json.JSONDecodeError, KeyError):
    return float('inf')  # the line that a kill cut short


def replace_text(path: Path, text: str) -> None:
  """Writes a file so that a kill leaves the old one or the new one, never a part.

  Where there are many processes, the main one writes.
  """
  if not parallel.is_main():
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  with atomic.whole(path) as part:
    part.write_text(text)


def read_log(folder: Path) -> list[dict]:
  """The lines of a run folder's metrics.jsonl."""
  path = folder / 'metrics.jsonl'
  return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def read_done(folder: Path) -> dict | None:
  """What a finished stage left; None where it has not finished."""
  path = folder / 'done.json'
  return json.loads(path.read_text()) if path.exists() else None


def begun(folder: Path) -> bool:
  """Whether a folder, or one in it, holds a run that got as far as a figure or a checkpoint."""
  found = [p for n in ('done.json', 'metrics.jsonl', 'checkpoints/[0-9]*') for p in folder.rglob(n)]
  return any(path.is_dir() or path.stat().st_size for path in found)


def write_done(folder: Path, figures: Mapping) -> None:
  """Marks a stage as finished, with its final figures."""
  replace_text(folder / 'done.json', json.dumps(figures, indent=1))
  parallel.barrier(str(folder))  # others read what a stage wrote only once it is all there
