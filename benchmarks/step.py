"""Time and memory of one training step, and its ratio to PyTorch where torch is installed.

  python benchmarks/step.py [--model unet|deeplabv3plus] [--method supervised|fixmatch]
                            [--size 128] [--batch 8] [--steps 7] [--one-core]

Every row is a process of its own. The two libraries take their steps in turn in one process, so
that both meet the same disturbances; the ratio is the median of the ratios step by step. `--batch`
images are labeled; FixMatch adds as many unlabeled ones. On a machine that others use too, threads
that wait for each other distort the times, PyTorch's most: `--one-core` then compares the processor
time of a single core, which other programs hardly touch. Memory is the peak of the process, or of
the accelerator where there is one.
"""

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
MODELS, METHODS = ('unet', 'deeplabv3plus'), ('supervised', 'fixmatch')
CLASSES = 3
HEADER = '{:14} {:11} {:>9} {:>9} {:>9} {:>10} {:>10} {:>9} {:>7}'
ROW = '{:14} {:11} {:9.0f} {:9.0f} {:9.2f} {:>10} {:>10} {:>9} {:>7}'


def jax_step(name: str, method: str, arrays: dict, dtype: str):
  """A function without arguments that takes one step of the learner and waits for it.

  The views are the images as they are: what the other library is not asked to do is left out.
  """
  import jax

  from ssl_jax import parallel, registry
  from ssl_jax.settings import Optimizer
  from ssl_jax.training import learner, optimizers

  network = registry.build('models', name, {}, num_classes=CLASSES, dtype=dtype)
  methods = sorted({'supervised', method})
  made = learner.make_learner(
    network,
    {name: registry.build('methods', name, {}) for name in methods},
    {
      'labeled': {'source': 'labeled'},
      'weak': {'source': 'unlabeled'},
      'strong': {'source': 'weak'},
    },
    arrays['label'].shape[1:],
    optimizers.make(Optimizer(name='sgd', momentum=0.9, weight_decay=1e-4), lambda step: 0.01),
  )
  extent = np.array([arrays['label'].shape[1:]] * len(arrays['label']), np.int32)
  batch = {
    'labeled': {'image': arrays['labeled'], 'label': arrays['label'], 'extent': extent},
    'unlabeled': {'image': arrays['weak'], 'extent': extent},
  }
  batch, key = parallel.shard(batch), jax.random.key(0)
  state = parallel.jit_init(made.init)(key, arrays['labeled'][:1], made.normalization)
  update = parallel.jit_update(made.update)

  def step():
    nonlocal state
    state, metrics = update(state, batch, key)
    return float(jax.block_until_ready((state, metrics))[1]['loss'])

  def peak():
    return jax.devices()[0].memory_stats()['peak_bytes_in_use']

  return step, (None if jax.default_backend() == 'cpu' else peak)


def seconds(step, clock=time.perf_counter) -> float:
  start = clock()
  step()
  return clock() - start


def measure(args: argparse.Namespace, libraries: list[str]) -> dict:
  """The times of `--steps` steps of each library, taken in turn, and the peak of the first."""
  clock = time.process_time if args.one_core else time.perf_counter
  if args.one_core:  # before the libraries are imported and count the cores
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
  rng = np.random.default_rng(0)
  shape = (args.batch, args.size, args.size)
  names = ('labeled', 'weak', 'strong')
  arrays = {k: rng.standard_normal((*shape, 3), dtype=np.float32) for k in names}
  arrays['label'] = rng.integers(0, CLASSES, shape).astype(np.int32)

  steps, result = {}, {'times': {library: [] for library in libraries}}
  for library in libraries:
    if library == 'jax':
      step, peak = jax_step(args.model, args.method, arrays, args.dtype)
    else:
      from torch_models import torch_step

      step, peak = torch_step(args.model, args.method, arrays, CLASSES, args.device)
    result['compile'] = result.get('compile', seconds(step))
    steps[library] = step
    seconds(step)
    if 'peak' not in result:
      kilo = 1 if sys.platform == 'darwin' else 1024
      used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo
      result['peak'] = (peak() if peak else used) / 2**30
  for _ in range(args.steps):
    for library, step in steps.items():
      result['times'][library].append(seconds(step, clock))
  return result


def child(args: argparse.Namespace, libraries: list[str], **flags) -> dict:
  flags = {**vars(args), **flags, 'child': ','.join(libraries)}
  one_core = ['--one-core'] if flags.pop('one_core') else []
  command = [sys.executable, __file__, *(f'--{k}={v}' for k, v in flags.items() if v is not None)]
  command += one_core
  env = {**os.environ, 'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}
  done = subprocess.run(command, stdout=subprocess.PIPE, env=env, text=True, check=True)
  return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--model', choices=MODELS)
  parser.add_argument('--method', choices=METHODS)
  parser.add_argument('--size', type=int, default=128)
  parser.add_argument('--batch', type=int, default=8)
  parser.add_argument('--steps', type=int, default=7)
  parser.add_argument('--dtype', default='float32', help='compute type of the JAX side')
  parser.add_argument('--device', default='cpu', help='of the PyTorch side: cpu or cuda')
  parser.add_argument('--one-core', action='store_true', help='processor time of a single core')
  parser.add_argument('--child', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.child:
    print(json.dumps(measure(args, args.child.split(','))))
    return
  torch = importlib.util.find_spec('torch') is not None
  print(f'{args.batch} images of {args.size} x {args.size}, {args.steps} steps; ms, s, GiB')
  titles = ('median', 'least', 'compile', 'memory', 'torch', 'memory', 'ratio')
  print(HEADER.format('model', 'method', *titles), flush=True)
  for model in [args.model] if args.model else MODELS:
    for method in [args.method] if args.method else METHODS:
      here = {'model': model, 'method': method}
      result = child(args, ['jax', 'torch'] if torch else ['jax'], **here)
      ours = np.array(result['times']['jax'])
      row = [np.median(ours) * 1e3, ours.min() * 1e3, result['compile'], f'{result["peak"]:.2f}']
      if torch:
        theirs = np.array(result['times']['torch'])
        memory = child(args, ['torch'], **here, steps=0)['peak']
        row += [f'{np.median(theirs) * 1e3:.0f}', f'{memory:.2f}']
        row += [f'{np.median(ours / theirs):.2f}']
      else:
        row += ['-'] * 3
      print(ROW.format(model, method, *row), flush=True)


if __name__ == '__main__':
  main()
