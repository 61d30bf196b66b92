"""The files that record a run: metrics.jsonl and done.json, which a kill cannot spoil.

A damaged one is named; a line of metrics.jsonl that cannot be read is left out, said aloud.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_jax import parallel
from ssl_jax.errors import UserError
from ssl_jax.io import atomic
from ssl_jax.io.folders import digests

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
    kept = [line for line in _read_lines(self.path, resumes=True) if line['step'] <= start]
    replace_text(self.path, ''.join(json.dumps(line) + '\n' for line in kept))
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
  return _read_lines(folder / METRICS)


def last_step(folder: Path, tail: int) -> int:
  """Returns the last step in a folder's metrics.jsonl, from its last `tail` bytes; 0 for none."""
  try:
    with (folder / METRICS).open('rb') as file:
      size = file.seek(0, os.SEEK_END)
      file.seek(max(size - tail, 0))
      lines = file.read().split(b'\n')
  except OSError:
    return 0
  for line in reversed(lines):
    # The last one may be under way, and the first one is cut.
    with contextlib.suppress(ValueError, TypeError, KeyError):
      return int(json.loads(line)['step'])
  return 0


def _read_lines(path: Path, resumes: bool = False) -> list[dict[str, Any]]:
  """The lines that can be read; others are named, but for the last, which a kill may cut short."""
  if not path.exists():
    return []
  lines = []
  # No other character that Python calls a line's end: a damaged line may hold any.
  texts = path.read_bytes().removesuffix(b'\n').split(b'\n')
  for number, text in enumerate(texts, start=1):
    try:
      line = json.loads(text)
      float(line['step'])
      lines.append(line)
    except (ValueError, KeyError, TypeError):
      if text and number < len(texts):
        what = 'and removed' if resumes else 'and left out'
        print(f'{path}, line {number} is damaged {what}.')
  return lines


def read_json(path: Path, remedy: str, kind: type = dict) -> Any:
  """Returns what a JSON file of a run holds.

  Args:
    path: of the file.
    remedy: what to do if it is damaged, as the end of a sentence.
    kind: what it must hold.

  Raises:
    UserError: if it is damaged.
  """
  try:
    tree = json.loads(path.read_bytes())
  except ValueError as error:
    reason = str(error).removesuffix('.')
    raise UserError(f'{path} is damaged ({reason}); {remedy}.') from error
  if not isinstance(tree, kind):
    raise UserError(f'{path} is damaged (it holds {type(tree).__name__}); {remedy}.')
  return tree


def write_done(folder: Path, metrics: Mapping[str, Any], of_stage: bool = True) -> None:
  """Marks a stage as finished, with its final metrics, or a run (`of_stage` False)."""
  text = json.dumps(metrics, indent=1)
  folder.mkdir(parents=True, exist_ok=True)
  if parallel.is_main():
    # Before done.json, which says that all the rest is there.
    if of_stage:
      digests.write(folder, DONE, text)
    else:
      digests.renew(folder, DONE, text)
  replace_text(folder / DONE, text)
  # Other processes must not read what this stage wrote before all of it is there.
  parallel.barrier(str(folder))


def read_done(folder: Path) -> dict[str, Any] | None:
  """Returns the final metrics of a finished stage; None if it has not finished.

  Raises:
    UserError: if the file is damaged.
  """
  path = folder / DONE
  if not path.exists():
    return None
  remedy = 'delete it, and the command of the run finishes the stage again'
  done = read_json(path, remedy)
  digests.check(folder, (DONE,))
  return done


def has_begun(folder: Path) -> bool:
  """Whether a folder, or one inside it, holds a run with a logged step or a checkpoint."""
  for pattern in (DONE, METRICS, f'{CHECKPOINTS}/[0-9]*'):
    for path in folder.rglob(pattern):
      # Starting a run creates an empty metrics.jsonl, which is no training yet. Checkpoints are
      # folders.
      if path.is_dir() or path.stat().st_size:
        return True
  return False
