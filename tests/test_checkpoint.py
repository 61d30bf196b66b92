"""Checkpoints: which are kept, and what a reader, a full disk or another network meets."""

import jax.numpy as jnp
import pytest

from ssl_jax.errors import UserError
from ssl_jax.training.checkpoint import Checkpoints
from ssl_jax.types import TrainState


def _state(value: float) -> TrainState:
  return TrainState(jnp.int32(value), {'params': {'w': jnp.full(3, value)}}, None, ())


def test_the_latest_checkpoints_and_the_best_are_kept(tmp_path):
  checkpoints = Checkpoints(tmp_path, keep=2, best=['val/score'])
  for step, score in ((1, 50.0), (2, 90.0), (3, 60.0), (4, 70.0), (5, 65.0)):
    checkpoints.save(_state(step), {'val/score': score})
  checkpoints.close()
  checkpoints = Checkpoints(tmp_path)
  assert sorted(checkpoints.manager.all_steps()) == [2, 4, 5]
  assert checkpoints.restore(_state(0)).student['params']['w'].tolist() == [5, 5, 5]
  assert checkpoints.restore(_state(0), 2).step == 2


def test_reading_does_not_disturb_a_save_under_way(tmp_path):
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(_state(1))
  checkpoints.close()
  under_way = tmp_path / '2.orbax-checkpoint-tmp'
  under_way.mkdir()
  assert Checkpoints(tmp_path, read_only=True).restore(_state(0)).step == 1
  assert under_way.exists()


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(_state(1))
  checkpoints.close()
  other = TrainState(jnp.int32(0), {'params': {'w': jnp.zeros(4), 'b': jnp.zeros(1)}}, None, ())
  with pytest.raises(UserError, match='does not fit this network'):
    Checkpoints(tmp_path).restore(other)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(_state(1))
  checkpoints.manager.wait_until_finished()

  def full(*args, **kwargs):
    raise ValueError("RESOURCE_EXHAUSTED: ... No space left on device [os_error_code='28']")

  monkeypatch.setattr(checkpoints.manager, 'save', full)
  with pytest.raises(UserError, match='the disk is full; the checkpoints before are whole'):
    checkpoints.save(_state(2))
  assert Checkpoints(tmp_path).restore(_state(0)).step == 1
