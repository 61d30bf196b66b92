"""How long the device had nothing to do because the next batch was not there yet."""

import time
from concurrent import futures
from typing import Any

import jax


class IdleTime:
  """Counts the seconds between the end of a call and the moment at which the next could begin.

  Calls return before the device has computed them, so a thread of its own waits for their results.
  """

  def __init__(self) -> None:
    # One thread: calls end in the order in which they begin.
    self._waiting = futures.ThreadPoolExecutor(1, thread_name_prefix='idle_time')
    self._end_of_last: futures.Future[float] | None = None
    self.seconds = 0.0

  def batch_is_there(self) -> None:
    """Notes that the next call could begin now."""
    last = self._end_of_last
    if last is not None and last.done() and last.exception() is None:
      self.seconds += time.perf_counter() - last.result()

  def called(self, results: Any) -> None:
    """Notes a call whose results, arrays on the device, are perhaps still being computed."""

    def end() -> float:
      jax.block_until_ready(results)
      return time.perf_counter()

    self._end_of_last = self._waiting.submit(end)

  def begin(self) -> None:
    """Counts anew, and nothing of what comes before the next call."""
    self._end_of_last = None
    self.seconds = 0.0

  def close(self) -> None:
    """Ends the thread."""
    self._waiting.shutdown(wait=False)
