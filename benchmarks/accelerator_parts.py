"""The parts of the accelerator benchmark; each prints its rows as they come."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from accelerator_bench import NETWORK, Bench
from accelerator_checks import correctness, resume
from accelerator_report import step_seconds
from accelerator_steps import CASES, Case, compile_program, make_step, peak_gib, tiny
from accelerator_whole import loop, volume

PEAK = {'bfloat16': 'matmul bfloat16', 'float32': 'matmul float32'}
FIRST_STEP = 'unet31m-256-bfloat16'
TOGETHER = 'unet2m-256-bfloat16'
LIMIT_S = 100.0
"""Of one compilation in the experiment about compilation."""


def ceilings(bench: Bench) -> None:
  """What the device reaches with one large operation."""
  side = 256 if bench.small else 8192
  rng = np.random.default_rng(0)
  square = rng.random((side, side), np.float32) - 0.5
  image = rng.random((2, 16, 16, 8) if bench.small else (16, 64, 64, 256), np.float32)
  channels = image.shape[-1]
  kernel = rng.random((3, 3, channels, channels), np.float32) - 0.5
  # 1 GiB, read once and written once.
  flat = np.zeros(2**16 if bench.small else 2**28, np.float32)

  def convolve(x: jax.Array, w: jax.Array) -> jax.Array:
    layout = ('NHWC', 'HWIO', 'NHWC')
    return jax.lax.conv_general_dilated(x, w, (1, 1), 'SAME', dimension_numbers=layout)

  def measure(function: Callable, arrays: list[np.ndarray], dtype: Any, count: float, unit: str):
    arguments = [jax.device_put(array.astype(dtype)) for array in arrays]
    program, figures = compile_program(jax.jit(function), *arguments)
    timing = bench.timing() | {'block_s': 0.01 if bench.small else 0.1}
    seconds = step_seconds(lambda: program(*arguments), jax.block_until_ready, **timing)
    return {unit: count / seconds / 1e12, 'ms': 1e3 * seconds, 'compile_s': figures['compile_s']}

  product = 2.0 * side**3
  taps = 2.0 * image.size * 9 * channels
  rows = {
    'matmul bfloat16': (jnp.matmul, [square, square], jnp.bfloat16, product, 'tflop_s'),
    'matmul float32': (jnp.matmul, [square, square], jnp.float32, product, 'tflop_s'),
    'convolution bfloat16': (convolve, [image, kernel], jnp.bfloat16, taps, 'tflop_s'),
    'copy': (lambda x: x + 1, [flat], jnp.float32, 2.0 * flat.nbytes, 'tb_s'),
  }
  for name, row in rows.items():
    bench.attempt('ceilings', name, lambda row=row: measure(*row))


def steps(bench: Bench) -> None:
  """Training steps, and the same in PyTorch."""
  for name in bench.chosen(CASES):
    case = bench.case(name)
    # First, because it takes seconds where our compilation may take the rest of the minutes.
    theirs = _torch(bench, case, compiled=False)
    bench.report.add('steps', name, **{f'torch_{k}': v for k, v in theirs.items() if k != 's'})

    def measure(case: Case = case, theirs: dict = theirs) -> dict[str, Any]:
      made = make_step(case)
      figures = dict(made.figures)
      seconds = step_seconds(made.advance, jax.block_until_ready, **bench.timing())
      result = {'ms': 1e3 * seconds, 'images_s': case.images() / seconds}
      if 's' in theirs:
        result['ratio'] = seconds / theirs['s']
      flops = figures.pop('flops')
      result['tflop'] = flops / 1e12
      for prefix, time_of_step in (('', seconds), ('torch_', theirs.get('s'))):
        if flops and time_of_step:
          rate = flops / time_of_step / 1e12
          result[f'{prefix}tflop_s'] = rate
          peak = bench.report.get('ceilings', PEAK[case.precision], 'tflop_s')
          result[f'{prefix}share'] = rate / peak if peak else None
      return result | figures | {'process_peak_gib': peak_gib()}

    bench.attempt('steps', name, measure, NETWORK)


def _torch(bench: Bench, case: Case, compiled: bool) -> dict[str, Any]:
  """Figures of PyTorch: seconds `s`, and what is printed."""
  # A ResNet-18 stands for ResNet-50 in our tiny network only.
  kwargs = {} if case.model == 'deeplabv3plus' else case.kwargs
  job = case._asdict() | {'kwargs': kwargs, 'compiled': compiled} | bench.timing()
  bench.report.doing = f'torch {case.model}'
  answer = bench.rival.ask(job, max(5.0, bench.clock.left()))
  if 's' not in answer:
    return {'note': answer['torch']}
  figures = {'ms': 1e3 * answer['s'], 'images_s': case.images() / answer['s']}
  return {'s': answer['s'], **figures, 'first_s': answer['first_s'], 'gib': answer['gib']}


def torch_compiled(bench: Bench) -> None:
  """The steps of PyTorch with torch.compile, beside those measured before."""
  for name in bench.chosen(CASES):
    if bench.rival.reason:
      bench.report.add('torch.compile', name, note=bench.rival.reason)
      continue
    reason = bench.clock.too_late('torch')
    if reason:
      bench.report.add('torch.compile', name, note=reason)
      continue
    figures = _torch(bench, bench.case(name), compiled=True)
    bench.clock.took('torch', figures.get('first_s', 0.0))
    seconds = figures.pop('s', None)
    ours = bench.report.get('steps', name, 'ms')
    if ours and seconds:
      figures['ratio'] = ours / 1e3 / seconds
    bench.report.add('torch.compile', name, **figures)


def first_step(name: str, small: bool) -> dict[str, Any]:
  """What a process of the experiment about compilation measures of itself."""
  case = tiny(CASES[name]) if small else CASES[name]
  made = make_step(case)
  keys = ('trace_s', 'compile_s', 'first_s', 'loss')
  timing = {'block_s': 0.01, 'blocks': 2} if small else {'block_s': 0.4, 'blocks': 5}
  seconds = step_seconds(made.advance, jax.block_until_ready, **timing)
  return {**{key: made.figures[key] for key in keys}, 'ms': 1e3 * seconds}


def compilation(bench: Bench) -> None:
  """Seconds to the first step, and the time of a step, with flags and caches of XLA.

  Each variant is a process of its own, because flags are read once. The first fills the caches
  that the last two read: all of the program, or only what autotuning chose.
  """
  with tempfile.TemporaryDirectory() as folder:
    # Where JAX tells XLA to keep its choices, beside its own cache of programs.
    choices = Path(folder) / 'xla_gpu_per_fusion_autotune_cache_dir'
    choices.mkdir()
    level = '--xla_gpu_autotune_level=0'
    known = f'--xla_gpu_per_fusion_autotune_cache_dir={choices}'
    variants = {
      'autotuned, no cache yet': ('', folder),
      'autotune level 0': (level, ''),
      'the same program again': ('', folder),
      'only the choices of autotuning': (known, ''),
    }
    for name, (flags, cache) in variants.items():
      limit = min(LIMIT_S, bench.clock.left() - 2)
      if limit < 10:
        bench.report.add('compilation', name, note=f'skipped: {limit:.0f} s are left')
        continue
      bench.report.doing = f'compilation {name}'
      bench.report.add('compilation', name, **_variant(bench, flags, cache, limit))


def _variant(bench: Bench, flags: str, cache: str, limit: float) -> dict[str, Any]:
  """The figures of one process of the experiment, or a note that it failed."""
  main = Path(__file__).with_name('accelerator.py')
  command = [sys.executable, str(main), '--first-step', FIRST_STEP]
  if bench.small:
    command.append('--tiny')
  # Without a folder there is no cache, whatever the environment says.
  command += ['--cache', cache] if cache else ['--cache', '']
  own = ' '.join(filter(None, (os.environ.get('XLA_FLAGS', ''), flags)))
  # This process keeps what memory it has, so the other takes only what it needs.
  environment = os.environ | {'XLA_FLAGS': own, 'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}
  begin = time.perf_counter()
  try:
    done = subprocess.run(
      command, env=environment, capture_output=True, text=True, timeout=limit, check=False
    )
  except subprocess.TimeoutExpired:
    return {'note': f'no step after {limit:.0f} s'}
  lines = done.stdout.splitlines()
  if done.returncode or not lines:
    reason = (done.stderr.strip().splitlines() or ['no output'])[-1]
    return {'note': f'exit status {done.returncode}: {reason[:200]}'}
  figures = json.loads(lines[-1])
  return {'process_s': time.perf_counter() - begin, **figures}


def together(bench: Bench) -> None:
  """Several seeds in one program, relative to one after another."""
  case = bench.case(TOGETHER)
  for seeds in (1, 2) if bench.small else (1, 2, 5):

    def measure(seeds: int = seeds) -> dict[str, Any]:
      made = make_step(case, seeds)
      seconds = step_seconds(made.advance, jax.block_until_ready, **bench.timing())
      figures = {'ms': 1e3 * seconds, 'images_s': seeds * case.images() / seconds}
      alone = bench.report.get('seeds', '1 seed', 'ms')
      if alone:
        figures['relative_to_one_after_another'] = 1e3 * seconds / (seeds * alone)
      return figures | {'compile_s': made.figures['compile_s'], 'gib': made.figures.get('gib')}

    name = f'{seeds} seed' + ('s' if seeds > 1 else '')
    bench.attempt('seeds', name, measure, NETWORK)


PARTS: dict[str, Callable[[Bench], None]] = {
  'a': ceilings,
  'c': steps,
  'x': compilation,
  'b': correctness,
  'r': resume,
  'e': loop,
  'f': volume,
  'd': together,
  't': torch_compiled,
}


def run(bench: Bench, letters: list[str]) -> Iterator[str]:
  """Does the parts in the order of their letters, which it yields when each is done."""
  for letter in letters:
    PARTS[letter](bench)
    yield letter
