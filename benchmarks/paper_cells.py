"""The papers' cells at their size, in order of worth, as many as fit into some minutes.

    python benchmarks/paper_cells.py --minutes 9 --data FOLDER --runs runs/papers
    python benchmarks/paper_cells.py --list

Each cell is a page, overrides, and a run folder of its own. A cell that the end of the minutes
stops resumes from its last checkpoint with the next command, also on another machine to which the
run folder was copied. What a finished cell scored goes to `--ledger` at once. `--pattern` chooses
cells by name, `--steps` makes all of them short, to try the command.
"""

import argparse
import fnmatch
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

STOPPING_S = 20.0
"""Seconds that a training has for its last save."""

SMALLEST_S = 45.0
"""With fewer seconds left no cell begins: it would not come to its first step."""


COUNTED = ROOT / 'results' / 'paper_cells.json'
"""What paper_estimate.py has counted, by cell."""

PEAK = 989.4e12
"""Operations a second of an H100 or H200 in bfloat16, by the data sheet."""

COMPILE_S = 45.0
"""Seconds that a program took to compile on an H200 (40 to 50)."""


SHARE = 0.073
"""Of the peak: what ACDC's U-Net of 1.9 million parameters reached in the loop on an H200."""

LARGE_SHARE = 0.39
"""What the U-Net of 31 million parameters reached there, in bare steps of 32 images."""


class Cell(NamedTuple):
  """A page with overrides, and the stages of it that are run."""

  name: str
  page: str
  only: str
  words: tuple[str, ...] = ()
  data: str = 'root'  # the field of the data that names the folder
  folder: str = ''  # inside of --data
  share: float = SHARE  # of the peak, for the estimate of its minutes


SCRATCH = ('--config.optimizer.lr=0.009', '--config.optimizer.head_lr_multiplier=1')
# The page's network is a quarter as wide, for CPUs.
FULL = ('--config.model.widths=(32,64,128,256)',)
CELLS = (
  Cell('acdc-3', 'acdc.py:256', 'control-3*,unimatch-3*,fixmatch-3*'),
  Cell('acdc-7', 'acdc.py:256', 'control-7,control-7-*,unimatch-7*,fixmatch-7*'),
  Cell('zheng1', 'wbc_table1.py', 'zheng1-deeplabv3plus_resnet50-*', SCRATCH),
  Cell('uda-u373', 'uda_microscopy.py', 'u373-*', share=LARGE_SHARE),
  Cell('uda-bbbc039', 'uda_microscopy.py', 'bbbc039-*', share=LARGE_SHARE),
  Cell('hydramix', 'hydramix_crchisto.py', '*'),
  Cell('gan', 'gan_self_training_em.py:full', 'r0*,gan,paint,real1*,made1*'),
  Cell('hippocampus', 'hippocampus.py', '*', FULL, data='labeled', folder='msd_hippocampus'),
)
"""The most worth first."""


def command(cell: Cell, data: Path, run: Path, steps: int | None) -> list[str]:
  """Returns the words that run a cell."""
  words = [sys.executable, str(ROOT / 'main.py'), f'--config={ROOT / "configs" / cell.page}']
  words += [f'--config.data.{cell.data}={data / cell.folder}', f'--only={cell.only}', *cell.words]
  words.append(f'--workdir={run}')
  if steps:
    words += [f'--config.steps={steps}', f'--config.eval_every={steps}']
  return words


def run_cell(words: list[str], log: Path, seconds: float) -> int:
  """Runs a command for at most so many seconds, then has it save; returns its exit code."""
  with log.open('a') as file:
    process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT)
    try:
      return process.wait(timeout=max(seconds - STOPPING_S, 1))
    except subprocess.TimeoutExpired:
      # The run saves its state, and the same command resumes.
      process.send_signal(signal.SIGTERM)
    try:
      return process.wait(timeout=STOPPING_S)
    except subprocess.TimeoutExpired:
      process.kill()
      return process.wait()


def counted() -> dict[str, dict[str, float]]:
  """Returns what is known of the cells' operations; nothing without the file."""
  return json.loads(COUNTED.read_text()) if COUNTED.exists() else {}


def minutes(figures: dict[str, float], share: float) -> float:
  """Returns about how long a cell trains at a share of the peak, its compilation included."""
  seconds = figures['teraoperations'] * 1e12 / (share * PEAK)
  return (seconds + COMPILE_S * figures['programs']) / 60


def main() -> int:
  """Runs the cells; returns 1 where one of them failed, else 0."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
  parser.add_argument('--minutes', type=float, default=9.0)
  parser.add_argument('--data', type=Path, help='folder of the data sets')
  parser.add_argument('--runs', type=Path, default=Path('runs/papers'))
  parser.add_argument('--ledger', type=Path)
  parser.add_argument('--pattern', default='*')
  parser.add_argument('--steps', type=int)
  parser.add_argument('--list', action='store_true')
  parser.add_argument('--share', type=float, help='of the peak, for the minutes of --list')
  asked = parser.parse_args()
  cells = [cell for cell in CELLS if fnmatch.fnmatchcase(cell.name, asked.pattern)]
  if asked.list:
    known = counted()
    for cell in cells:
      share = asked.share or cell.share
      about = f'{minutes(known[cell.name], share):.0f}' if cell.name in known else '?'
      words = f'--only={cell.only} {" ".join(cell.words)}'
      print(f'{cell.name:12} {about:>6} min at {share:4.0%}  {cell.page:32} {words}')
    print('Minutes of the trainings on an H100 or H200 at this share of its matrix peak.')
    return 0
  if asked.data is None:
    parser.error('--data names the folder of the data sets; --list needs none')
  end = time.monotonic() + 60 * asked.minutes
  asked.runs.mkdir(parents=True, exist_ok=True)
  failed = False
  for cell in cells:
    left = end - time.monotonic()
    if left < SMALLEST_S:
      print(f'{cell.name}: no time left')
      continue
    began = time.monotonic()
    run, log = asked.runs / cell.name, asked.runs / f'{cell.name}.log'
    code = run_cell(command(cell, asked.data.resolve(), run, asked.steps), log, left)
    took = time.monotonic() - began
    # 130 is the code of a run that was asked to stop and has saved.
    states = {0: 'done', 130: 'stopped and saved'}
    print(f'{cell.name}: {states.get(code, f"failed, see {log}")} after {took:.0f} s', flush=True)
    failed = failed or code not in states
    if code == 0 and asked.ledger is not None:
      words = [sys.executable, '-m', 'ssl_jax.table', str(run), f'--ledger={asked.ledger}']
      path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
      subprocess.run(words, check=False, env=os.environ | {'PYTHONPATH': path})
  return int(failed)


if __name__ == '__main__':
  sys.exit(main())
