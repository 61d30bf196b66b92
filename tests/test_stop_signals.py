"""Who answers Ctrl-C and SIGTERM, and for how long."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from ssl_jax.errors import INTERRUPTED
from ssl_jax.io import stop_signals

pytestmark = pytest.mark.skipif(os.name == 'nt', reason='signals of POSIX')


def test_a_handler_answers_inside_its_block_and_the_earlier_one_after_it():
  asked = []
  before = signal.getsignal(signal.SIGTERM)
  with stop_signals.handled_by(lambda number, frame: asked.append(number)) as possible:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
  assert possible
  assert asked == [signal.SIGTERM, signal.SIGINT]
  assert signal.getsignal(signal.SIGTERM) is before


def test_outside_of_the_main_thread_nobody_answers():
  found = []

  def work():
    with stop_signals.handled_by(stop_signals.leave_at_once) as possible:
      found.append(possible)

  before = signal.getsignal(signal.SIGINT)
  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert found == [False]
  assert signal.getsignal(signal.SIGINT) is before


def test_a_program_that_is_still_importing_leaves_without_a_traceback():
  code = (
    'import os, signal; from ssl_jax.io import stop_signals; '
    'stop_signals.set_handler(stop_signals.leave_at_once); '
    'os.kill(os.getpid(), signal.SIGINT); print("went on")'
  )
  ended = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
  assert ended.returncode == INTERRUPTED
  assert ended.stdout == ''
  assert ended.stderr == '\nssl_jax: interrupted before anything began.\n'
