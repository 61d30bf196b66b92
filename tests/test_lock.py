"""Locks on folders: who holds one, and what becomes of that of a dead process."""

import json
import os
import socket
import subprocess
import sys
import time

import psutil
import pytest

from ssl_jax.errors import UserError
from ssl_jax.io.folders import lock


def _write(folder, **changes):
  mine = lock._mine()._asdict()
  (folder / lock.FILE).write_text(json.dumps(mine | changes))


def _dead_pid():
  process = subprocess.Popen([sys.executable, '-c', ''])
  process.wait()
  return process.pid


def test_a_folder_is_locked_while_the_block_runs(tmp_path):
  with lock.locked(tmp_path / 'run'):
    with pytest.raises(UserError, match=f'is in use by process {os.getpid()} on '):
      lock.check(tmp_path / 'run')
    with pytest.raises(UserError, match=r'since \d{4}-\d\d-\d\d'), lock.locked(tmp_path / 'run'):
      pass
    # The one that was refused has not taken the lock away.
    assert (tmp_path / 'run' / lock.FILE).exists()
  lock.check(tmp_path / 'run')
  assert [*(tmp_path / 'run').iterdir()] == []


def test_an_error_gives_the_folder_free(tmp_path):
  with pytest.raises(KeyboardInterrupt), lock.locked(tmp_path):
    raise KeyboardInterrupt
  assert [*tmp_path.iterdir()] == []


def test_the_lock_of_a_killed_process_is_taken_over_with_a_word(tmp_path, capsys):
  pid = _dead_pid()
  _write(tmp_path, pid=pid)
  lock.check(tmp_path)
  with lock.locked(tmp_path):
    assert json.loads((tmp_path / lock.FILE).read_text())['pid'] == os.getpid()
  assert f'process {pid} on {socket.gethostname()}' in capsys.readouterr().out
  assert [*tmp_path.iterdir()] == []


def test_a_zombie_holds_no_lock(tmp_path):
  process = subprocess.Popen([sys.executable, '-c', ''], stdout=subprocess.PIPE)
  began = psutil.Process(process.pid).create_time()
  process.stdout.read()
  while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
    time.sleep(0.01)
  _write(tmp_path, pid=process.pid, began=began)
  lock.check(tmp_path)
  process.wait()


@pytest.mark.skipif(os.name == 'nt', reason='numbers of parents')
def test_a_number_that_went_to_another_process_is_no_lock(tmp_path, capsys):
  _write(tmp_path, pid=os.getppid(), began=psutil.Process(os.getppid()).create_time() - 1000)
  with lock.locked(tmp_path):
    pass
  assert 'has ended without finishing' in capsys.readouterr().out


def test_of_another_machine_it_says_how_to_go_on(tmp_path):
  _write(tmp_path, host='elsewhere', pid=_dead_pid())
  with pytest.raises(UserError, match=r'on elsewhere .*, if it no longer runs there, delete'):
    lock.check(tmp_path)
  with pytest.raises(UserError, match='elsewhere') as error, lock.locked(tmp_path):
    pass
  # The advice works.
  assert f'delete {tmp_path / lock.FILE}' in str(error.value)
  (tmp_path / lock.FILE).unlink()
  with lock.locked(tmp_path):
    pass


def test_a_lock_that_was_cut_short_is_none(tmp_path):
  (tmp_path / lock.FILE).write_text('{"host": "el')
  with lock.locked(tmp_path):
    pass


def test_without_hard_links_there_is_a_lock_too(tmp_path, monkeypatch):
  def refuse(source, destination):
    raise PermissionError(1, 'Operation not permitted')

  monkeypatch.setattr(os, 'link', refuse)
  with lock.locked(tmp_path), pytest.raises(UserError, match='in use'), lock.locked(tmp_path):
    pass


def test_of_many_processes_one_gets_the_folder(tmp_path):
  _write(tmp_path, pid=_dead_pid())
  code = (
    'import sys, time; from pathlib import Path; from ssl_jax.io.folders import lock\n'
    'from ssl_jax.errors import UserError\n'
    'sys.stdin.read()\n'
    'try:\n'
    f'  with lock.locked(Path({str(tmp_path)!r})): print("in", flush=True); time.sleep(3)\n'
    'except UserError: print("out", flush=True)'
  )
  pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
  started = [subprocess.Popen([sys.executable, '-c', code], **pipes) for _ in range(4)]
  for process in started:
    process.stdin.close()
  last = [process.stdout.read().split()[-1] for process in started]
  for process in started:
    process.wait()
  assert last.count('in') == 1
