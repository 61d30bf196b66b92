"""Errors of the system as sentences."""

import errno
import io
import sys

import pytest

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
