"""Predicts images of many sizes in one process, and tells what that took.

  python benchmarks/many_sizes.py [--known] [--count 40] [--model unet_efficientnet]

With --known the sizes are known before the first image is predicted, as the commands know them.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

import accelerator_steps  # noqa: E402
import jax  # noqa: E402
import step  # noqa: E402

from ssl_jax import parallel  # noqa: E402
from ssl_jax.inference import images  # noqa: E402
from ssl_jax.training.compilations import Compilations  # noqa: E402


def main() -> None:
  """Reads the options, predicts, and prints the figures as JSON."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
  parser.add_argument('--known', action='store_true')
  parser.add_argument('--count', type=int, default=40)
  parser.add_argument('--low', type=int, default=100, help='pixels; the shortest side')
  parser.add_argument('--high', type=int, default=180, help='pixels; the longest side')
  parser.add_argument('--model', choices=list(step.MODELS), default='unet_efficientnet')
  options = parser.parse_args()
  case = accelerator_steps.Case(
    options.model, step.MODELS[options.model], (128, 128), 1, 'float32', 'supervised'
  )
  learner = accelerator_steps.make_learner(case)
  state = jax.device_put(accelerator_steps.make_state(case, learner), parallel.replicated())
  predict = parallel.jit_predict(learner.predict)
  rng = np.random.default_rng(0)
  sizes = rng.integers(options.low, options.high + 1, (options.count, 2))
  shown = [rng.random((*size, 3), np.float32) for size in sizes]
  predict_fn = images.ImagePredictor(lambda batch: predict(state, batch), learner.multiple)
  if options.known:
    predict_fn = images.of_sizes(predict_fn, sizes)
  compilations = Compilations()
  began = time.process_time()
  for _ in images.predict_many(predict_fn, shown):
    pass
  seconds = time.process_time() - began
  print(json.dumps({'cpu_s': seconds, 'compilations': compilations.new()}))


if __name__ == '__main__':
  main()
