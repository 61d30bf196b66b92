"""Who answers Ctrl-C and SIGTERM, and for how long."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from ssl_jax.errors import INTERRUPTED

Handler = Callable[[int, FrameType | None], object]

BOTH = (signal.SIGINT, signal.SIGTERM)


def leave_at_once(number: int, frame: FrameType | None) -> None:
  """Ends the program, without a traceback, while it is still importing its libraries."""
  print('\nssl_jax: interrupted before anything began.', file=sys.stderr, flush=True)
  # An exception would be swallowed by some libraries, or told as an error of theirs.
  os._exit(INTERRUPTED)


def set_handler(handler: Handler, numbers: Sequence[int] = BOTH) -> None:
  """Has signals answered by a handler until the program ends."""
  for number in numbers:
    signal.signal(number, handler)


@contextlib.contextmanager
def handled_by(handler: Handler, numbers: Sequence[int] = BOTH) -> Iterator[bool]:
  """Has signals answered by a handler inside a block, and as before after it.

  Yields:
    Whether that was possible: only the main thread of a program can answer signals.
  """
  try:
    before = {number: signal.signal(number, handler) for number in numbers}
  except ValueError:
    yield False
    return
  try:
    yield True
  finally:
    for number, earlier in before.items():
      signal.signal(number, earlier)
