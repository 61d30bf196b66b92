"""Time and memory of a training step or a prediction, beside PyTorch where torch is installed.

  python benchmarks/step.py [--model unet] [--method fixmatch] [--cores 1] [--size 128] [--batch 4]

Every row is a process of its own, in which the libraries take their steps in turn, so that all meet
the same disturbances; a ratio is the median of the ratios step by step. `--batch` images are
labeled; FixMatch adds as many unlabeled ones, and both sides leave out the making of views. On a
machine that others use too, threads that wait for each other distort the times, PyTorch's most:
with `--cores 1` the processor time of a single core is compared, which other programs hardly
touch. Memory is the peak of a process that does nothing else.
"""

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

MODELS = {
  'unet': {},
  'deeplabv3plus': {},
  # As the pages for few labels have it.
  'unet_efficientnet': {'frozen': True, 'fixed': 4},
}
"""What is given to our network; PyTorch's is made to be the same."""

METHODS = ('supervised', 'fixmatch', 'predict')
EAGER, COMPILED = 'torch', 'torch.compile'
CLASSES = 3
HEADER = ('model', 'method', 'ms', 'spread', 'first s', 'GiB', 'torch ms', 'torch GiB', 'ratio')


class Asked(NamedTuple):
  """What is measured."""

  model: str
  method: str
  size: int = 128
  batch: int = 4
  steps: int = 7
  cores: int = 2
  precision: str = 'float32'


def rivals(compiled: bool = False) -> list[str]:
  """The forms of PyTorch that can be measured here."""
  if importlib.util.find_spec('torch') is None:
    return []
  return [EAGER, COMPILED] if compiled else [EAGER]


def _ours(asked: Asked) -> Callable[[], Any]:
  """A call of our library that waits for its result."""
  import accelerator_steps
  import jax

  from ssl_jax import parallel

  method = 'supervised' if asked.method == 'predict' else asked.method
  kwargs = MODELS[asked.model]
  space = (asked.size, asked.size)
  case = accelerator_steps.Case(asked.model, kwargs, space, asked.batch, asked.precision, method)
  if asked.method != 'predict':
    step = accelerator_steps.make_step(case)
    return lambda: jax.block_until_ready(step.advance())
  learner = accelerator_steps.make_learner(case)
  state = jax.device_put(accelerator_steps.make_state(case, learner), parallel.replicated())
  images = accelerator_steps.make_batch(case)['labeled']['image'].astype(np.float32) / 255
  predict = parallel.jit_predict(learner.predict)
  return lambda: jax.block_until_ready(predict(state, images))


def _theirs(asked: Asked, compiled: bool) -> Callable[[], Any]:
  """The same of PyTorch."""
  import torch
  from torch_models import torch_training

  # PyTorch would count the cores of the machine.
  torch.set_num_threads(asked.cores)
  rng = np.random.default_rng(0)
  shape = (asked.batch, asked.size, asked.size)
  arrays = {}
  for view in ('labeled', 'weak', 'strong'):
    arrays[view] = rng.standard_normal((*shape, 3), dtype=np.float32)
  arrays['label'] = rng.integers(0, CLASSES, shape).astype(np.int32)
  options = {'precision': asked.precision, 'compiled': compiled}
  start, _ = torch_training(asked.model, asked.method, arrays, CLASSES, 'cpu', **options)
  return lambda: start().item()


def measure(asked: Asked, libraries: Sequence[str]) -> dict[str, Any]:
  """Times of the libraries in this process, in seconds, and its peak memory in GiB."""
  # Before the libraries are imported and count the cores.
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-asked.cores :])
  clock = time.process_time if asked.cores == 1 else time.perf_counter
  steps = {}
  result: dict[str, Any] = {'first': {}, 'times': {library: [] for library in libraries}}
  for library in libraries:
    began = time.perf_counter()
    step = _ours(asked) if library == 'jax' else _theirs(asked, library == COMPILED)
    step()
    result['first'][library] = time.perf_counter() - began
    step()
    steps[library] = step
  for _ in range(asked.steps):
    for library, step in steps.items():
      began = clock()
      step()
      result['times'][library].append(clock() - began)
  unit = 1 if sys.platform == 'darwin' else 1024
  result['gib'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
  return result


def in_a_process(asked: Asked, libraries: Sequence[str]) -> dict[str, Any]:
  """What `measure` returns, measured in a process of its own."""
  question = json.dumps([asked._asdict(), list(libraries)])
  command = [sys.executable, __file__, f'--child={question}']
  done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
  return json.loads(done.stdout.splitlines()[-1])


def figures(asked: Asked, compiled: bool = False) -> dict[str, Any]:
  """The row of a table: milliseconds, memory, and the ratio to PyTorch's fastest form."""
  others = rivals(compiled)
  times = in_a_process(asked, ['jax', *others])
  ours = 1000 * np.array(times['times']['jax'])
  row: dict[str, Any] = {**asked._asdict(), 'ms': float(np.median(ours))}
  row |= {'least_ms': float(ours.min()), 'most_ms': float(ours.max())}
  row['first_s'] = times['first']['jax']
  alone = asked._replace(steps=1)
  row['gib'] = in_a_process(alone, ['jax'])['gib']
  if not others:
    return row
  medians = {name: float(np.median(times['times'][name])) for name in others}
  fastest = min(others, key=medians.__getitem__)
  ratios = ours / (1000 * np.array(times['times'][fastest]))
  row |= {'torch': fastest, 'torch_ms': 1000 * medians[fastest]}
  row |= {'torch_gib': in_a_process(alone, [fastest])['gib'], 'ratio': float(np.median(ratios))}
  row |= {'ratio_least': float(ratios.min()), 'ratio_most': float(ratios.max())}
  return row


def text(row: dict[str, Any]) -> list[str]:
  """A row as the cells of a table."""
  cells = [row['model'], row['method'], f'{row["ms"]:.0f}']
  cells.append(f'{row["least_ms"]:.0f} to {row["most_ms"]:.0f}')
  cells += [f'{row["first_s"]:.0f}', f'{row["gib"]:.2f}']
  if 'ratio' not in row:
    return [*cells, '', '', '']
  spread = f'{row["ratio_least"]:.2f} to {row["ratio_most"]:.2f}'
  named = f'{row["torch_ms"]:.0f}' + (' (compiled)' if row['torch'] == COMPILED else '')
  return [*cells, named, f'{row["torch_gib"]:.2f}', f'{row["ratio"]:.2f} ({spread})']


def main() -> None:
  """Prints a Markdown table, each row as soon as it is measured."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
  parser.add_argument('--model', choices=MODELS)
  parser.add_argument('--method', choices=METHODS)
  parser.add_argument('--size', type=int, default=128, help='side of the images')
  parser.add_argument('--batch', type=int, default=4, help='labeled images')
  parser.add_argument('--steps', type=int, default=7, help='steps of each library')
  parser.add_argument('--cores', type=int, choices=(1, 2), default=2)
  parser.add_argument('--precision', choices=('float32', 'bfloat16'), default='float32')
  parser.add_argument('--compiled', action='store_true', help='try torch.compile as well')
  parser.add_argument('--child', help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.child:
    asked, libraries = json.loads(options.child)
    print(json.dumps(measure(Asked(**asked), libraries)))
    return
  print('| ' + ' | '.join(HEADER) + ' |\n' + '|---' * len(HEADER) + '|', flush=True)
  for model in [options.model] if options.model else MODELS:
    for method in [options.method] if options.method else METHODS:
      numbers = (options.size, options.batch, options.steps, options.cores, options.precision)
      row = figures(Asked(model, method, *numbers), options.compiled)
      print('| ' + ' | '.join(text(row)) + ' |', flush=True)


if __name__ == '__main__':
  main()
