"""Kills real runs at random moments until they are through, and compares them with untouched ones.

  python -m tests.faults --kills 50 --keep FOLDER --out kills.jsonl

A process is killed at a time, after a number of changes in the run's folder, while it starts,
while it saves a checkpoint, or between two stages. One kill in four is a SIGTERM or a SIGINT,
after which the process must save and leave with 130. A run that was killed is started again, and
mostly killed again. In the end the arrays of the last checkpoints, masks, tables and done.json
(but for times) must be those of an uninterrupted run, byte for byte.

`--keep` holds reference runs and compiled programs, so that a kill costs seconds; with `--out` the
same command goes on where it was ended.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'tests'))

import fault_results  # noqa: E402
import psutil  # noqa: E402
from fault_kinds import KINDS, Kind, code_digest, make_kind  # noqa: E402
from fault_results import Kill, differences, table  # noqa: E402

PATIENCE = 1800
"""Seconds after which a process that does not end counts as hanging."""

INTERPRETER = 0.3
"""Seconds of the processor within which Python itself may still be starting."""

MOST = 4
"""Kills of one run in a row."""


class Seen(NamedTuple):
  """What was seen of a process up to a moment."""

  seconds: float
  changes: int  # files that were new or written anew
  saves: int  # checkpoints that began to be written
  stages: int  # stages that became done
  latest: list[str]  # files that changed last


class Baseline(NamedTuple):
  """The uninterrupted run."""

  folder: Path
  seconds: float
  starting: float  # seconds before the first change
  changes: int
  saves: int
  stages: int


def start(kind: Kind, folder: Path, again: bool, log: Path) -> subprocess.Popen:
  """Starts a process of a run; its output goes to a file."""
  folder.parent.mkdir(parents=True, exist_ok=True)
  if kind.name == 'report':
    folder.mkdir(exist_ok=True)
  words = [word.replace('{folder}', str(folder)) for word in kind.command]
  words += kind.again if again else []
  with log.open('wb') as file:
    return subprocess.Popen(words, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)


def signature(folder: Path) -> tuple[dict[str, tuple[int, int]], set[str]]:
  """Path -> time of change and size, of all files of a folder; and checkpoints being written."""
  found = {}
  saves = set()
  for parent, folders, names in os.walk(folder):
    for name in folders:
      if 'orbax-checkpoint-tmp' in name and parent.endswith('checkpoints'):
        saves.add(os.path.join(parent, name))
    for name in names:
      path = os.path.join(parent, name)
      try:
        status = os.stat(path)
      except OSError:  # gone meanwhile
        continue
      found[path] = (status.st_mtime_ns, status.st_size)
  return found, saves


def watch(process: subprocess.Popen, folder: Path) -> Iterator[Seen]:
  """Yields what is seen of a process and its folder, while it lives."""
  began = time.monotonic()
  # What an earlier process left is not counted.
  before, left = signature(folder)
  changes, latest = 0, []
  saves: set[str] = set()
  done: set[str] = set()
  while process.poll() is None:
    now, saving = signature(folder)
    changed = [path for path, status in now.items() if before.get(path) != status]
    changes += len(changed)
    latest = changed or latest
    before = now
    saves |= saving - left
    done |= {path for path in changed if path.endswith('done.json')}
    yield Seen(time.monotonic() - began, changes, len(saves), len(done), latest)
    if time.monotonic() - began > PATIENCE:
      process.kill()
      process.wait()
      raise AssertionError('hangs')
    time.sleep(0.005)


def place(process: subprocess.Popen, folder: Path, seen: Seen) -> str:
  """Where a process is: the stage whose lock it holds, and what it does there."""
  stage = ''
  for lock in folder.rglob('lock.json'):
    try:
      if json.loads(lock.read_text())['pid'] == process.pid:
        stage = lock.parent.name
    except (OSError, ValueError, KeyError):
      continue
  if not stage:
    if not seen.changes:
      return 'starting'
    return 'between stages' if (folder / 'config.json').exists() else 'at work'
  if any(folder.rglob('*orbax-checkpoint-tmp*')) or any('checkpoints/' in x for x in seen.latest):
    return f'{stage}: saving a checkpoint'
  names = {Path(path).name for path in seen.latest}
  if any('masks' in path or 'images' in path for path in seen.latest):
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


def untouched(kind: Kind, folder: Path) -> Baseline:
  """Runs a kind without a kill, once; with the same code a later call finds it in its folder."""
  facts = folder.with_suffix('.json')
  code = code_digest()
  if facts.exists():
    kept = json.loads(facts.read_text())
    if kept.pop('code') == code:
      return Baseline(folder, **kept)
  shutil.rmtree(folder, ignore_errors=True)
  log = folder.with_suffix('.log')
  log.parent.mkdir(parents=True, exist_ok=True)
  # Twice: the first run fills the cache of compiled programs, the second has the times of all.
  for _ in range(2):
    shutil.rmtree(folder, ignore_errors=True)
    process = start(kind, folder, False, log)
    starting = 0.0
    seen = Seen(0.0, 0, 0, 0, [])
    for seen in watch(process, folder):
      if not seen.changes:
        starting = seen.seconds
    if problem := output_problem(log, process.returncode, (0,)):
      raise AssertionError(f'{kind.name} fails without a kill: {problem}')
  whole = Baseline(folder, seen.seconds, starting, seen.changes, seen.saves, seen.stages)
  kept = whole._asdict() | {'code': code}
  del kept['folder']
  facts.write_text(json.dumps(kept))
  return whole


def draw_moment(whole: Baseline, rng: random.Random, in_a_row: int) -> tuple[str, Seen]:
  """What to wait for, by name, and the least of it that must have been seen."""
  never = Seen(float('inf'), 10**9, 10**9, 10**9, [])
  names = ['time', 'change', 'change', 'start']
  names += ['save'] if whole.saves else []
  names += ['stage'] if whole.stages > 1 else []
  name = rng.choice(names)

  # A restart does less than the whole, so that it is killed early more often than late.
  def count(most: int) -> int:
    return rng.randint(1, max(most // in_a_row, 1))

  moments = {
    'time': never._replace(seconds=rng.uniform(0, whole.seconds)),
    'start': never._replace(seconds=rng.uniform(0, whole.starting)),
    'change': never._replace(changes=count(whole.changes)),
    'save': never._replace(saves=count(whole.saves)),
    'stage': never._replace(stages=count(whole.stages - 1)),
  }
  return name, moments[name]


def life(
  kind: Kind, folder: Path, whole: Baseline, rng: random.Random, run: int, in_a_row: int
) -> tuple[Kill | None, str]:
  """One process and its kill, None if it ended before; and what was wrong with it."""
  log = folder.with_suffix('.log')
  process = start(kind, folder, in_a_row > 1, log)
  moment, least = draw_moment(whole, rng, in_a_row)
  delay = rng.uniform(0, 0.05)
  number = rng.choice((signal.SIGTERM, signal.SIGINT)) if rng.random() < 0.25 else signal.SIGKILL
  for seen in watch(process, folder):
    if not any(has >= asked for has, asked in zip(seen[:4], least[:4], strict=True)):
      continue
    # Between two stages there is little time; files of other moments take some to be written.
    time.sleep(delay if moment == 'change' else 0)
    where = place(process, folder, seen)
    worked = sum(psutil.Process(process.pid).cpu_times()[:2])
    process.send_signal(number)
    try:
      code = process.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()
      return None, f'{number.name} {where}: it does not end'
    # It may have been done just then.
    expected = (-9, 0) if number == signal.SIGKILL else (130, 0)
    # Before Python has come to our code, a signal ends it as it ends any program.
    if number != signal.SIGKILL and worked < INTERPRETER:
      expected = (*expected, -int(number), 1)
      if code in (-int(number), 1):
        log.write_text('')
    problem = output_problem(log, code, expected)
    seconds = round(seen.seconds, 2)
    kill = Kill(kind.name, run, in_a_row, number.name, moment, seconds, where, code, problem)
    return (None if code == 0 else kill), problem
  return None, output_problem(log, process.returncode, (0,))


def torture(
  kind: Kind, whole: Baseline, folder: Path, rng: random.Random, most: int, run: int = 1
) -> list[Kill]:
  """Kills a run up to `most` times, lets it end, and compares it."""
  kills: list[Kill] = []
  problem = ''
  while len(kills) < most and not problem:
    kill, problem = life(kind, folder, whole, rng, run, len(kills) + 1)
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
    kills = [Kill(kind.name, run, 0, 'none', 'none', 0.0, 'at its end', 0, problem)]
  # The kills of a run share its fate.
  return [kill._replace(problem=kill.problem or problem) for kill in kills]


def plan(kinds: list[str], kills: int) -> dict[str, int]:
  """How many kills each kind gets: a report is short, and has fewer."""
  weights = {name: {'report': 1, 'predict': 2, 'training': 4}.get(name, 3) for name in kinds}
  total = sum(weights.values())
  shares = {name: max(kills * weight // total, 1) for name, weight in weights.items()}
  shares[kinds[0]] += max(kills - sum(shares.values()), 0)
  return shares


def harass(
  work: Path, kinds: list[str], kills: int, seed: int, minutes: float, out: Path
) -> list[Kill]:
  """Does all kinds, on from what `out` holds; none is begun once the minutes are over."""
  began = time.monotonic()
  done = fault_results.read(out)
  left = plan(kinds, kills)
  for kill in done:
    left[kill.kind] = max(left.get(kill.kind, 0) - 1, 0)
  run = max((kill.run for kill in done), default=0)
  needs_training = {'predict', 'report'} & {*kinds}
  names = ['training', *kinds] if needs_training and 'training' not in kinds else kinds
  prepared = {}
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
      run += 1
      folder = work / name / f'run{run}'
      # That of a harness that was ended itself.
      shutil.rmtree(folder, ignore_errors=True)
      rng = random.Random(f'{seed} {run}')
      killed = torture(kind, whole, folder, rng, min(left[name], MOST), run)
      left[name] -= len(killed)
      done += killed
      fault_results.append(out, killed)
      for kill in killed:
        fate = kill.problem or 'survived'
        print(f'  {name}: {kill.signal} at {kill.seconds} s, {kill.where}: {fate}', flush=True)
      if not any(kill.problem for kill in killed):
        shutil.rmtree(folder)
  return done


def main() -> int:
  """Reads the flags, kills, prints the table; 1 if a run did not survive."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--kills', type=int, default=50)
  parser.add_argument('--minutes', type=float, default=60, help='after which no run is begun')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--kinds', default=','.join(KINDS))
  parser.add_argument('--out', type=Path, help='JSON lines, one for each kill; goes on from them')
  parser.add_argument('--keep', type=Path, help='folder of reference runs and compiled programs')
  options = parser.parse_args()
  work = (options.keep or Path(tempfile.mkdtemp(prefix='faults-'))).resolve()
  work.mkdir(parents=True, exist_ok=True)
  set_environment(work)
  out = options.out or work / 'kills.jsonl'
  try:
    kinds = options.kinds.split(',')
    kills = harass(work, kinds, options.kills, options.seed, options.minutes, out)
  finally:
    if not options.keep:
      shutil.rmtree(work, ignore_errors=True)
  print(table(kills))
  return int(any(kill.problem for kill in kills))


def set_environment(work: Path) -> None:
  """Compiled programs are kept, so that restarts are quick; apart, as kills spoil what they cut."""
  os.environ['JAX_COMPILATION_CACHE_DIR'] = str(work / 'compiled')
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  os.environ['JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES'] = '-1'
  os.environ['PYTHONUNBUFFERED'] = '1'
  os.environ['XDG_CACHE_HOME'] = str(work / 'cache')
  os.environ['PYTHONPATH'] = str(ROOT)
  import conftest  # noqa: F401  # sets flags with which XLA compiles quickly


if __name__ == '__main__':
  sys.exit(main())
