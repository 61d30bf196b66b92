"""The files that record a run: metrics.jsonl and done.json, which a kill cannot spoil."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_jax import parallel
from ssl_jax.io import atomic

METRICS = 'metrics.jsonl'
DONE = 'done.json'
CHECKPOINTS = 'checkpoints'


class RunLog:
  """Appends to metrics.jsonl, one line for each window of steps, and to TensorBoard if asked.

  Where there are several processes, only the main one writes.

  Args:
    folder: of the seed that is trained.
    start: the step that training resumes from. Later lines are removed, because a killed run may
      have logged steps after its last checkpoint.
    tensorboard: whether to write event files, too.
  """

  def __init__(self, folder: Path, start: int, tensorboard: bool):
    self.path = folder / METRICS
    self._tensorboard = None
    # Processes share the folder; two writers would mix their lines.
    if not parallel.is_main():
      return
    # Without this, a resumed run would log the steps after its checkpoint a second time.
    lines = self.path.read_text().splitlines() if self.path.exists() else []
    kept = [line for line in lines if _step_of(line) <= start]
    replace_text(self.path, ''.join(line + '\n' for line in kept))
    if tensorboard:
      # Imported here because most runs do without it.
      from tensorboardX import SummaryWriter

      # `purge_step` makes TensorBoard hide the events of steps that will be logged again.
      self._tensorboard = SummaryWriter(str(folder / 'tensorboard'), purge_step=start + 1)

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Appends one line."""
    if not parallel.is_main():
      return
    # Opened for each line and closed again: a kill loses at most the line being written.
    with self.path.open('a', encoding='utf-8') as file:
      file.write(json.dumps({'step': step, **metrics}) + '\n')
    if self._tensorboard is not None:
      for name, value in metrics.items():
        self._tensorboard.add_scalar(name, value, step)


def _step_of(line: str) -> float | int:
  try:
    return json.loads(line)['step']
  except (json.JSONDecodeError, KeyError):
    return float('inf')  # a kill cut this line short: it is removed


def replace_text(path: Path, text: str) -> None:
  """Writes a file so that a kill leaves the old one or the new one, never a part.

  Where there are several processes, only the main one writes.
  """
  if not parallel.is_main():
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  with atomic.replacing(path) as temporary:
    # One encoding on all systems; names of files that are no text go back to the bytes they were.
    temporary.write_text(text, encoding='utf-8', errors='surrogateescape')


def read_log(folder: Path) -> list[dict[str, Any]]:
  """Returns the lines of a folder's metrics.jsonl; none where there is no such file."""
  path = folder / METRICS
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines()]


def write_done(folder: Path, metrics: Mapping[str, Any]) -> None:
  """Marks a stage as finished, with its final metrics."""
  replace_text(folder / DONE, json.dumps(metrics, indent=1))
  # Other processes must not read what this stage wrote before all of it is there.
  parallel.barrier(str(folder))


def read_done(folder: Path) -> dict[str, Any] | None:
  """Returns the final metrics of a finished stage; None if it has not finished."""
  path = folder / DONE
  return json.loads(path.read_text()) if path.exists() else None


def has_begun(folder: Path) -> bool:
  """Whether a folder, or one inside it, holds a run with a logged step or a checkpoint."""
  for pattern in (DONE, METRICS, f'{CHECKPOINTS}/[0-9]*'):
    for path in folder.rglob(pattern):
      # Starting a run creates an empty metrics.jsonl, which is no training yet. Checkpoints are
      # folders.
      if path.is_dir() or path.stat().st_size:
        return True
  return False
