"""Errors of the system as sentences."""

import errno
import io
import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

from ssl_jax.io import terminal


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_with_the_file(number):
  error = OSError(number, 'whatever the system says', '/data/a.png')
  assert terminal.is_disk_full(error)
  expected = '/data/a.png cannot be written: the disk is full; free some space and start again.'
  assert terminal.sentence_of(error) == expected


def test_a_full_disk_is_seen_through_what_libraries_make_of_it():
  deep = ValueError("RESOURCE_EXHAUSTED: ... No space left on device [os_error_code='28']")
  outer = RuntimeError('saving failed')
  outer.__cause__ = deep
  assert terminal.is_disk_full(outer)
  assert not terminal.is_disk_full(MemoryError('RESOURCE_EXHAUSTED: out of memory'))


def test_other_errors_name_the_file():
  error = PermissionError(errno.EACCES, 'Permission denied', '/data')
  assert terminal.sentence_of(error) == '/data: Permission denied.'


def test_a_name_that_is_no_text_can_be_printed(monkeypatch):
  stream = io.TextIOWrapper(io.BytesIO(), encoding='ascii')
  monkeypatch.setattr(sys, 'stdout', stream)
  terminal.print_any_name()
  print('Bl\udce4tter é')
  stream.flush()
  assert stream.buffer.getvalue() == b'Bl\\udce4tter \\xe9\n'


@pytest.mark.skipif(os.name == 'nt', reason='signals of POSIX')
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_still_imports_leaves_without_a_traceback(tmp_path, number):
  # In place of a library, a module whose import takes until the signal comes.
  slow = 'import time\nprint("importing", flush=True)\ntime.sleep(60)\n'
  (tmp_path / 'absl.py').write_text(slow)
  environment = os.environ | {'PYTHONPATH': f'{tmp_path}{os.pathsep}{ROOT}'}
  command = [sys.executable, '-m', 'ssl_jax.predict', '--run=a', '--images=b', '--out=c']
  process = subprocess.Popen(
    command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
  )
  assert process.stdout.readline() == b'importing\n'
  process.send_signal(number)
  _, errors = process.communicate(timeout=60)
  assert process.returncode == 130
  assert errors.decode().strip() == 'ssl_jax: interrupted before anything began.'


@pytest.mark.skipif(os.name == 'nt', reason='signals of POSIX')
def test_a_command_cleans_up_when_it_is_terminated(capsys):
  cleaned = []

  def action():
    try:
      os.kill(os.getpid(), signal.SIGTERM)
      return 0
    finally:
      cleaned.append(True)

  before = signal.getsignal(signal.SIGTERM)
  assert terminal.exit_code(action, 'again') == 130
  assert cleaned
  assert 'interrupted; again.' in capsys.readouterr().err
  assert signal.getsignal(signal.SIGTERM) is before
