"""Step, inference and compilation of networks, as ratios to the U-Net of 1.0 million parameters.

  python benchmarks/networks.py [--size 128] [--batch 8] [--steps 9]

A supervised step of the learner, without views that change anything, in float32. All networks take
their steps in turn in one process, so that all meet the same disturbances; the ratio is the median
of the ratios step by step. Compilation is measured once, without the cache.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ssl_jax import build, parallel  # noqa: E402
from ssl_jax.data.dataset_stats import DatasetStats  # noqa: E402
from ssl_jax.settings import Inputs, Learning, Model, Optimizer  # noqa: E402

CLASSES = ('background', 'a', 'b')
NETWORKS = {
  'U-Net': Model(name='unet', kwargs=dict(widths=(8, 16, 32, 64, 256), norm='group')),
  'U-Net on ResNet-18': Model(
    name='unet_resnet', kwargs=dict(backbone='resnet18', widths=(128, 64, 32, 16, 16))
  ),
  'U-Net on EfficientNet-Lite0': Model(name='unet_efficientnet', pretrained='imagenet'),
  'the same, fixed=4': Model(name='unet_efficientnet', pretrained='imagenet', kwargs=dict(fixed=4)),
}


class Timed(NamedTuple):
  """A network: its size, what it took to compile, and calls that wait for their result."""

  parameters: int
  compile_s: float
  step: Callable[[], None]
  predict: Callable[[], None]


def prepare(model: Model, batch: dict, size: int) -> Timed:
  """Compiles the step and the prediction of a network."""
  stats = DatasetStats(CLASSES, 3, None, (0.5,) * 3, (0.25,) * 3, {}, 0)
  learning = Learning(
    model=model, methods={'supervised': dict(dice=1.0)}, optimizer=Optimizer(lr=1e-3)
  )
  count = len(batch['labeled']['image'])
  inputs = Inputs(
    batch={'labeled': count}, crop_size=(size, size), views={'labeled': dict(source='labeled')}
  )
  learner = build.learner(learning, inputs, 1000, stats)
  key = jax.random.key(0)
  example = np.zeros((1, size, size, 3), np.float32)
  state = parallel.jit_init(learner.init)(key, example, learner.normalization)
  parameters = sum(leaf.size for leaf in jax.tree.leaves(state.student['params']))
  update = parallel.jit_update(learner.update)
  predict = parallel.jit_predict(learner.predict)
  sharded = parallel.shard(batch)
  images = batch['labeled']['image'].astype(np.float32) / 255

  def step() -> None:
    nonlocal state
    state, _ = jax.block_until_ready(update(state, sharded, key))

  begin = time.perf_counter()
  step()
  compile_s = time.perf_counter() - begin

  def infer() -> None:
    jax.block_until_ready(predict(state, images))

  infer()
  return Timed(parameters, compile_s, step, infer)


def seconds(call: Callable[[], None]) -> float:
  """How long one call takes."""
  begin = time.perf_counter()
  call()
  return time.perf_counter() - begin


def main() -> None:
  """Prints a Markdown table."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
  parser.add_argument('--size', type=int, default=128, help='side of the images')
  parser.add_argument('--batch', type=int, default=8, help='images a step')
  parser.add_argument('--steps', type=int, default=9, help='steps of each network')
  options = parser.parse_args()
  jax.config.update('jax_enable_compilation_cache', False)
  rng = np.random.default_rng(0)
  shape = (options.batch, options.size, options.size)
  labeled = {
    'image': rng.integers(0, 256, (*shape, 3), np.uint8),
    'label': rng.integers(0, len(CLASSES), shape).astype(np.uint8),
    'extent': np.full((options.batch, 2), options.size, np.int32),
  }
  networks = {
    name: prepare(model, {'labeled': labeled}, options.size) for name, model in NETWORKS.items()
  }
  times = {kind: {name: [] for name in networks} for kind in ('step', 'predict')}
  for _ in range(options.steps):
    for name, network in networks.items():
      times['step'][name].append(seconds(network.step))
      times['predict'][name].append(seconds(network.predict))
  first = next(iter(networks))
  print('| network | parameters | step ms | ratio | inference ms | ratio | compilation s | ratio |')
  print('|---|---|---|---|---|---|---|---|')
  for name, network in networks.items():
    line = [name, f'{network.parameters:,}']
    for kind in ('step', 'predict'):
      own, base = np.array(times[kind][name]), np.array(times[kind][first])
      line += [f'{1000 * np.median(own):.0f}', f'{np.median(own / base):.2f}']
    ratio = network.compile_s / networks[first].compile_s
    line += [f'{network.compile_s:.0f}', f'{ratio:.2f}']
    print('| ' + ' | '.join(line) + ' |')


if __name__ == '__main__':
  main()
