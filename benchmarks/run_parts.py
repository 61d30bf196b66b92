"""What benchmarks/run.py measures besides steps: starting, folders, sizes of images, whole runs."""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

import step  # noqa: E402

DOORS = ('inspect', 'predict', 'report', 'table', 'suggest', 'export', 'new_page')


class Used(NamedTuple):
  """What a process took up to a moment: wall and processor time, and its peak memory."""

  wall_s: float
  cpu_s: float
  peak_mib: float

  def row(self, name: str) -> dict[str, Any]:
    """As a row of a table."""
    return {'what': name, **{key: round(value, 2) for key, value in self._asdict().items()}}


def run(command: list[str], until: Path | None = None, **environment: str) -> Used:
  """Runs a command of ours, up to its end or until there is a line in a file, and then stops it.

  Raises:
    RuntimeError: if it fails, with the end of what it said.
  """
  with tempfile.TemporaryFile('w+') as said:
    began = time.perf_counter()
    child = psutil.Popen(
      [sys.executable, *command],
      cwd=ROOT,
      env={**os.environ, **environment},
      stdout=said,
      stderr=subprocess.STDOUT,
    )
    used = Used(0.0, 0.0, 0.0)
    while True:
      try:
        with child.oneshot():
          times, memory = child.cpu_times(), child.memory_info()
        if child.status() == psutil.STATUS_ZOMBIE:
          raise psutil.ZombieProcess(child.pid)
        peak = max(used.peak_mib, memory.rss / 2**20)
        used = Used(time.perf_counter() - began, times.user + times.system, peak)
      except (psutil.ZombieProcess, psutil.NoSuchProcess):
        break
      if until is not None and until.exists() and until.stat().st_size:
        child.kill()
        child.wait()
        return used
      time.sleep(0.01)
    if child.wait():
      said.seek(0)
      raise RuntimeError(f'{" ".join(command)} failed: {said.read()[-500:]}')
    return used


def doors() -> list[dict[str, Any]]:
  """How long each command takes to answer --help."""
  rows = []
  for door in DOORS:
    rows.append(run(['-m', f'ssl_jax.{door}', '--help']).row(door))
  return rows


def first_step() -> list[dict[str, Any]]:
  """From the command to the first update of the quickstart, without and with compiled programs.

  Compiled programs are kept in a folder of their own, which is empty at first.
  """
  rows = []
  with tempfile.TemporaryDirectory() as folder:
    for name in ('cold', 'warm'):
      workdir = Path(folder) / name
      command = ['main.py', '--only=fixmatch', f'--workdir={workdir}', '--config.num_seeds=1']
      command += ['--config.log_every=1', '--config.steps=20', '--config.eval_every=20']
      log = workdir / 'fixmatch' / 'metrics.jsonl'
      cache = str(Path(folder) / 'cache')
      rows.append(run(command, until=log, JAX_COMPILATION_CACHE_DIR=cache).row(name))
  return rows


def folder_of_images(count: int, side: int = 64) -> list[dict[str, Any]]:
  """Listing, checking and hashing a folder of many small PNG files."""
  rng = np.random.default_rng(0)
  with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    for kind in ('images', 'masks'):
      (folder / 'labeled' / kind).mkdir(parents=True)
    (folder / 'unlabeled').mkdir()
    for i in range(4):
      mask = np.zeros((side, side), np.uint8)
      mask[4 : 8 + i, 4:20] = 1
      Image.fromarray(mask).save(folder / 'labeled' / 'masks' / f'{i}.png')
      noise = rng.integers(0, 256, (side, side), np.uint8)
      Image.fromarray(noise).save(folder / 'labeled' / 'images' / f'{i}.png')
    for i in range(count):
      file = io.BytesIO()
      noise = rng.integers(0, 256, (side, side), np.uint8)
      Image.fromarray(noise).save(file, 'png', compress_level=0)
      (folder / 'unlabeled' / f'{i:06d}.png').write_bytes(file.getvalue())
    program = (
      'import sys; from ssl_jax.datasets import folder; '
      'folder.load(labeled=sys.argv[1] + "/labeled", unlabeled=sys.argv[1] + "/unlabeled")'
    )
    rows = [run(['-c', 'import ssl_jax.datasets.folder']).row('import alone')]
    rows.append(run(['-c', program, name]).row(f'{count:,} images of {side} x {side}'))
  return rows


def sizes(sides: tuple[int, ...], steps: int) -> list[dict[str, Any]]:
  """A training step and a prediction against the number of pixels."""
  rows = []
  for method in ('supervised', 'predict'):
    base = None
    for side in sides:
      asked = step.Asked('unet_efficientnet', method, size=side, batch=1, steps=steps, cores=1)
      result = step.in_a_process(asked, ['jax'])
      milliseconds = 1000 * float(np.median(result['times']['jax']))
      per_megapixel = milliseconds / (side * side / 1e6)
      base = base or per_megapixel
      rows.append(
        {
          'method': method,
          'side': side,
          'ms': round(milliseconds, 1),
          'ms_per_megapixel': round(per_megapixel),
          'relative': round(per_megapixel / base, 2),
          'gib': round(result['gib'], 2),
        }
      )
  return rows


def many_sizes(count: int) -> list[dict[str, Any]]:
  """Predicting images of as many sizes, which are not known beforehand or are, compiling included.

  Both begin without compiled programs.
  """
  rows = []
  for words in ([], ['--known']):
    with tempfile.TemporaryDirectory() as cache:
      command = [sys.executable, str(ROOT / 'benchmarks' / 'many_sizes.py'), f'--count={count}']
      environment = {**os.environ, 'JAX_COMPILATION_CACHE_DIR': cache}
      done = subprocess.run(
        [*command, *words], env=environment, stdout=subprocess.PIPE, text=True, check=True
      )
    found = json.loads(done.stdout.splitlines()[-1])
    row = {'what': f'{count} images of 100 to 180 pixels a side, their sizes'}
    row['what'] += ' known beforehand' if words else ' not known'
    rows.append({**row, 'cpu_s': round(found['cpu_s'], 1), 'programs': found['compilations']})
  return rows


def views(size: int, steps: int) -> list[dict[str, Any]]:
  """The share of a FixMatch step that making its views takes, on one core."""
  command = [sys.executable, str(ROOT / 'benchmarks' / 'views_share.py')]
  command += [f'--size={size}', f'--steps={steps}']
  done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
  return [{'size': size, **json.loads(done.stdout.splitlines()[-1])}]


def whole_run(steps: int) -> list[dict[str, Any]]:
  """Where the time of a training with views goes: steps, waiting for data, compiling, the rest."""
  with tempfile.TemporaryDirectory() as folder:
    workdir = Path(folder) / 'run'
    command = ['main.py', '--only=fixmatch', f'--workdir={workdir}', '--config.num_seeds=1']
    command += [f'--config.steps={steps}', f'--config.eval_every={steps}', '--config.log_every=5']
    used = run(command)
    lines = []
    for line in (workdir / 'fixmatch' / 'metrics.jsonl').read_text().splitlines():
      lines.append(json.loads(line))
  timed = [line for line in lines if 'steps_per_second' in line]
  rate = float(np.median([line['steps_per_second'] for line in timed]))
  row = {'what': f'{steps} updates of the quickstart', 'wall_s': round(used.wall_s, 1)}
  row['updates_s'] = round(steps / rate, 1)
  row['compiling_s'] = round(sum(line.get('compile_seconds', 0.0) for line in lines), 1)
  row['waiting_for_data'] = round(float(np.mean([line['waiting_for_data'] for line in timed])), 4)
  return [row]
