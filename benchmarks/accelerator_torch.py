"""The process of PyTorch: takes jobs as lines of JSON, answers each with a line of figures.

It is a process of its own so that the two libraries share neither memory nor CUDA libraries, and
stays for all jobs because it takes seconds to start.
"""

import gc
import importlib.util
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parent)]
from accelerator_report import step_seconds  # noqa: E402

CLASSES = 3


class Rival:
  """The process of PyTorch as seen from the other side; it is started when first asked."""

  def __init__(self):
    self.process: subprocess.Popen[str] | None = None
    self.reason = '' if importlib.util.find_spec('torch') else 'torch is not installed'

  def ask(self, job: dict[str, Any], limit: float) -> dict[str, Any]:
    """The figures of a job, or `torch` with the reason why there are none."""
    if self.reason:
      return {'torch': self.reason}
    process = self.process
    if process is None or process.poll() is not None:
      pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
      process = subprocess.Popen([sys.executable, __file__], **pipes)
      self.process = process
    assert process.stdin
    assert process.stdout
    timer = threading.Timer(limit, process.kill)
    timer.start()
    try:
      process.stdin.write(json.dumps(job) + '\n')
      process.stdin.flush()
      answer = process.stdout.readline()
    except BrokenPipeError:
      answer = ''
    finally:
      timer.cancel()
    if not answer:
      # It was killed, or it failed before it could answer; the next job starts another.
      process.wait()
      return {'torch': f'no answer (limit {limit:.0f} s, exit status {process.returncode})'}
    return json.loads(answer)

  def stop(self) -> None:
    """Ends the process."""
    if self.process:
      self.process.kill()
      self.process.wait()


def measure(job: dict[str, Any]) -> dict[str, Any]:
  """Step time and memory of a training step."""
  import torch
  from torch_models import torch_training

  cuda = torch.cuda.is_available()
  # As JAX: kernels are chosen by trying, and float32 products may be TF32.
  torch.backends.cudnn.benchmark = True
  torch.set_float32_matmul_precision('high')
  rng = np.random.default_rng(0)
  shape = (job['batch'], *job['size'])
  names = ('labeled', 'weak', 'strong') if job['method'] == 'fixmatch' else ('labeled',)
  arrays = {name: rng.random((*shape, 3), dtype=np.float32) for name in names}
  arrays['label'] = rng.integers(0, CLASSES, shape).astype(np.int32)
  if cuda:
    torch.cuda.reset_peak_memory_stats()
  begin = time.perf_counter()
  step, peak = torch_training(
    job['model'],
    job['method'],
    arrays,
    CLASSES,
    'cuda' if cuda else 'cpu',
    precision=job['precision'],
    compiled=job['compiled'],
    **job['kwargs'],
  )
  step().item()
  first = time.perf_counter() - begin
  # `item` waits for all that was started before it.
  seconds = step_seconds(step, lambda loss: loss.item(), job['block_s'], job['blocks'])
  return {'s': seconds, 'first_s': first, 'gib': peak() / 2**30 if peak else None}


def main() -> None:
  """Answers jobs until there are no more."""
  answers = sys.stdout
  # Whatever libraries print must not be taken for an answer.
  sys.stdout = sys.stderr
  for line in sys.stdin:
    try:
      answer = measure(json.loads(line))
    except Exception as error:
      answer = {'torch': f'{type(error).__name__}: {error}'.splitlines()[0][:200]}
    release()
    print(json.dumps(answer), file=answers, flush=True)


def release() -> None:
  """Gives back the memory of the last job, which other processes on the card may need."""
  if 'torch' in sys.modules:
    import torch

    gc.collect()
    torch.cuda.empty_cache()


if __name__ == '__main__':
  main()
