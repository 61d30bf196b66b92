"""Does memory grow, or the number of open files, in a long training and a long prediction?

  python benchmarks/long_run.py [--steps 5000] [--images 500] [--out results/long_run.csv]

Trains a tiny network for many steps, with logs, checkpoints and evaluations on the way, and then
predicts many images. Both are processes of their own, which are looked at from outside: resident
memory and open files, at so many steps or images. Passed if neither grows after the first quarter.
"""

import argparse
import csv
import json
import pprint
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
WARM = 0.25
"""Part of the work after which caches are filled and nothing may grow any more."""

GROWTH_MIB = 30.0
"""Growth of the median that passes, between the second quarter and the last: that of an allocator,
not of a leak; 100 bytes a step, or 8 KiB for each of 500 images, are less."""

GROWTH_FILES = 2


class Sample(NamedTuple):
  """What a process had after so many steps or images."""

  part: str
  done: int
  seconds: float
  resident_mib: float
  open_files: int


def make_page(folder: Path, steps: int) -> Path:
  """Writes a page: FixMatch on synthetic images, with a network of a few hundred parameters."""
  config = runpy.run_path(str(ROOT / 'configs' / 'quickstart.py'))['get_config']()
  config.unlock()
  config.model = dict(name='unet', widths=(2, 4))
  config.data.update(labeled=4, unlabeled=8, test=2, size=32)
  config.batch.update(labeled=2, unlabeled=2)
  config.update(crop_size=(16, 16), num_seeds=1, steps=steps, log_every=20)
  config.update(checkpoint_every=max(steps // 20, 1), eval_every=max(steps // 10, 1))
  flip = dict(flip=0.5)
  config.views = dict(
    labeled=dict(source='labeled', **flip),
    weak=dict(source='unlabeled', **flip),
    strong=dict(source='weak', cutmix=dict(p=0.5)),
  )
  config.stages = (dict(name='fixmatch'),)
  page = folder / 'long_run_page.py'
  tree = pprint.pformat(config.to_dict())
  page.write_text(
    f'from ml_collections import ConfigDict\n\n\ndef get_config():\n  return ConfigDict({tree})\n'
  )
  return page


def write_images(folder: Path, count: int) -> None:
  """Writes images of noise."""
  folder.mkdir()
  rng = np.random.default_rng(0)
  for number in range(count):
    pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f'{number:04d}.png')


def follow(
  part: str, command: list[str], count: Callable[[], int], log: Path, every: float
) -> list[Sample]:
  """Starts a command and samples it until it ends.

  Raises:
    SystemExit: if it fails.
  """
  samples = []
  with log.open('w') as file:
    process = psutil.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
  began = time.monotonic()
  while process.poll() is None:
    try:
      resident, files = process.memory_info().rss / 2**20, process.num_fds()
    except psutil.NoSuchProcess:
      break
    sample = Sample(part, count(), round(time.monotonic() - began, 1), round(resident, 1), files)
    # Before the first step or image it is starting and compiling.
    if sample.done:
      samples.append(sample)
    time.sleep(every)
  if process.wait():
    raise SystemExit(f'{part} failed:\n{log.read_text()[-2000:]}')
  return samples


def last_step(record: Path) -> int:
  """The last step of a metrics.jsonl; 0 where there is none."""
  try:
    lines = record.read_bytes().split(b'\n')
  except OSError:
    return 0
  # What follows the last end of a line is being written.
  return json.loads(lines[-2])['step'] if len(lines) > 1 else 0


def judge(samples: list[Sample], whole: int) -> tuple[bool, str]:
  """Whether nothing grew after the first quarter, and a sentence with the figures."""

  def between(first: float, last: float) -> list[Sample]:
    return [sample for sample in samples if first * whole <= sample.done <= last * whole]

  early, late = between(WARM, 2 * WARM), between(1 - WARM, 1)
  if not early or not late:
    return False, f'{samples[0].part if samples else "?"}: too few samples'
  memory = [float(np.median([sample.resident_mib for sample in part])) for part in (early, late)]
  # Checkpoints are written beside the training, so that single samples have more open files.
  files = [float(np.median([sample.open_files for sample in part])) for part in (early, late)]
  passed = memory[1] - memory[0] <= GROWTH_MIB and files[1] - files[0] <= GROWTH_FILES
  return passed, (
    f'{early[0].part}: {whole}, {len(samples)} samples; resident memory {memory[0]:.1f} MiB in the '
    f'second quarter, {memory[1]:.1f} in the last; open files {files[0]:.0f} and {files[1]:.0f}: '
    f'{"flat" if passed else "GROWS"}'
  )


def doubled(record: Path, steps: int) -> list[int]:
  """The steps of a record that are there twice, or lack a loss line."""
  lines = [json.loads(line) for line in record.read_text().splitlines()]
  logged = [line['step'] for line in lines if 'loss' in line]
  return sorted({step for step in logged if logged.count(step) > 1} | ({steps} - {*logged}))


def measure(folder: Path, steps: int, images: int, every: float) -> tuple[list[Sample], list]:
  """Trains and predicts in a folder; returns the samples, and for each part whether it passed."""
  run = folder / 'run'
  page = make_page(folder, steps)
  record = run / 'fixmatch' / 'metrics.jsonl'
  train = [sys.executable, 'main.py', f'--config={page}', f'--workdir={run}']
  trained = follow('training', train, lambda: last_step(record), folder / 'train.log', every)
  write_images(folder / 'images', images)
  out = folder / 'out'
  predict = [sys.executable, '-m', 'ssl_jax.predict', f'--run={run}']
  predict += [f'--images={folder / "images"}', f'--out={out}']

  def written() -> int:
    return len([*(out / 'masks').glob('*.png')]) if out.exists() else 0

  predicted = follow('prediction', predict, written, folder / 'predict.log', every / 4)
  verdicts = [judge(trained, steps), judge(predicted, images)]
  wrong = doubled(record, steps)
  verdicts.append((not wrong, f'metrics.jsonl: {f"steps {wrong}" if wrong else "each line once"}'))
  return trained + predicted, verdicts


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--steps', type=int, default=5000)
  parser.add_argument('--images', type=int, default=500)
  parser.add_argument('--every', type=float, default=1.0, help='seconds between two samples')
  parser.add_argument('--out', type=Path, help='CSV file for the samples')
  options = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    samples, verdicts = measure(Path(folder), options.steps, options.images, options.every)
  if options.out:
    with options.out.open('w', newline='') as file:
      writer = csv.writer(file)
      writer.writerow(Sample._fields)
      writer.writerows(samples)
  for _, sentence in verdicts:
    print(sentence)
  return int(not all(passed for passed, _ in verdicts))


if __name__ == '__main__':
  sys.exit(main())
