"""Peak memory and time of `predict` against the size of an image.

    python benchmarks/predict_memory.py RUN --sides 2000 10000 20000 --out=predict_memory.csv

Makes a tiled TIFF of each size from a picture of synthetic cells that repeats, predicts it with the
network of RUN in a process of its own, and reports the peak of that process (resident set, as the
system counts it; the time includes starting and compiling).
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from ssl_jax.datasets import synthetic

TILE = 512


def write_image(path, side):
  """A tiled, compressed TIFF of side x side pixels, never held in memory."""
  cells = synthetic.load(labeled=1, unlabeled=0, test=0, size=TILE).labeled[0]['image']
  pattern = np.asarray(cells)[..., 0] if np.ndim(cells) == 3 else np.asarray(cells)
  tiles = (pattern for _ in range((-(-side // TILE)) ** 2))
  options = dict(tile=(TILE, TILE), compression='zlib', photometric='minisblack', bigtiff=True)
  tifffile.imwrite(path, tiles, shape=(side, side), dtype=np.uint8, **options)


def peak_of(command):
  """Seconds and peak memory (MiB) of a command."""
  start = time.monotonic()
  process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
  _, status, usage = os.wait4(process.pid, 0)
  if os.waitstatus_to_exitcode(status):
    raise SystemExit(f'{command} failed')
  return time.monotonic() - start, usage.ru_maxrss / 1024


def measure(run, side, folder):
  images, out = folder / f'images_{side}', folder / f'out_{side}'
  images.mkdir()
  write_image(images / 'image.tif', side)
  command = [sys.executable, '-m', 'ssl_jax.predict', f'--run={run}']
  seconds, peak = peak_of([*command, f'--images={images}', f'--out={out}'])
  [mask] = (out / 'masks').iterdir()
  return {
    'side': side,
    'megapixels': side * side / 1e6,
    'peak_mib': round(peak),
    'seconds': round(seconds),
    'mask_mib': f'{mask.stat().st_size / 2**20:.1f}',
  }


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('run', type=Path)
  parser.add_argument('--sides', type=int, nargs='+', default=[2000, 10000, 20000])
  parser.add_argument('--out', type=Path, help='CSV file to write')
  parser.add_argument('--network', default='', help='what to call the network in the table')
  options = parser.parse_args()
  for side in options.sides:
    with tempfile.TemporaryDirectory() as folder:
      line = {'network': options.network or options.run.name}
      line |= measure(options.run.resolve(), side, Path(folder))
    print(line, flush=True)
    if options.out is not None:
      append(options.out, line)


def append(path, line):
  """Adds a line to a CSV file, at once: the next size may take hours."""
  new = not path.exists()
  with path.open('a', newline='') as file:
    table = csv.DictWriter(file, list(line))
    if new:
      table.writeheader()
    table.writerow(line)


if __name__ == '__main__':
  main()
