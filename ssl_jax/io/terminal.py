"""What a person at the keyboard reads."""

import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from ssl_jax.errors import INTERRUPTED, UserError
from ssl_jax.io import stop_signals

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a disk, or of a person's share of it, that is full."""

FULL_TEXTS = ('No space left on device', 'Disk quota exceeded')
"""How libraries name these where they raise errors of their own."""


def print_any_name() -> None:
  """Lets names of files be printed that are no text in the terminal's encoding."""
  # sys.stderr does so by default; a notebook's or a test's stream may be of another kind.
  if hasattr(sys.stdout, 'reconfigure'):
    sys.stdout.reconfigure(errors='backslashreplace')


def is_live(stream: Any) -> bool:
  """Whether a line that is written to a stream can be written over: a terminal, or a notebook."""
  # What the kernel of a notebook prints to is no terminal, but understands carriage returns.
  return stream.isatty() or type(stream).__module__.startswith('ipykernel.')


def is_disk_full(error: BaseException) -> bool:
  """Whether an error, or one that it follows from, is that a disk is full."""
  current: BaseException | None = error
  while current is not None:
    if isinstance(current, OSError) and current.errno in FULL:
      return True
    if any(text in str(current) for text in FULL_TEXTS):
      return True
    current = current.__cause__ or current.__context__
  return False


def silence() -> None:
  """Ends the output of a program whose reader, such as `head`, has left."""
  # The interpreter flushes stdout once more on exit, which would fail on the closed pipe.
  os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def sentence_of(error: OSError) -> str:
  """Returns an error of the system as a sentence: which file, what is wrong, what to do."""
  if is_disk_full(error):
    what = f'{error.filename} cannot be written: ' if error.filename else ''
    return f'{what}the disk is full; free some space and start again.'
  return f'{error.filename}: {error.strerror}.' if error.filename else f'{error}.'


def exit_code(action: Callable[[], int], on_interrupt: str, on_os_error: str = '') -> int:
  """Runs a command; mistakes and interruptions end in a sentence, never in a traceback.

  Args:
    action: the command; returns its exit code.
    on_interrupt: what to do after an interruption.
    on_os_error: a sentence after that of an error of the system.
  """
  print_any_name()
  try:
    # So that what was begun is cleaned up.
    with stop_signals.handled_by(signal.default_int_handler):
      return action()
  except UserError as error:
    print(f'ssl_jax: {error}', file=sys.stderr)
    return 1
  except BrokenPipeError:
    silence()
    return 1
  except OSError as error:
    sentences = f'{sentence_of(error)} {on_os_error}'.rstrip()
    print(f'ssl_jax: {sentences}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print(f'ssl_jax: interrupted; {on_interrupt}.', file=sys.stderr)
    return INTERRUPTED
