"""Time of each method's training step, views included, as a ratio to the supervised one.

  python benchmarks/methods.py [--size 128] [--batch 4] [--steps 9]

The methods and views are those of configs/methods_microscopy.py, with cps and iic beside them; the
network is that page's small U-Net. All take their steps in turn in one process, so that all meet
the same disturbances; the ratio is the median of the ratios step by step.
"""

import argparse
import runpy
import sys
import time
from pathlib import Path

import jax
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ssl_jax import parallel, registry  # noqa: E402
from ssl_jax.parsing import stage_list  # noqa: E402
from ssl_jax.settings import Model, Optimizer  # noqa: E402
from ssl_jax.training import learner, optimizers  # noqa: E402

HEADS = {'class': 2, 'over': 10}


def cases(page) -> dict[str, tuple[dict, dict, Model]]:
  """Name -> keyword arguments of methods, views, and the network."""
  result = {}
  for spec in stage_list.resolve(stage_list.plain(page)):
    data_set, _, name = spec.name.partition('-')
    if data_set == 'bbbc039':
      settings = spec.settings
      result[name] = settings.methods, settings.views, settings.model
  supervised, _, unet = result['supervised']
  views = result['uda-kl'][1]
  pair = Model(name='pair', kwargs=dict(of=unet.name, kwargs=unet.kwargs))
  result['cps'] = {**supervised, 'cps': {'dice': 1.0}}, views, pair
  result['iic'] = {'iic': {'over': 'over'}}, views, unet
  return result


def step_of(methods: dict, views: dict, model: Model, batch: dict, size: int):
  """A function without arguments that takes one step and waits for it."""
  heads = HEADS if 'iic' in methods else None
  outputs = sum(HEADS.values()) if heads else HEADS['class']
  network = registry.build('models', model.name, model.kwargs, num_classes=outputs, dtype='float32')
  made = learner.make_learner(
    network,
    {name: registry.build('methods', name, kwargs) for name, kwargs in methods.items()},
    views,
    (size, size),
    optimizers.make(Optimizer(name='adam', weight_decay=0.0), lambda step: 0.01),
    teacher='ema',
    ema_decay=0.97,
    heads=heads,
  )
  used = {stream for stream in batch if any(view['source'] == stream for view in views.values())}
  batch = parallel.shard({name: batch[name] for name in used})
  key, example = jax.random.key(0), np.zeros((1, size, size, 1), np.float32)
  state = parallel.jit_init(made.init)(key, example, made.normalization)
  update = parallel.jit_update(made.update)

  def step() -> None:
    nonlocal state
    state, _ = jax.block_until_ready(update(state, batch, key))

  return step


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--size', type=int, default=128)
  parser.add_argument('--batch', type=int, default=4)
  parser.add_argument('--steps', type=int, default=9)
  args = parser.parse_args()
  page = runpy.run_path(str(ROOT / 'configs' / 'methods_microscopy.py'))['get_config']()
  rng, side = np.random.default_rng(0), 2 * args.size
  image = rng.random((args.batch, side, side, 1), np.float32)
  unlabeled = {'image': image, 'extent': np.full((args.batch, 2), side, np.int32)}
  label = rng.integers(0, 2, image.shape[:-1]).astype(np.uint8)
  batch = {'labeled': {**unlabeled, 'label': label}, 'unlabeled': unlabeled}
  steps = {name: step_of(*case, batch, args.size) for name, case in cases(page).items()}
  for step in steps.values():
    step()
  times = {name: [] for name in steps}
  for _ in range(args.steps):
    for name, step in steps.items():
      start = time.perf_counter()
      step()
      times[name].append(time.perf_counter() - start)
  control = np.array(times['supervised'])
  print(f'{args.batch} labeled and as many unlabeled images of {args.size} pixels a step')
  print(f'{"method":14} {"ms":>7} {"ratio":>6}')
  for name, taken in times.items():
    print(f'{name:14} {1e3 * np.median(taken):7.0f} {np.median(np.array(taken) / control):6.2f}')


if __name__ == '__main__':
  main()
