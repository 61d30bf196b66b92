"""The memory of a training step is known before it is spent."""

import jax
import jax.numpy as jnp
import pytest
from conftest import tiny_page

from ssl_jax.errors import UserError
from ssl_jax.run import run
from ssl_jax.training import step_memory

BATCHES = {'labeled': 16, 'unlabeled': 32}


@pytest.fixture
def update():
  """An update whose state takes 4 bytes, and its new figures 4 MiB."""

  def step(state, images):
    return state + images.sum(), jnp.sort(images * state)

  arguments = (jnp.zeros(()), jnp.ones((2**20,)))
  return jax.jit(step, donate_argnums=0), arguments


def test_what_a_step_needs_is_said(update, monkeypatch):
  monkeypatch.setattr(step_memory, 'free_memory', lambda: 3 * 2**30)
  monkeypatch.setattr(step_memory.jax, 'local_devices', lambda: [None])
  said = step_memory.check(*update, BATCHES, devices=1)
  needed = float(said.split(' MiB')[0].rpartition(' ')[2])
  # At least the sorted images; at most what sorting may take besides.
  assert 4 <= needed <= 16
  assert said.endswith('3.0 GiB are free')


def test_a_step_that_does_not_fit_is_refused_with_the_batch_that_would(monkeypatch):
  refuse = step_memory._refusal
  assert refuse(4 * 2**30, 2**30, BATCHES, 2, 'memory') == (
    'A training step with batch.labeled=16 and batch.unlabeled=32 needs 4.0 GiB of memory, and '
    '1.0 GiB are free: batch.labeled=2 and batch.unlabeled=6 would fit.'
  )
  # Where not one image for each device would fit, it is the images or the network.
  said = refuse(400 * 2**30, 2**30, BATCHES, 2, 'device memory')
  assert 'needs 400.0 GiB of device memory' in said
  assert said.endswith('lower crop_size, or take a smaller network (model).')


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
  monkeypatch.setattr(step_memory, 'CGROUP', tmp_path)
  without = step_memory.free_memory()
  (tmp_path / 'memory.max').write_text('1000\n')
  (tmp_path / 'memory.current').write_text('400\n')
  assert step_memory.free_memory() == 600 < without
  (tmp_path / 'memory.max').write_text('max\n')
  assert step_memory.free_memory() > 600


def test_a_run_that_will_not_fit_is_refused_before_its_first_step(tmp_path, monkeypatch):
  monkeypatch.setattr(step_memory, 'free_memory', lambda: 1000)
  with pytest.raises(UserError, match=r'A training step with batch.labeled=4 needs .* crop_size'):
    run(tiny_page(), tmp_path / 'run')
  assert not (tmp_path / 'run' / 'control' / 'metrics.jsonl').read_text()
