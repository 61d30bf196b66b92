"""The comparisons of a page taken together, corrected for their number."""

from collections.abc import Sequence
from pathlib import Path

from ssl_jax.evaluation import confusion
from ssl_jax.evaluation.comparison import headline, repetitions, verdicts
from ssl_jax.evaluation.comparison.repetitions import read_repetition
from ssl_jax.io.run_log import read_done, replace_text
from ssl_jax.parsing.stage_list import StageSpec
from ssl_jax.run_folder import seed_folders
from ssl_jax.stages.comparing import looks

FILE = 'verdicts.txt'
"""In the run folder."""


def write(run: Path, specs: Sequence[StageSpec]) -> list[str]:
  """Writes verdicts.txt, a line for each comparison, and returns the lines.

  None where the page has a single comparison, whose own verdict needs no correction.

  Args:
    run: folder of the run.
    specs: its stages.
  """
  names, differences, seen = [], [], []
  for spec in specs:
    if spec.run != 'compare' or read_done(run / spec.name) is None:
      continue
    of, against = spec.stage_kwargs['of'], spec.stage_kwargs['against']
    sides = []
    for stage in (of, against):
      sides.append([read_repetition(folder) for folder in seed_folders(run / stage)])
    done = read_done(run / spec.name) or {}
    metric = next(name for name in confusion.DISPLAY_NAME if f'test/{name}_difference' in done)
    score = headline.score_of(metric, ())
    assert score is not None  # each of these has one
    counted = [headline.counted(side, metric) for side in sides]
    comparison = f'{of} against {against}'
    names.append(comparison)
    differences.append(repetitions.compare(*counted, score).difference)
    seen.append(max(len(looks.read_looks(run, comparison)), 1))
  if len(names) < 2:
    return []
  lines = verdicts.page_verdicts(names, differences, seen)
  replace_text(run / FILE, '\n'.join(lines) + '\n')
  return lines
