"""A training that may take as long as another whose steps cost more.

With equal steps, a method that also learns from unlabeled images takes longer than its control.
Here the control gets as many more steps as fit into the same time.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssl_jax import run_folder
from ssl_jax.errors import UserError
from ssl_jax.io.run_log import read_json, read_log, replace_text

QUICK = 0.1
"""Fraction of the logged windows that count as undisturbed: other programs only make steps slower.

Of 40 pairs of trainings beside other work, the ratio of the medians was between 0.9 and 7.0, and
that of the quickest tenth between 1.1 and 3.2. It was 1.6 to 2.5 in 32 pairs, the former in 24.
"""

FILE = 'steps.json'
"""In the folder of the stage: its steps, decided once, so that a resumed training is the same."""


def seconds_per_step(stage: Path) -> float | None:
  """Returns that of the quickest logged windows of all seeds; None where no speed is logged."""
  seconds = []
  for folder in run_folder.seed_folders(stage):
    for line in read_log(folder):
      if line.get('steps_per_second'):
        seconds.append(1 / line['steps_per_second'])
  return float(np.quantile(seconds, QUICK)) if seconds else None


def steps_of(folder: Path, steps: int, names: Sequence[str]) -> int:
  """Returns the steps that a stage has in the time that another took.

  A step takes as long with one draw of labels as with another, so where several pairs of stages are
  named, the median of their ratios counts: one that never had a quiet minute is outvoted.

  Args:
    folder: of the stage.
    steps: of the others.
    names: stages in pairs. The first of a pair is the one whose time it has, and the second has the
      same steps with the network of this one, by which the time of a step is known.

  Raises:
    UserError: if one of them has logged no speed.
  """
  path = folder / FILE
  if path.exists():
    return read_json(path, f'delete {folder}, and the same command trains it again')['steps']
  times = {}
  for name in names:
    times[name] = seconds_per_step(folder.parent / name)
    if times[name] is None:
      raise UserError(
        f'stages.{folder.name}: {name} has logged no speed; lower log_every, so that there is a '
        f'line after the first.'
      )
  ratios = [
    times[longer] / times[same] for longer, same in zip(names[::2], names[1::2], strict=True)
  ]
  # A control that is no faster has equal minutes already.
  count = max(steps, round(steps * float(np.median(ratios))))
  replace_text(path, json.dumps({'steps': count, 'seconds_per_step': times}, indent=1))
  print(f'{folder.name}: {count} steps take as long as the {steps} of {names[0]}.')
  return count
