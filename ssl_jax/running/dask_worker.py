"""What a task asks of the worker of Dask that does it."""

import functools
import math
import pickle
import time
from pathlib import Path

from ssl_jax.io.folders import lock
from ssl_jax.running.dask_cluster import ClusterError, distributed, own_versions, too_many_threads

ASK_EVERY = 2.0
"""Seconds between two questions of a long task whether to stop."""


@functools.cache
def check_here(expected: bytes) -> None:
  """Checks, on a worker, what `check_workers` may not have seen: workers come later as well.

  Args:
    expected: own_versions of the client, pickled.

  Raises:
    ClusterError: if this worker has other versions, or several threads.
  """
  state = distributed().get_worker().state
  wanted = pickle.loads(expected)
  problem = too_many_threads(state.nthreads)
  if wanted != own_versions():
    problem = 'has other versions of ssl_jax, jax or numpy; install the same ones there'
  if problem:
    raise ClusterError(f'The Dask worker {state.address} {problem}.')


class Stop:
  """On a worker: whether the task that this thread does should save what it has, and end.

  Args:
    event: name of the event by which the process that was called asks for it.
    folder: whose lock the task has, once it has begun.
  """

  def __init__(self, event: str, folder: Path):
    package = distributed()
    self._worker = package.get_worker()
    self._key = self._worker.get_current_task()
    self._event = package.Event(event, client=package.get_client())
    self._folder = folder
    self._holder = ''
    self._asked = -math.inf
    self._answer = False

  def __call__(self) -> bool:
    """Asks at most every ASK_EVERY seconds.

    Raises:
      RuntimeError: if the folder is another task's by now, so that nothing may be saved.
    """
    now = time.monotonic()
    if not self._answer and now - self._asked > ASK_EVERY:
      self._asked = now
      self._holder = self._holder or lock.text(self._folder)
      if lock.text(self._folder) != self._holder:
        raise RuntimeError(f'{self._folder} is in use by another task')
      self._answer = self._is_given_up() or self._is_asked_for()
    return self._answer

  def _is_given_up(self) -> bool:
    """Whether nobody waits for the task: the process that was called, or the cluster, has ended."""
    if self._worker.status.name != 'running':
      return True
    task = self._worker.state.tasks.get(self._key)
    return task is None or task.state not in ('executing', 'long-running')

  def _is_asked_for(self) -> bool:
    try:
      return self._event.is_set()
    except Exception:  # of many kinds, where the scheduler is lost
      return True


def own_address() -> str:
  """Returns, on a worker, its address."""
  return distributed().get_worker().address


def is_worker_lost(address: str) -> bool:
  """Returns, on a worker, whether its scheduler no longer knows another one."""
  return address not in distributed().get_client().scheduler_info(n_workers=-1)['workers']
