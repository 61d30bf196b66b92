"""Tasks that a Dask cluster has not finished, and what is done with the result of each."""

from collections.abc import Callable, Sequence
from typing import Any

from ssl_jax.running import dask_cluster
from ssl_jax.running.dask_cluster import ClusterError

AHEAD = 2
"""Tasks for each worker that are submitted at once: one that it does, and the next."""

Take = Callable[[Callable[[], Any]], None]
"""Takes a function that returns what a task returned, or raises what it raised."""


class Futures:
  """Tasks under way, each with what takes its result."""

  def __init__(self, client: Any):
    self._client = client
    self._finished = dask_cluster.as_completed(client)
    self._takers: dict[str, Take] = {}

  def submit(
    self, function: Callable, payload: bytes, take: Take, inputs: Sequence[Any] = ()
  ) -> None:
    """Submits `function(payload, *results of inputs)`."""
    future = self.submit_input(function, payload, inputs)
    self._takers[future.key] = take
    self._finished.add(future)

  def submit_input(self, function: Callable, payload: bytes, inputs: Sequence[Any] = ()) -> Any:
    """Submits a task whose result only other tasks need; it is kept as long as what is returned."""
    return dask_cluster.submit(self._client, function, payload, inputs)

  def wait_for_room(self) -> None:
    """Takes results until another task would be done soon."""
    while len(self._takers) >= AHEAD * max(dask_cluster.worker_count(self._client), 1):
      self._take_one()

  def wait_for_all(self) -> None:
    """Takes results until there are no more."""
    while self._takers:
      self._take_one()

  def _take_one(self) -> None:
    future = next(self._finished)
    self._takers.pop(future.key)(lambda: _result_of(future))


def _result_of(future: Any) -> Any:
  try:
    return dask_cluster.result_of(future)
  except ModuleNotFoundError as error:
    # Of a worker that came later than the check of all.
    raise ClusterError(
      f'A Dask worker lacks a package ({error}); start it as the others.'
    ) from error
