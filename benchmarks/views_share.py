"""The share of a training step that making views takes, on this machine.

  python benchmarks/views_share.py [--size 128] [--batch 4] [--steps 7] [--cores 1]

Steps of the quickstart's FixMatch (its network, views and losses), and the making of its views
alone, in turn in one process. The share is the median over the pairs. A step in which views are
the images as they are would say the same, but the difference is lost among what disturbs steps.
"""

import argparse
import json
import os
import runpy
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]


def calls_of(size: int, images: int) -> dict[str, Callable[[], Any]]:
  """Functions that take a step, or make the views of one, and wait for it."""
  import jax

  from ssl_jax import build, parallel
  from ssl_jax.data import dataset_stats, stream
  from ssl_jax.parsing import parse_settings
  from ssl_jax.settings import Inputs, Learning
  from ssl_jax.views.make_views import make_views

  page = runpy.run_path(str(ROOT / 'configs' / 'quickstart.py'))['get_config']()
  page.data.size = size
  page.crop_size = (size, size)
  page.batch = dict(labeled=images, unlabeled=images)
  page.stages = ()
  # What weights the network begins with makes no difference to the time.
  page.model.pretrained = ''
  settings = parse_settings.parse(page.to_dict())
  splits = build.splits_of_seed(settings, 0)
  stats = dataset_stats.compute_stats(splits)
  inputs = settings.part(Inputs)
  batch = next(iter(stream.batches([build.streams(inputs, splits, 0)], 0, 1)))
  learner = build.learner(settings.part(Learning), inputs, settings.steps, stats)
  key = jax.random.key(0)
  example = np.zeros((1, size, size, stats.channels), np.float32)
  state = parallel.jit_init(learner.init)(key, example, learner.normalization)
  update = parallel.jit_update(learner.update)
  batch = parallel.shard(batch)
  views_of = jax.jit(lambda batch, key: make_views(inputs.views, batch, (size, size), key))

  def step() -> None:
    nonlocal state
    state, metrics = update(state, batch, key)
    jax.block_until_ready(metrics)

  return {'step': step, 'views': lambda: jax.block_until_ready(views_of(batch, key))}


def main() -> None:
  """Reads the options, measures, and prints the figures as JSON."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
  parser.add_argument('--size', type=int, default=128)
  parser.add_argument('--batch', type=int, default=4, help='labeled images, and unlabeled ones')
  parser.add_argument('--steps', type=int, default=7)
  parser.add_argument('--cores', type=int, default=1)
  options = parser.parse_args()
  # Before JAX is imported and counts the cores.
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-options.cores :])
  clock = time.process_time if options.cores == 1 else time.perf_counter
  calls = calls_of(options.size, options.batch)
  times: dict[str, list[float]] = {name: [] for name in calls}
  for call in calls.values():
    call()
    call()
  for _ in range(options.steps):
    for name, call in calls.items():
      began = clock()
      call()
      times[name].append(clock() - began)
  shares = [views / step for views, step in zip(times['views'], times['step'], strict=True)]
  found = {f'{name}_ms': round(1e3 * statistics.median(each), 1) for name, each in times.items()}
  spread = {'least': round(min(shares), 3), 'most': round(max(shares), 3)}
  print(json.dumps({**found, 'share': round(statistics.median(shares), 3), **spread}))


if __name__ == '__main__':
  main()
