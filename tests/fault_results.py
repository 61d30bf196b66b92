"""What came of the kills of faults.py: comparisons with the untouched run, lines, and the table."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

TIMES = re.compile(
  'second|minute|time|mib|memory|peak|area|per_step|waiting|compilations', re.IGNORECASE
)
"""Figures that no two runs share."""

TABLES = ('labels.csv', 'ranking.csv', 'candidates.csv', 'quality.csv')


class Kill(NamedTuple):
  """One kill, and what became of the run."""

  kind: str
  run: int  # kills of one run share its end
  in_a_row: int  # which kill of this run it is
  signal: str
  moment: str  # what was waited for
  seconds: float  # since the process began
  where: str
  code: int  # with which the process left
  problem: str  # empty: survived


def read(path: Path) -> list[Kill]:
  """The kills of a file of JSON lines; none where there is no file."""
  if not path.exists():
    return []
  return [Kill(**json.loads(line)) for line in path.read_text().splitlines()]


def append(path: Path, kills: list[Kill]) -> None:
  """Adds a line for each kill."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open('a') as file:
    for kill in kills:
      file.write(json.dumps(kill._asdict()) + '\n')


def table(kills: list[Kill]) -> str:
  """Kills and survivals by kind."""
  lines = ['kind           kills survived  where']
  for name in dict.fromkeys(kill.kind for kill in kills):
    mine = [kill for kill in kills if kill.kind == name]
    survived = sum(not kill.problem for kill in mine)
    places = Counter(kill.where.rpartition(': ')[2] for kill in mine)
    where = ', '.join(f'{place} {count}' for place, count in places.most_common())
    lines.append(f'{name:14} {len(mine):5} {survived:8}  {where}')
  survived = sum(not kill.problem for kill in kills)
  lines.append(f'{"all":14} {len(kills):5} {survived:8}')
  row = max((kill.in_a_row for kill in kills), default=0)
  signals = Counter(kill.signal for kill in kills)
  polite = [kill for kill in kills if kill.signal != 'SIGKILL']
  left = sum(kill.code == 130 for kill in polite)
  lines.append(
    f'Up to {row} kills in a row; '
    + ', '.join(f'{n} {name}' for name, n in signals.items())
    + f'; of {len(polite)} that were asked to stop {left} left with 130.'
  )
  return '\n'.join(lines)


def contents(folder: Path) -> dict[str, bytes]:
  """What must be equal, by its path: arrays of last checkpoints, masks, tables, figures."""
  found = {}
  for path in sorted(folder.rglob('*')):
    relative = path.relative_to(folder)
    if 'checkpoints' in relative.parts or not path.is_file():
      continue
    if path.name == 'done.json':
      figures = {k: v for k, v in json.loads(path.read_text()).items() if not TIMES.search(k)}
      found[str(relative)] = json.dumps(figures, sort_keys=True).encode()
    elif path.name == 'metrics.jsonl':
      found[str(relative)] = losses(path)
    elif relative.parts[-2:-1] == ('masks',) or path.name in TABLES:
      found[str(relative)] = path.read_bytes()
    elif path.name == 'report.html' and len([*folder.iterdir()]) == 1:
      # That of a run has its times; of one and the same run it is always the same.
      found[str(relative)] = path.read_bytes()
  for path in folder.rglob('checkpoints'):
    found |= arrays(path, folder)
  return found


def losses(path: Path) -> bytes:
  """The steps and losses of a log: a doubled line, or one that is missing, shows."""
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  kept = [{k: v for k, v in line.items() if not TIMES.search(k)} for line in lines]
  return json.dumps(kept, sort_keys=True).encode()


def arrays(checkpoints: Path, folder: Path) -> dict[str, bytes]:
  """The bytes of the arrays of the last checkpoint."""
  import jax
  import numpy as np
  import orbax.checkpoint as ocp

  last = max(int(path.name) for path in checkpoints.iterdir() if path.name.isdigit())
  with ocp.StandardCheckpointer() as reader:
    tree = reader.restore(checkpoints / str(last) / 'default')
  name = checkpoints.relative_to(folder)
  return {
    f'{name}/{last}{jax.tree_util.keystr(key)}': np.asarray(array).tobytes()
    for key, array in jax.tree_util.tree_leaves_with_path(tree)
  }


def differences(whole: Path, folder: Path) -> str:
  """The first things that are not equal, and what a kill left lying about; empty if nothing."""
  expected, found = contents(whole), contents(folder)
  other = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
  if other:
    return f'{len(other)} of {len(expected)} differ: {", ".join(other[:4])}'
  litter = [path.name for path in folder.rglob('*lock.json')]
  litter += [path.name for path in folder.rglob('*orbax-checkpoint-tmp*')]
  return f'left behind: {", ".join(litter[:4])}' if litter else ''
