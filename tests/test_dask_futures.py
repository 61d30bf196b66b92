"""inference/dask_futures: few tasks under way, and each result to who waits for it."""

from types import SimpleNamespace

import pytest

from ssl_jax.inference.blocks.dask_futures import AHEAD, Futures
from ssl_jax.running import dask_cluster
from ssl_jax.running.dask_cluster import ClusterError


class _Finished(list):
  """Futures in the order in which they finish: that of their submission."""

  add = list.append

  def __next__(self):
    return self.pop(0)


@pytest.fixture
def futures(monkeypatch):
  keys = iter(range(99))

  def submit(client, function, payload, inputs=()):
    return SimpleNamespace(key=str(next(keys)), result=lambda: function(payload, *inputs))

  monkeypatch.setattr(dask_cluster, 'as_completed', lambda client: _Finished())
  monkeypatch.setattr(dask_cluster, 'worker_count', lambda client: 1)
  monkeypatch.setattr(dask_cluster, 'submit', submit)
  monkeypatch.setattr(dask_cluster, 'result_of', lambda future: future.result())
  return Futures(None)


def test_results_are_taken_before_too_much_is_under_way(futures):
  taken = []
  for number in range(5):
    payload = bytes([number])
    futures.submit(lambda data: data[0] * 2, payload, lambda result: taken.append(result()))
    futures.wait_for_room()
  assert taken == [2 * number for number in range(5 - AHEAD + 1)]
  futures.wait_for_all()
  assert taken == [0, 2, 4, 6, 8]


def test_a_worker_that_lacks_a_package_is_a_sentence(futures):
  def fail(payload):
    raise ModuleNotFoundError("No module named 'ssl_jax'")

  errors = []

  def take(result):
    with pytest.raises(ClusterError, match='lacks a package') as caught:
      result()
    errors.append(caught.value)

  futures.submit(fail, b'', take)
  futures.wait_for_all()
  assert len(errors) == 1
