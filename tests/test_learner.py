"""The update: what it sums, what it moves, who teaches."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from ssl_jax import parallel, registry
from ssl_jax.training import learner
from ssl_jax.types import Term

SIZE = (16, 16)
VIEWS = {
  'labeled': {'of': 'labeled'},
  'weak': {'of': 'unlabeled', 'flip': 0.5},
  'strong': {'of': 'weak', 'jitter': {'p': 1.0, 'brightness': 0.5}},
}


class Pixels(nn.Module):
  """A network of one 1x1 convolution, with batch norm, so that all can be worked out."""

  @nn.compact
  def __call__(self, x, train=False):
    x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
    return nn.Conv(3, (1, 1), name='logits')(x)


def _batch(rows=4):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (rows, *SIZE, 3), np.uint8)
  extent = np.full((rows, 2), 16, np.int32)
  labels = rng.integers(0, 3, (rows, *SIZE)).astype(np.uint8)
  batch = {
    'labeled': {'image': images, 'extent': extent, 'label': labels},
    'unlabeled': {'image': images[::-1], 'extent': extent},
  }
  return jax.tree.map(jnp.asarray, batch)


def _learner(methods, optimizer=None, **knobs):
  asked = {name: registry.build('methods', name, m) for name, m in methods.items()}
  made = learner.make_learner(Pixels(), asked, VIEWS, SIZE, optimizer or optax.sgd(0.1), **knobs)
  return made, made.init(jax.random.key(0), jnp.zeros((1, *SIZE, 3)))


def _params(state):
  return jax.flatten_util.ravel_pytree(state.student['params'])[0]


def test_supervised_update_is_plain_gradient_descent():
  made, state = _learner({'supervised': {}})
  batch = _batch()
  images = batch['labeled']['image'] / 255.0

  def loss(params):
    variables = {**state.student, 'params': params}
    logits, _ = Pixels().apply(variables, images, train=True, mutable=['batch_stats'])
    labels = batch['labeled']['label'].astype(int)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

  value, gradient = jax.value_and_grad(loss)(state.student['params'])
  after, metrics = jax.jit(made.update)(state, batch, jax.random.key(1))
  assert metrics['loss/supervised/labeled'] == pytest.approx(float(value), rel=1e-5)
  assert metrics['grad_norm'] == pytest.approx(float(optax.tree.norm(gradient)), rel=1e-4)
  expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.student['params'], gradient)
  for found, wanted in zip(jax.tree.leaves(after.student['params']), jax.tree.leaves(expected),
                           strict=True):  # fmt: skip
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
  assert after.step == 1


def test_methods_compose_and_the_total_is_their_weighted_sum():
  methods = {
    'supervised': {'weight': 0.5},
    'fixmatch': {'threshold': 0.1, 'weight': 2.0},
    'mean_teacher': {'weight': 3.0},
  }
  made, state = _learner(methods, teacher='average', decay=0.9)
  _, metrics = jax.jit(made.update)(state, _batch(), jax.random.key(1))
  parts = (('supervised/labeled', 0.5), ('fixmatch/unlabeled', 2.0),
           ('mean_teacher/unlabeled', 3.0))  # fmt: skip
  total = sum(weight * metrics[f'loss/{name}'] for name, weight in parts)
  assert metrics['loss'] == pytest.approx(float(total), rel=1e-5)
  assert metrics['fixmatch/trusted'] == 1


def test_terms_that_share_images_share_one_forward_pass():
  def twice(teacher, views, key, step):
    image = views['labeled'].image
    return {'a': Term(image, lambda x: x.sum()), 'b': Term(image, lambda x: len(x))}, {}

  made = learner.make_learner(Pixels(), {'twice': twice}, VIEWS, SIZE, optax.sgd(0.1))
  state = made.init(jax.random.key(0), jnp.zeros((1, *SIZE, 3)))
  _, metrics = made.update(state, _batch(4), jax.random.key(1))
  assert metrics['loss/twice/b'] == 4


def test_the_average_follows_min_of_the_two_decays():
  made, state = _learner({'supervised': {}}, decay=0.6)
  expected = _params(state)
  update = jax.jit(made.update)
  for decay in (1 / 2, 0.6, 0.6):  # 1 - 1/(t+1) = 1/2, 2/3, 3/4, capped at 0.6
    state, _ = update(state, _batch(), jax.random.key(1))
    expected = decay * expected + (1 - decay) * _params(state)
  average = jax.flatten_util.ravel_pytree(state.average['params'])[0]
  np.testing.assert_allclose(average, expected, rtol=1e-5, atol=1e-7)


def test_who_teaches_is_who_predicts():
  images = jnp.asarray(_batch()['unlabeled']['image'] / 255.0)
  answers = {}
  for teacher in ('student', 'average'):
    made, state = _learner({'supervised': {}}, teacher=teacher, decay=0.99)
    state, _ = made.update(state, _batch(), jax.random.key(1))
    state = state.replace(average=jax.tree.map(jnp.zeros_like, state.average))
    answers[teacher] = made.predict(state, images)
  np.testing.assert_allclose(answers['average'], 1 / 3, rtol=1e-6)  # a network of zeros
  assert np.abs(answers['student'] - 1 / 3).max() > 0.01


def test_no_average_is_kept_unless_asked_for():
  assert _learner({'supervised': {}})[1].average is None


def test_the_gradient_does_not_reach_the_teacher():
  """A loss that is the teacher's own answer moves nothing."""

  def flattery(teacher, views, key, step):
    target = teacher(views['weak'].image)
    return {'x': Term(views['weak'].image, lambda logits: target.sum() + 0 * logits.sum())}, {}

  made = learner.make_learner(Pixels(), {'flattery': flattery}, VIEWS, SIZE, optax.sgd(0.1))
  state = made.init(jax.random.key(0), jnp.zeros((1, *SIZE, 3)))
  _, metrics = made.update(state, _batch(), jax.random.key(1))
  assert metrics['grad_norm'] == 0


def test_the_same_step_draws_the_same_views_and_another_step_others():
  made, state = _learner({'supervised': {}, 'fixmatch': {'threshold': 0.0}})
  update = jax.jit(made.update)
  loss = [update(state.replace(step=jnp.int32(s)), _batch(), jax.random.key(1))[1]['loss']
          for s in (3, 3, 4)]  # fmt: skip
  assert loss[0] == loss[1] != loss[2]


def test_interleave_is_undone_by_separate():
  parts = [jnp.arange(8 * 2).reshape(8, 2), jnp.arange(100, 104)[:, None] + jnp.zeros((1, 2))]
  joined = parallel.interleave(parts)
  assert joined.shape == (12, 2)
  for found, wanted in zip(parallel.separate(joined, [8, 4]), parts, strict=True):
    np.testing.assert_array_equal(found, wanted)


def test_a_fault_is_named_by_its_method_first():
  figures = {'loss': np.nan, 'grad_norm': np.nan, 'loss/fixmatch/unlabeled': np.inf, 'a': 1.0}
  assert learner.first_nonfinite(figures) == 'loss/fixmatch/unlabeled'
  assert learner.first_nonfinite({'loss': 1.0, 'grad_norm': np.inf}) == 'grad_norm'
  assert learner.first_nonfinite({'loss': 1.0}) is None
