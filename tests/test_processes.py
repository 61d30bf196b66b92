"""Two processes that share a run end with the figures of one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY


def _start(workdir: Path, devices: int, **environment: str) -> subprocess.Popen:
  values = [f'--config.{key}={value}' for key, value in TINY.items()]
  flags = f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count={devices}'
  environment = os.environ | {'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'} | environment
  command = [sys.executable, 'main.py', *values, f'--workdir={workdir}']
  return subprocess.Popen(
    command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
  )


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path):
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{free.getsockname()[1]}'
  cluster = {'JAX_COORDINATOR_ADDRESS': address, 'JAX_NUM_PROCESSES': '2'}
  started = [_start(tmp_path / 'two', 1, **cluster, JAX_PROCESS_ID=str(i)) for i in range(2)]
  started.append(_start(tmp_path / 'one', 2))
  for process in started:
    output = process.communicate(timeout=600)[0].decode()
    assert process.returncode == 0, output[-2000:]
  one, two = (json.loads((tmp_path / name / 'done.json').read_text()) for name in ('one', 'two'))
  assert one == pytest.approx(two, abs=1e-3)
