"""All measurements of speed on a CPU in one command, beside PyTorch where torch is installed.

  python benchmarks/run.py --out=FOLDER [--parts=doors,steps] [--compiled] [--tiny]

Writes FOLDER/benchmarks.json and FOLDER/benchmarks.md after each part, so that nothing is lost when
it is stopped. Parts, in this order:

  doors   the time in which each command answers --help
  start   from the command to the first update of the quickstart, without and with compiled programs
  steps   training steps and predictions of three networks, on one core and on two (step.py)
  pixels  a step and a prediction against the size of the image
  views   the share of a training step that making views takes
  sizes   predictions of images of 40 sizes
  folder  listing, checking and hashing a folder of 100,000 images
  whole   where the time of a whole training goes

`steps` took 41 minutes for one core, on a machine that was busy with other work. There, believe the
processor times and the ratios.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata, util
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

import run_parts  # noqa: E402
import step  # noqa: E402

SIDES = (128, 256, 512)


def of_steps(options: argparse.Namespace) -> list[dict[str, Any]]:
  """The rows of step.py on each number of cores."""
  rows = []
  available = len(os.sched_getaffinity(0))
  models = ['unet_efficientnet'] if options.tiny else list(step.MODELS)
  for cores in options.cores:
    if cores > available:
      continue
    for model in models:
      for method in step.METHODS:
        asked = step.Asked(model, method, steps=options.steps, cores=cores)
        if options.tiny:
          asked = asked._replace(size=32, batch=1)
        rows.append(step.figures(asked, options.compiled))
  return rows


PARTS: dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]] = {
  'doors': lambda options: run_parts.doors(),
  'start': lambda options: run_parts.first_step(),
  'steps': of_steps,
  'pixels': lambda options: run_parts.sizes((32, 64) if options.tiny else SIDES, options.steps),
  'views': lambda options: run_parts.views(48 if options.tiny else 128, options.steps),
  'sizes': lambda options: run_parts.many_sizes(6 if options.tiny else 40),
  'folder': lambda options: run_parts.folder_of_images(50 if options.tiny else 100_000),
  'whole': lambda options: run_parts.whole_run(20 if options.tiny else 200),
}


def machine() -> dict[str, str]:
  """What the figures are of: processor, cores, versions."""
  processor = platform.processor() or platform.machine()
  cpuinfo = Path('/proc/cpuinfo')
  if cpuinfo.exists():
    for line in cpuinfo.read_text().splitlines():
      if line.startswith('model name'):
        processor = line.partition(':')[2].strip()
        break
  facts = {'processor': processor, 'cores': str(len(os.sched_getaffinity(0)))}
  facts['python'] = platform.python_version()
  for package in ('jax', 'jaxlib', 'numpy', 'torch'):
    if util.find_spec(package):
      facts[package] = metadata.version(package)
  facts['date'] = time.strftime('%Y-%m-%d')
  return facts


def markdown(result: dict[str, Any]) -> str:
  """The figures as tables."""
  facts = ', '.join(f'{name} {value}' for name, value in result['machine'].items())
  blocks = [facts]
  for part, rows in result['parts'].items():
    if part == 'steps':
      lines = [[f'{row["cores"]}', *step.text(row)] for row in rows]
      blocks.append(_table(part, ['cores', *step.HEADER], lines))
    elif rows:
      header = list(rows[0])
      lines = [[str(row.get(name, '')) for name in header] for row in rows]
      blocks.append(_table(part, header, lines))
  return '\n\n'.join(blocks) + '\n'


def _table(title: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
  rows = ['| ' + ' | '.join(header) + ' |', '|---' * len(header) + '|']
  rows += ['| ' + ' | '.join(line) + ' |' for line in lines]
  return f'## {title}\n\n' + '\n'.join(rows)


def main(arguments: Sequence[str] | None = None) -> None:
  """Measures the parts that are asked for."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
  parser.add_argument('--out', type=Path, required=True, help='folder to write to')
  parser.add_argument('--parts', default=','.join(PARTS), help='which, with commas between them')
  parser.add_argument('--steps', type=int, default=7, help='steps of each library')
  parser.add_argument('--cores', type=int, nargs='+', default=[1, 2], help='of the part steps')
  parser.add_argument('--compiled', action='store_true', help='try torch.compile as well')
  parser.add_argument('--tiny', action='store_true', help='small, to see that it works')
  options = parser.parse_args(arguments)
  unknown = set(options.parts.split(',')) - set(PARTS)
  if unknown:
    parser.error(f'there is no part {", ".join(sorted(unknown))}; there are {", ".join(PARTS)}')
  options.out.mkdir(parents=True, exist_ok=True)
  result: dict[str, Any] = {'machine': machine(), 'parts': {}}
  for name, measure in PARTS.items():
    if name not in options.parts.split(','):
      continue
    print(f'{name} ...', flush=True)
    result['parts'][name] = measure(options)
    (options.out / 'benchmarks.json').write_text(json.dumps(result, indent=1) + '\n')
    (options.out / 'benchmarks.md').write_text(markdown(result))
  print(markdown(result))


if __name__ == '__main__':
  main()
