"""The whole program on an accelerator: a training with all that surrounds it, and a CT."""

import dataclasses
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from accelerator_bench import NETWORK, Bench
from accelerator_checks import page
from accelerator_report import step_seconds
from accelerator_steps import peak_gib

PLAIN = {'labeled': 'labeled', 'weak': 'unlabeled', 'strong': 'weak'}
"""Views of FixMatch that are the images as they are, by their sources."""


def loop(bench: Bench) -> None:
  """A FixMatch training as a person starts it: where its time goes, and against bare steps."""
  from ssl_jax import build, parallel, run_folder
  from ssl_jax.data import stream
  from ssl_jax.io.run_log import read_log
  from ssl_jax.run import run
  from ssl_jax.settings import Inputs, Learning

  steps, size = (8, 32) if bench.small else (1000, 256)
  widths = (4, 8) if bench.small else (16, 32, 64, 128, 256)
  config = page(
    steps, size, widths, 4 if bench.small else 24,
    eval_every=steps // 2, checkpoint_every=steps // 4, log_every=max(steps // 40, 1),
  )  # fmt: skip
  kept = tempfile.TemporaryDirectory()
  folder = Path(kept.name) / 'run'
  images = 2 * (4 if bench.small else 24)

  def whole() -> dict[str, Any]:
    began = time.perf_counter()
    run(config, folder)
    total = time.perf_counter() - began
    lines = read_log(folder)
    speeds = [line['steps_per_second'] for line in lines if 'steps_per_second' in line]
    seconds = {'stepping': steps / statistics.median(speeds)}
    for name in ('compile', 'evaluate', 'save'):
      seconds[name] = sum(line.get(f'{name}_seconds', 0.0) for line in lines)
    # Reading the data, initial weights, the final evaluation and its masks, the report.
    seconds['rest'] = total - sum(seconds.values())
    result = {'total_s': total, 'images_s': images * statistics.median(speeds)}
    shares = [line['share_of_peak'] for line in lines if 'share_of_peak' in line]
    if shares:
      result['share_of_peak'] = statistics.median(shares)
    # Compilation is paid once, and left out: so they are shares of what a long training takes.
    lasting = total - seconds['compile']
    part = {f'{name}_s': value for name, value in seconds.items()}
    of_total = {f'{name}_share': seconds[name] / lasting for name in ('evaluate', 'save', 'rest')}
    return result | part | of_total

  def bare(views: Mapping[str, Any] | None) -> dict[str, Any]:
    settings, stats = run_folder.read_settings(folder), run_folder.read_stats(folder)
    inputs = settings.part(Inputs)
    splits = build.splits(settings.data)
    streams = build.streams(inputs, splits, settings.seed)
    batch = next(iter(stream.batches([streams], 0, 1)))
    if views is not None:
      inputs = dataclasses.replace(inputs, views=views)
    learner = build.learner(settings.part(Learning), inputs, steps, stats)
    example = np.zeros((1, size, size, stats.channels), np.float32)
    key = jax.random.key(0)
    state = parallel.jit_init(learner.init)(key, example, learner.normalization)
    update = parallel.jit_update(learner.update)
    batch = parallel.shard(batch)

    def advance() -> Any:
      nonlocal state
      state, metrics = update(state, batch, key)
      return metrics

    seconds = step_seconds(advance, jax.block_until_ready, **bench.timing())
    result = {'ms': 1e3 * seconds, 'images_s': images / seconds}
    of_loop = bench.report.get('loop', 'whole run', 'images_s')
    if of_loop:
      result['whole_relative'] = of_loop / result['images_s']
    return result

  bench.attempt('loop', 'whole run', whole, NETWORK)
  if bench.report.get('loop', 'whole run', 'images_s') is None:
    kept.cleanup()
    return
  # The difference of the first two is what loading costs, that of the last two what views cost.
  bench.attempt('loop', 'bare steps with views', lambda: bare(None), NETWORK)
  plain = {name: {'source': source} for name, source in PLAIN.items()}
  bench.attempt('loop', 'bare steps', lambda: bare(plain), NETWORK)
  kept.cleanup()


def volume(bench: Bench) -> None:
  """A CT through nnU-Net's network in overlapping windows, from NumPy to class ids."""
  from ssl_jax import parallel, registry
  from ssl_jax.inference import sliding_window, window_defaults

  shape, side = ((24, 24, 20), 16) if bench.small else ((512, 512, 300), 128)
  widths = (4, 8) if bench.small else (32, 64, 128, 256, 320, 320)
  classes = 14
  window = (side,) * 3

  def measure(precision: str) -> dict[str, Any]:
    network = registry.build(
      'models', 'nnunet', {'widths': widths}, num_classes=classes, dtype=precision
    )
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(
      lambda x: network.init(jax.random.key(0), x), np.zeros((1, *window, 1), np.float32)
    )
    # Not by `init`, which would have to be compiled; the time does not depend on the weights.
    weights = jax.tree.map(
      lambda leaf: rng.standard_normal(leaf.shape, np.float32) * np.float32(0.02), shapes
    )
    weights = parallel.replicate(weights)
    predict = parallel.jit_predict(lambda state, x: jax.nn.softmax(network.apply(state, x)))
    predict_fn: Callable = functools.partial(predict, weights)
    began = time.perf_counter()
    predict_fn(np.zeros((1, *window, 1), np.float32))
    compiled = time.perf_counter() - began
    ct = rng.integers(0, 256, (*shape, 1), np.uint8).astype(np.float32) / 255
    predictor = sliding_window.WindowedPredictor(predict_fn, window)
    began = time.perf_counter()
    ids, _ = predictor.labels(ct)
    seconds = time.perf_counter() - began
    assert ids.shape == shape
    count = 1
    for length in shape:
      count *= len(sliding_window.window_starts(length, side, window_defaults.OVERLAP))
    return {
      'case_s': seconds,
      'windows': count,
      'window_ms': 1e3 * seconds / count,
      'compile_s': compiled,
      'process_peak_gib': peak_gib(),
    }

  for precision in ('bfloat16', 'float32'):
    name = f'{" x ".join(map(str, shape))} {precision}'
    bench.attempt('volume', name, lambda precision=precision: measure(precision))
