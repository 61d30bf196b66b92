"""Several processes share a run: they learn, stop, lose one, resume, and end like one process."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import fault_kinds
import pytest
from conftest import ROOT

from ssl_jax import parallel

pytestmark = pytest.mark.slow

END = parallel.SILENCE + 60
"""Seconds within which the others of a process that was killed end (docs/accelerators.md)."""


def _start(
  page: Path, workdir: Path, devices: int, cluster: dict[str, str] | None = None
) -> subprocess.Popen:
  # With optimization, as in test_device_equality.py.
  flags = f'--xla_force_host_platform_device_count={devices}'
  environment = os.environ | {'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'} | (cluster or {})
  command = [sys.executable, 'main.py', f'--config={page}', f'--workdir={workdir}']
  return subprocess.Popen(
    command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
  )


def _start_two(page: Path, workdir: Path) -> list[subprocess.Popen]:
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{free.getsockname()[1]}'
  cluster = {'JAX_COORDINATOR_ADDRESS': address, 'JAX_NUM_PROCESSES': '2'}
  return [_start(page, workdir, 1, cluster | {'JAX_PROCESS_ID': str(i)}) for i in range(2)]


def _wait_for(steps: int, record: Path, process: subprocess.Popen) -> None:
  """Waits until a record has so many steps."""
  while not record.exists() or record.read_text().count('grad_norm') < steps:
    assert process.poll() is None, process.communicate()[0].decode()[-2000:]
    time.sleep(0.02)


def _ends(processes: list[subprocess.Popen], code: int, seconds: float = 1200) -> str:
  """Waits for processes and returns what they said; they must leave with a code."""
  text = ''
  for process in processes:
    output = process.communicate(timeout=seconds)[0].decode()
    assert process.returncode == code, output[-2000:]
    assert 'Traceback' not in output
    text += output
  return text


@pytest.fixture
def page(tmp_path):
  config = fault_kinds.training_page(tmp_path)
  config.update(steps=40, checkpoint_every=5, eval_every=20)
  # Adam's first steps divide rounding errors by themselves.
  config.optimizer = dict(name='sgd', lr=0.01, momentum=0.9, weight_decay=1e-4)
  fault_kinds.page_kind(tmp_path, 'training', config)
  return tmp_path / 'training_page.py'


def _close(one: Path, other: Path) -> None:
  """Scores and losses agree; every step is logged once."""
  figures = [json.loads((folder / 'done.json').read_text()) for folder in (one, other)]
  # In percent: a pixel between two classes may fall to either.
  assert figures[0] == pytest.approx(figures[1], abs=0.1)
  for stage in ('control', 'fixmatch'):
    logs = []
    for folder in (one, other):
      lines = map(json.loads, (folder / stage / 'metrics.jsonl').read_text().splitlines())
      logs.append({line['step']: line['loss'] for line in lines if 'loss' in line})
    assert list(logs[0]) == list(range(1, 41))
    assert logs[0] == pytest.approx(logs[1], abs=1e-4)


@pytest.mark.parametrize('killed', [0, 1])
def test_one_that_is_killed_ends_the_other_and_the_pair_resumes(tmp_path, page, killed):
  two = _start_two(page, tmp_path / 'two')
  _wait_for(8, tmp_path / 'two' / 'control' / 'metrics.jsonl', two[0])
  two[killed].kill()
  other = two[1 - killed]
  began = time.monotonic()
  output = other.communicate(timeout=END)[0].decode()
  print(json.dumps({'killed': killed, 'seconds': round(time.monotonic() - began, 1)}))
  assert other.returncode != 0
  # JAX itself ends a process that cannot hear the one that keeps them together.
  assert 'Another process of this run has ended' in output or other.returncode < 0
  two[killed].communicate()

  # Both resume and are stopped: a signal to one stops both, at one step.
  two = _start_two(page, tmp_path / 'two')
  _wait_for(12, tmp_path / 'two' / 'fixmatch' / 'metrics.jsonl', two[0])
  two[killed].send_signal((signal.SIGTERM, signal.SIGINT)[killed])
  assert _ends(two, 130).count('stopped and saved at step') == 2

  # What two saved goes on with one.
  _ends([_start(page, tmp_path / 'two', 2)], 0)
  _ends([_start(page, tmp_path / 'one', 1)], 0)
  _close(tmp_path / 'one', tmp_path / 'two')


def test_two_processes_learn_what_one_does(tmp_path, page):
  _ends(_start_two(page, tmp_path / 'two'), 0)
  _ends([_start(page, tmp_path / 'one', 2)], 0)
  _close(tmp_path / 'one', tmp_path / 'two')
