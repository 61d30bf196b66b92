"""The time in which the device had nothing to do."""

import threading
import time

import pytest

from ssl_jax.training import idle_time
from ssl_jax.training.idle_time import IdleTime


class _Device:
  """Computes one call at a time, each until it is told to end."""

  def __init__(self, monkeypatch):
    monkeypatch.setattr(idle_time.jax, 'block_until_ready', lambda done: done.wait(10))

  def call(self):
    return threading.Event()


def _ended(idle):
  idle._end_of_last.result(10)


def test_only_what_comes_after_the_end_of_a_call_counts(monkeypatch):
  device, idle = _Device(monkeypatch), IdleTime()
  first = device.call()
  idle.batch_is_there()  # before any call there is nothing to wait for
  idle.called(first)
  # The device is busy while the next batch comes.
  time.sleep(0.05)
  idle.batch_is_there()
  assert idle.seconds == 0
  first.set()
  _ended(idle)
  time.sleep(0.1)
  idle.batch_is_there()
  assert idle.seconds == pytest.approx(0.1, abs=0.08)
  idle.close()


def test_pauses_between_windows_do_not_count(monkeypatch):
  device, idle = _Device(monkeypatch), IdleTime()
  call = device.call()
  idle.called(call)
  call.set()
  _ended(idle)
  time.sleep(0.02)
  idle.begin()  # an evaluation was in between
  idle.batch_is_there()
  assert idle.seconds == 0
  idle.close()
