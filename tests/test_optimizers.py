"""Schedules and optimizers against their formulas."""

import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.errors import UserError
from ssl_jax.settings import SCHEDULES, Optimizer, Schedule
from ssl_jax.training import optimizers


def _rates(name, when, lr=0.1, steps=100, **fields):
  made = optimizers.schedule(Schedule(name=name, **fields), lr, steps)
  return [float(made(jnp.int32(step))) for step in when]


def test_poly_per_iteration():
  expected = [0.1, 0.1 * 0.5**0.9, 0.1 * 0.01**0.9, 0]
  assert _rates('poly', (0, 50, 99, 100), power=0.9) == pytest.approx(expected, rel=1e-5)


def test_cosine_and_steps():
  assert _rates('cosine', (0, 50, 100)) == pytest.approx([0.1, 0.05, 0], abs=1e-7)
  assert _rates('step', (0, 49, 60, 80), at=(0.5, 0.75)) == pytest.approx([0.1, 0.1, 0.01, 0.001])


def test_warmup_rises_to_the_whole_rate():
  assert _rates('constant', (0, 5, 10, 50), warmup=10) == pytest.approx([0, 0.05, 0.1, 0.1])
  with pytest.raises(UserError, match='warmup=100 leaves nothing of steps=100'):
    _rates('poly', (0,), warmup=100)


PARAMS = {'backbone': {'w': jnp.array([1.0])}, 'head': {'w': jnp.array([2.0])}}


def _two_steps(params=PARAMS, gradient=0.5, **fields):
  optimizer = Optimizer(**{'weight_decay': 0.0, **fields})
  made = optimizers.make(optimizer, lambda step: 0.1)
  state, grads = made.init(params), {k: {'w': jnp.array([gradient])} for k in params}
  for _ in range(2):
    updates, state = made.update(grads, state, params)
    params = {k: {'w': p['w'] + updates[k]['w']} for k, p in params.items()}
  return {k: float(p['w'][0]) for k, p in params.items()}


def test_sgd_as_torch_has_it():
  """Weight decay joins the gradient before the momentum; the head's rate is ten times."""
  found = _two_steps(name='sgd', momentum=0.9, weight_decay=0.01, head_lr_multiplier=10.0)
  for name, rate, p in (('backbone', 0.1, 1.0), ('head', 1.0, 2.0)):
    velocity = 0.0
    for _ in range(2):
      velocity = 0.9 * velocity + (0.5 + 0.01 * p)
      p -= rate * velocity
    assert found[name] == pytest.approx(p, rel=1e-5)


def test_a_network_without_backbone_has_one_rate():
  found = _two_steps(
    {'block': {'w': jnp.array([1.0])}}, name='sgd', momentum=0.0, head_lr_multiplier=10.0
  )
  assert found['block'] == pytest.approx(1 - 0.1 * 0.5 * 2)


def test_rmsprop_as_torch_has_it():
  # Squares remembered at 0.99 from 0: the first gradient is divided by a tenth of its size.
  found = _two_steps(name='rmsprop', momentum=0.0)['head']
  second = 1 / np.sqrt(0.99 * 0.01 + 0.01)
  assert found == pytest.approx(2 - 0.1 * (10 + second), rel=1e-4)


def test_adam_moves_by_the_rate():
  assert _two_steps(name='adam')['head'] == pytest.approx(2 - 0.2, rel=1e-4)


def test_clip_bounds_the_norm():
  found = _two_steps({'a': {'w': jnp.array([0.0])}}, 100.0, name='sgd', momentum=0.0, clip=1.0)
  assert found['a'] == pytest.approx(-0.2, rel=1e-5)


def test_unknown_names_are_refused():
  with pytest.raises(UserError, match='may be sgd, adam, rmsprop'):
    optimizers.make(Optimizer(name='lion'), lambda step: 0.1)


def test_schedules_are_plain_functions_of_the_iteration():
  for name in SCHEDULES:
    assert np.isfinite(_rates(name, (0, 1, 99, 100))).all()
