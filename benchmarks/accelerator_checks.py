"""Correctness of an accelerator: updates against those of a CPU, and a resumed training.

The CPU's figures of the networks and methods in accelerator_steps.CHECKED are kept in
results/accelerator_cpu.json, so that an accelerator's minutes are not spent on them:

  JAX_PLATFORMS=cpu python benchmarks/accelerator_checks.py

adds those that are missing, or that are of another case than now. Of a case without a stored figure
the benchmark computes it.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from accelerator_bench import Bench
from accelerator_steps import CHECKED, ROOT, Case, compile_program, make_batch, make_learner
from accelerator_steps import make_state as fresh_state

FIGURES = ROOT / 'results' / 'accelerator_cpu.json'
TOLERANCES = {
  # The first update compares one gradient, the second what a step made of it.
  'float32': {'loss': 1e-4, 'grad_norm': 1e-3},
  'bfloat16': {'loss': 0.05, 'grad_norm': 0.2},
}
# Losses near 0, such as differences of probabilities, have no digits to compare.
SMALLEST = 1e-2


def two_updates(case: Case, device: jax.Device) -> list[dict[str, float]]:
  """Loss and gradient norm of two updates on a device, at full precision of products."""
  learner = make_learner(case)
  on_device = (fresh_state(case, learner), make_batch(case), jax.random.key(0))
  state, batch, key = jax.device_put(on_device, device)
  # Which kernel computes it is not what is checked, and trying them takes longest.
  options = {} if device.platform == 'cpu' else {'xla_gpu_autotune_level': 0}
  with jax.default_matmul_precision('highest'):
    program, _ = compile_program(jax.jit(learner.update), state, batch, key, **options)
  results = []
  for _ in range(2):
    state, metrics = program(state, batch, key)
    results.append({name: float(metrics[name]) for name in ('loss', 'grad_norm')})
  return results


def stored(name: str, case: Case) -> list[dict[str, float]] | None:
  """The CPU's figures of a case, or None where none are kept of just this case."""
  if not FIGURES.exists():
    return None
  kept = json.loads(FIGURES.read_text()).get(name)
  return kept['updates'] if kept and kept['case'] == repr(case) else None


def correctness(bench: Bench) -> None:
  """Two updates on the device against the same on the CPU."""
  device = jax.devices()[0]
  for name in bench.chosen(CHECKED):
    case = bench.case(name)
    expected: list[dict[str, float]] = []

    def compare(case: Case = case, expected: list = expected, name: str = name) -> dict[str, Any]:
      if not expected:
        single = case._replace(precision='float32')
        # Read even where it is not needed on a CPU: that is how a wrong file is noticed.
        expected += stored(name, single) or two_updates(single, jax.devices('cpu')[0])
      return differences(two_updates(case, device), expected, case.precision)

    bench.attempt('correctness', f'{name} float32', compare)
    half = case._replace(precision='bfloat16')
    bench.attempt('correctness', f'{name} bfloat16', lambda half=half, run=compare: run(half))


def differences(
  ours: list[dict[str, float]], right: list[dict[str, float]], precision: str
) -> dict[str, Any]:
  """Relative differences of the figures of each update, and whether all are within bounds."""
  result: dict[str, Any] = {}
  good = True
  for number, (one, other) in enumerate(zip(ours, right, strict=True), start=1):
    for figure, bound in TOLERANCES[precision].items():
      difference = abs(one[figure] - other[figure]) / max(abs(other[figure]), SMALLEST)
      result[f'{figure}_{number}'] = difference
      # NaN is greater than no bound, and so must not pass by `difference > bound`.
      good = good and bool(difference <= bound)
  return result | {'good': good}


def page(steps: int, size: int, widths: tuple[int, ...], batch: int, **fields: Any) -> Any:
  """A page of one FixMatch training on synthetic images, for the whole program."""
  from ssl_jax import settings

  config = settings.defaults()
  config.data = dict(name='synthetic', labeled=8, unlabeled=32, test=8, size=size)
  config.num_seeds = 1
  config.batch = dict(labeled=batch, unlabeled=batch)
  config.crop_size = (size, size)
  weak = dict(flip=0.5, flip_vertical=0.5, rotate=30.0)
  jitter = dict(p=0.8, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.1)
  config.views = dict(
    labeled=dict(source='labeled', **weak),
    weak=dict(source='unlabeled', **weak),
    strong=dict(source='weak', jitter=jitter, blur=dict(p=0.5, sigma=(0.1, 2.0))),
  )
  config.methods = dict(supervised=dict(), fixmatch=dict())
  config.model = dict(name='unet', widths=widths)
  config.steps = steps
  config.update(fields)
  return settings.complete(config)


def resume(bench: Bench) -> None:
  """A training that was killed after half of its steps against one that was not."""

  def compare() -> dict[str, Any]:
    from ssl_jax.run import run

    steps, half = (4, 2) if bench.small else (80, 40)
    config = page(
      steps, 32 if bench.small else 64, (4, 8) if bench.small else (16, 32, 64), 4,
      checkpoint_every=half, eval_every=steps, log_every=half,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
      folder = Path(name) / 'run'
      began = time.perf_counter()
      run(config, folder)
      whole_s = time.perf_counter() - began
      right = _last_state(folder, steps)
      # What a kill between the two checkpoints leaves.
      shutil.rmtree(folder / 'checkpoints' / str(steps))
      (folder / 'done.json').unlink()
      run(config, folder)
      again = _last_state(folder, steps)
    equal = [np.array_equal(ours, theirs, equal_nan=True)
             for ours, theirs in zip(again, right, strict=True)]  # fmt: skip
    return {'arrays': len(equal), 'equal': sum(equal), 'good': all(equal), 'whole_s': whole_s}

  bench.attempt('resume', f'{jax.devices()[0].device_kind}', compare)


def _last_state(folder: Path, step: int) -> list[np.ndarray]:
  """The arrays of a checkpoint."""
  from ssl_jax import run_folder
  from ssl_jax.inference.trained_networks import TrainedNetwork

  network = TrainedNetwork(run_folder.read_settings(folder), run_folder.read_stats(folder))
  return [np.asarray(leaf) for leaf in jax.tree.leaves(network.state(folder, step))]


def main(update: Callable = two_updates) -> None:
  """Writes the CPU's figures of all cases that have none, one after another."""
  device = jax.devices('cpu')[0]
  for name, case in CHECKED.items():
    if stored(name, case) is not None:
      continue
    updates = update(case, device)
    # Read anew each time, and replaced at once: it may be stopped anywhere.
    kept = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    kept[name] = {'case': repr(case), 'jax': jax.__version__, 'updates': updates}
    temporary = FIGURES.with_suffix('.part')
    temporary.write_text(json.dumps(kept, indent=1) + '\n')
    os.replace(temporary, FIGURES)
    print(name, updates, flush=True)


if __name__ == '__main__':
  main()
