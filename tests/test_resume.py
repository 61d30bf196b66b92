"""Killed at any moment, a run ends as if nothing had happened, to the last bit."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from conftest import ROOT

STEPS = 40


PAGE = """
import sys
sys.path.insert(0, {tests!r})
import conftest

def get_config():
  config = conftest.tiny_page()
  config.unlock()
  config.model.dropout = 0.2
  return config.lock()
"""


def _start(workdir: Path) -> subprocess.Popen:
  page = workdir.parent / 'page.py'
  page.write_text(PAGE.format(tests=str(ROOT / 'tests')))
  fields = {'steps': STEPS, 'checkpoint_every': 7, 'eval_every': 20}
  values = [f'--config.{key}={value}' for key, value in fields.items()]
  command = [sys.executable, 'main.py', f'--config={page}', *values, f'--workdir={workdir}']
  return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _finish(process: subprocess.Popen, code: int = 0) -> str:
  output = process.communicate(timeout=600)[0].decode()
  assert process.returncode == code, output[-2000:]
  return output


def _signal_at(process: subprocess.Popen, record: Path, step: int, number: int) -> None:
  """Waits until the run's record tells of the step, then sends the signal."""
  while process.poll() is None:
    if record.exists() and record.read_text().count('grad_norm') >= step:
      process.send_signal(number)
      return
    time.sleep(0.005)
  raise AssertionError('the run ended before it could be killed')


def _final(workdir: Path) -> list[np.ndarray]:
  path = workdir / 'fixmatch' / 'checkpoints' / str(STEPS) / 'default'
  return [np.asarray(x) for x in jax.tree.leaves(ocp.StandardCheckpointer().restore(path))]


def _losses(workdir: Path) -> list[tuple]:
  lines = map(json.loads, (workdir / 'fixmatch' / 'metrics.jsonl').read_text().splitlines())
  return [(line['step'], line['loss']) for line in lines if 'loss' in line]


def test_kill_and_terminate_then_resume_gives_the_same_bits(tmp_path):
  _finish(_start(tmp_path / 'whole'))
  broken = tmp_path / 'broken'
  record = broken / 'fixmatch' / 'metrics.jsonl'
  first, second = sorted(random.sample(range(2, STEPS - 5), 2))
  print('killed at step', first, 'and terminated at step', second)

  killed = _start(broken)
  _signal_at(killed, record, first, signal.SIGKILL)
  assert killed.wait() == -signal.SIGKILL
  ended = _start(broken)
  _signal_at(ended, record, second, signal.SIGTERM)
  assert 'stopped and saved at step' in _finish(ended, code=130)
  assert not (broken / 'done.json').exists()
  assert 'control is done' in _finish(_start(broken))

  for whole, resumed in zip(_final(tmp_path / 'whole'), _final(broken), strict=True):
    np.testing.assert_array_equal(whole, resumed)
  assert _losses(broken) == _losses(tmp_path / 'whole')
  figures = [json.loads((tmp_path / run / 'done.json').read_text()) for run in ('whole', 'broken')]
  assert figures[0] == figures[1]
