"""Kills real runs at random moments until they are through, and compares them with untouched ones.

  python -m tests.faults --kills 50 [--minutes 25] [--seed 0] [--kinds training,predict] [--out F]

A moment is either a time, or a number of changes in the run's folder: most of a short process is
starting, and the second falls where files are written. One kill in five is a SIGTERM or a SIGINT,
after which the process must save and leave with 130. A run that was killed is started again, and
often killed again. In the end the arrays of the last checkpoints, masks, tables and done.json
(but for times) must be those of an uninterrupted run, byte for byte.
"""

import argparse
import json
import os
import pprint
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'tests'))
KINDS = ('training', 'self-training', 'gan-rounds', 'volumes', 'predict', 'report')
TIMES = re.compile('second|minute|time|mib|memory|peak|area|per_step', re.IGNORECASE)
"""Figures that no two runs share."""

TABLES = ('labels.csv', 'ranking.csv', 'candidates.csv', 'quality.csv')
PATIENCE = 3600
"""Seconds after which a process that does not end counts as hanging."""


class Kind(NamedTuple):
  """A kind of run: its command, with {folder} for where it writes."""

  name: str
  command: list[str]
  again: list[str]  # words that a restart adds


class Kill(NamedTuple):
  """One kill, and what became of the run."""

  kind: str
  signal: str
  seconds: float  # since the process began
  where: str
  in_a_row: int  # which kill of this run it is
  problem: str  # empty: survived


def page_kind(work: Path, name: str, config) -> Kind:
  """A kind that runs a page, which is written as plain Python: nothing of the tests is imported."""
  page = work / f'{name.replace("-", "_")}_page.py'
  tree = pprint.pformat(config.to_dict(), width=100)
  page.write_text(
    f'from ml_collections import ConfigDict\n\n\ndef get_config():\n  return ConfigDict({tree})\n'
  )
  command = [sys.executable, 'main.py', f'--config={page}', '--workdir={folder}']
  return Kind(name, command, [])


def make_kind(work: Path, name: str) -> Kind:
  """Prepares the data and the page of a kind; networks and images are tiny."""
  import conftest

  if name == 'training':
    config = conftest.tiny_page()
    config.unlock()
    config.model.dropout = 0.2
    config.update(steps=20, checkpoint_every=4, eval_every=10)
    return page_kind(work, name, config)
  if name == 'self-training':
    import test_stages

    return page_kind(work, name, test_stages.self_training(num_seeds=1, steps=12))
  if name == 'gan-rounds':
    conftest.write_sections(work / 'sections')
    return page_kind(work, name, conftest.tiny_rounds(work / 'sections'))
  if name == 'volumes':
    import test_segment

    conftest.write_volumes(work / 'volumes' / 'labeled')
    page = test_segment._page(work / 'volumes', steps=30, eval_every=30, checkpoint_every=10)
    return page_kind(work, name, page)
  # Both look at a finished run.
  trained = work / 'training' / 'whole'
  if name == 'report':
    command = ['-m', 'ssl_jax.report', str(trained), '--out={folder}/report.html']
    return Kind(name, [sys.executable, *command], [])
  images = work / 'images'
  write_images(images, 40)
  command = ['-m', 'ssl_jax.predict', f'--run={trained}', f'--images={images}', '--out={folder}']
  return Kind(name, [sys.executable, *command], ['--resume'])


def write_images(folder: Path, count: int) -> None:
  """Writes images of noise to predict."""
  import numpy as np
  from PIL import Image

  folder.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(0)
  for number in range(count):
    pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f'image{number:02d}.png')


def start(kind: Kind, folder: Path, again: bool, log: Path) -> subprocess.Popen:
  """Starts a process of a run; its output goes to a file."""
  folder.parent.mkdir(parents=True, exist_ok=True)
  if kind.name == 'report':
    folder.mkdir(exist_ok=True)
  words = [word.replace('{folder}', str(folder)) for word in kind.command]
  words += kind.again if again else []
  with log.open('wb') as file:
    return subprocess.Popen(words, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)


def signature(folder: Path) -> dict[str, tuple[int, int]]:
  """Path -> time of change and size, of all files of a folder."""
  found = {}
  for parent, _, names in os.walk(folder):
    for name in names:
      path = os.path.join(parent, name)
      try:
        status = os.stat(path)
      except OSError:  # gone meanwhile
        continue
      found[path] = (status.st_mtime_ns, status.st_size)
  return found


def watch(process: subprocess.Popen, folder: Path) -> Iterator[tuple[float, int, list[str]]]:
  """Yields seconds, changes so far and what changed last, while the process lives."""
  began = time.monotonic()
  before = signature(folder)
  changes, latest = 0, []
  while process.poll() is None:
    now = signature(folder)
    changed = [path for path, status in now.items() if before.get(path) != status]
    changes += len(changed)
    latest = changed or latest
    before = now
    yield time.monotonic() - began, changes, latest
    if time.monotonic() - began > PATIENCE:
      process.kill()
      process.wait()
      raise AssertionError('hangs')
    time.sleep(0.005)


def place(process: subprocess.Popen, folder: Path, latest: list[str], changes: int) -> str:
  """Where a process is: the stage whose lock it holds, and what it does there."""
  stage = ''
  for lock in folder.rglob('lock.json'):
    try:
      if json.loads(lock.read_text())['pid'] == process.pid:
        stage = lock.parent.name
    except (OSError, ValueError, KeyError):
      continue
  if not stage:
    return 'between stages' if changes else 'starting'
  if any(folder.rglob('*orbax-checkpoint-tmp*')):
    return f'{stage}: saving a checkpoint'
  names = {Path(path).name for path in latest}
  if any('masks' in path or 'images' in path for path in latest):
    return f'{stage}: writing masks or images'
  if 'metrics.jsonl' in names:
    return f'{stage}: training'
  return f'{stage}: {min(names) if names else "at work"}'


def output_problem(log: Path, code: int, expected: tuple[int, ...]) -> str:
  """What is wrong with how a process ended; empty if nothing is."""
  text = log.read_text(errors='replace')
  if 'Traceback' in text:
    return f'a traceback: {text[-1500:]}'
  if code not in expected:
    return f'exit code {code}: {text[-600:]}'
  return ''


class Baseline(NamedTuple):
  """The uninterrupted run."""

  folder: Path
  seconds: float
  changes: int


def untouched(kind: Kind, folder: Path) -> Baseline:
  """Runs a kind without a kill."""
  log = folder.with_suffix('.log')
  log.parent.mkdir(parents=True, exist_ok=True)
  process = start(kind, folder, False, log)
  seconds, changes = 0.0, 0
  for seconds, changes, _ in watch(process, folder):  # noqa: B007
    pass
  if problem := output_problem(log, process.returncode, (0,)):
    raise AssertionError(f'{kind.name} fails without a kill: {problem}')
  return Baseline(folder, seconds, changes)


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


def life(
  kind: Kind, folder: Path, whole: Baseline, rng: random.Random, in_a_row: int
) -> tuple[Kill | None, str]:
  """One process and its kill, None if it ended before; and what was wrong with it."""
  log = folder.with_suffix('.log')
  process = start(kind, folder, in_a_row > 1, log)
  by_time = rng.random() < 0.4
  at_seconds = rng.uniform(0, whole.seconds) if by_time else float('inf')
  # A restart writes less than the whole, so that it is killed early more often than late.
  at_change = rng.randint(1, max(whole.changes // in_a_row, 1)) if not by_time else 10**9
  delay = rng.uniform(0, 0.05)
  number = rng.choice((signal.SIGTERM, signal.SIGINT)) if rng.random() < 0.2 else signal.SIGKILL
  for seconds, changes, latest in watch(process, folder):
    if seconds < at_seconds and changes < at_change:
      continue
    time.sleep(delay)
    where = place(process, folder, latest, changes)
    process.send_signal(number)
    try:
      code = process.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()
      return None, f'{number.name} {where}: it does not end'
    name = number.name
    # It may have been done just then.
    expected = (-9, 0) if number == signal.SIGKILL else (130, 0)
    # Before Python has come to our code, a signal ends it as it ends any program.
    if number != signal.SIGKILL and seconds < 1.5 and where == 'starting':
      expected = (*expected, -int(number), 1)
      if code in (-int(number), 1):
        log.write_text('')
    problem = output_problem(log, code, expected)
    kill = Kill(kind.name, name, round(seconds, 2), where, in_a_row, problem)
    return (None if code == 0 else kill), problem
  return None, output_problem(log, process.returncode, (0,))


def torture(kind: Kind, whole: Baseline, folder: Path, rng: random.Random, most: int) -> list[Kill]:
  """Kills a run up to `most` times, lets it end, and compares it."""
  kills: list[Kill] = []
  problem = ''
  while len(kills) < most and not problem:
    kill, problem = life(kind, folder, whole, rng, len(kills) + 1)
    if kill is None:
      break
    kills.append(kill)
  if not problem:
    log = folder.with_suffix('.log')
    process = start(kind, folder, bool(kills), log)
    for _ in watch(process, folder):
      pass
    problem = output_problem(log, process.returncode, (0,))
    problem = problem or differences(whole.folder, folder)
  if problem and not kills:
    kills = [Kill(kind.name, 'none', 0.0, 'at its end', 0, problem)]
  # The kills of a run share its fate.
  return [kill._replace(problem=kill.problem or problem) for kill in kills]


def plan(kinds: list[str], kills: int) -> dict[str, int]:
  """How many kills each kind gets: a report is short, and has fewer."""
  weights = {name: {'report': 1, 'predict': 2, 'training': 4}.get(name, 3) for name in kinds}
  total = sum(weights.values())
  shares = {name: max(kills * weight // total, 1) for name, weight in weights.items()}
  shares[kinds[0]] += max(kills - sum(shares.values()), 0)
  return shares


def harass(work: Path, kinds: list[str], kills: int, seed: int, minutes: float) -> list[Kill]:
  """Does all kinds; none is begun once the minutes are over."""
  rng = random.Random(seed)
  began = time.monotonic()
  done: list[Kill] = []
  needs_training = {'predict', 'report'} & {*kinds}
  names = ['training', *kinds] if needs_training and 'training' not in kinds else kinds
  left = plan(kinds, kills)
  prepared = {}
  runs = 0
  while any(left.values()):
    for name in names:
      if (time.monotonic() - began) / 60 > minutes:
        return done
      if name not in prepared:
        kind = make_kind(work, name)
        prepared[name] = kind, untouched(kind, work / name / 'whole')
        print(f'{name}: {prepared[name][1].seconds:.0f} s without a kill', flush=True)
      if not left.get(name):
        continue
      kind, whole = prepared[name]
      runs += 1
      killed = torture(kind, whole, work / name / f'run{runs}', rng, min(left[name], 4))
      left[name] -= max(len(killed), 1)
      done += killed
      for kill in killed:
        fate = kill.problem or 'survived'
        print(f'  {name}: {kill.signal} at {kill.seconds} s, {kill.where}: {fate}', flush=True)
  return done


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
  lines.append(
    f'Up to {row} kills in a row; ' + ', '.join(f'{n} {name}' for name, n in signals.items()) + '.'
  )
  return '\n'.join(lines)


def main() -> int:
  """Reads the flags, kills, prints the table; 1 if a run did not survive."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--kills', type=int, default=50)
  parser.add_argument('--minutes', type=float, default=25)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--kinds', default=','.join(KINDS))
  parser.add_argument('--out', type=Path, help='JSON, a line of each kill')
  parser.add_argument('--work', type=Path, help='folder to work in, which is kept')
  options = parser.parse_args()
  work = options.work or Path(tempfile.mkdtemp(prefix='faults-'))
  work.mkdir(parents=True, exist_ok=True)
  set_environment(work)
  try:
    kinds = options.kinds.split(',')
    kills = harass(work, kinds, options.kills, options.seed, options.minutes)
  finally:
    if not options.work:
      shutil.rmtree(work, ignore_errors=True)
  print(table(kills))
  if options.out:
    lines = [kill._asdict() for kill in kills]
    options.out.write_text(json.dumps({'seed': options.seed, 'kills': lines}, indent=1))
  return int(any(kill.problem for kill in kills))


def set_environment(work: Path) -> None:
  """Compiled programs are kept, so that restarts are quick; apart, as kills spoil what they cut."""
  os.environ['JAX_COMPILATION_CACHE_DIR'] = str(work / 'compiled')
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  os.environ['PYTHONUNBUFFERED'] = '1'
  os.environ['XDG_CACHE_HOME'] = str(work / 'cache')
  os.environ['PYTHONPATH'] = str(ROOT)


if __name__ == '__main__':
  sys.exit(main())
