"""The update: what it sums, what it moves, who teaches."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from ssl_jax import parallel, registry
from ssl_jax.errors import UserError
from ssl_jax.models import layers
from ssl_jax.training import learner
from ssl_jax.types import Term

pytestmark = pytest.mark.gpu

SIZE = (16, 16)
VIEWS = {
  'labeled': {'source': 'labeled'},
  'weak': {'source': 'unlabeled', 'flip': 0.5},
  'strong': {'source': 'weak', 'jitter': {'p': 1.0, 'brightness': 0.5}},
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


def _learner(methods, **kwargs):
  """A learner of `methods` (functions, or keyword arguments of a known one) and its fresh state."""
  built = {
    name: method if callable(method) else registry.build('methods', name, method)
    for name, method in methods.items()
  }
  made = learner.make_learner(Pixels(), built, VIEWS, SIZE, optax.sgd(0.1), **kwargs)
  return made, made.init(jax.random.key(0), jnp.zeros((1, *SIZE, 3)), made.normalization)


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
  chex.assert_trees_all_close(after.student['params'], expected, rtol=1e-4, atol=1e-6)
  assert after.step == 1


def test_methods_compose_and_the_total_is_their_weighted_sum():
  methods = {
    'supervised': {'weight': 0.5},
    'fixmatch': {'threshold': 0.1, 'weight': 2.0},
    'mean_teacher': {'weight': 3.0},
  }
  made, state = _learner(methods, teacher='ema', ema_decay=0.9)
  _, metrics = jax.jit(made.update)(state, _batch(), jax.random.key(1))
  parts = (('supervised/labeled', 0.5), ('fixmatch/unlabeled', 2.0),
           ('mean_teacher/unlabeled', 3.0))  # fmt: skip
  total = sum(weight * metrics[f'loss/{name}'] for name, weight in parts)
  assert metrics['loss'] == pytest.approx(float(total), rel=1e-5)
  assert metrics['fixmatch/mask_rate'] == 1


@pytest.mark.parametrize(
  ('view', 'dropout', 'passes'),
  [('labeled', 0.0, 1), ('labeled', 0.5, 2), (None, 0.0, 2)],
  ids=['one view', 'one view, with and without channels', 'no view'],
)
def test_terms_of_one_view_share_one_forward_pass(view, dropout, passes):
  """The network counts the images that it sees while it is traced."""
  seen = []

  class Counting(nn.Module):
    @nn.compact
    def __call__(self, x, train=False, feature_dropout=None):
      seen.append(len(x))
      return nn.Conv(3, (1, 1), name='logits')(x)

  def twice(teacher, views, key, step):
    image = views['labeled'].image
    first = Term(image, jnp.mean, view=view)
    # Equal images, but another array: what counts is the name of the view.
    return {'a': first, 'b': first._replace(images=image + 0, feature_dropout=dropout)}, {}

  made = learner.make_learner(Counting(), {'twice': twice}, VIEWS, SIZE, optax.sgd(0.1))
  state = made.init(jax.random.key(0), jnp.zeros((1, *SIZE, 3)), made.normalization)
  seen.clear()
  _, metrics = made.update(state, _batch(4), jax.random.key(1))
  assert seen == [4 * passes]
  assert metrics['loss/twice/a'] == metrics['loss/twice/b']


@pytest.mark.parametrize('apart', [False, True], ids=['one pass', 'two passes'])
def test_a_mask_reaches_the_images_of_its_term_beside_rates(apart):
  """Features are 1, so that outputs are what they were multiplied by."""

  class Ones(nn.Module):
    @nn.compact
    def __call__(self, x, train=False, feature_dropout=None):
      features = nn.BatchNorm(use_running_average=not train)(x) * 0 + 1
      features = jnp.tile(features, 2) * self.param('scale', nn.initializers.ones, ())
      return layers.DropChannels()(features, feature_dropout)

  # An example of its own each: [4, 6].
  factors = jnp.arange(24.0).reshape(4, 6)

  def mask(channels):
    assert channels == 6
    return factors

  def deviation(expected):
    return lambda outputs: abs(outputs - expected).max()

  def method(teacher, views, key, step):
    of_mask = deviation(factors[:, None, None])
    strong = views['strong'].image
    masked = Term(strong, of_mask, view='strong', feature_mask=mask, own_statistics=apart)
    weak = Term(views['weak'].image, lambda x: (x * (x - 2)).max(), feature_dropout=0.5)
    weak = weak._replace(view='weak', own_statistics=apart)
    plain = Term(views['labeled'].image, deviation(1.0), view='labeled')
    return {'mask': masked, 'rate': weak, 'plain': plain, 'same': masked}, {}

  made = learner.make_learner(Ones(), {'m': method}, VIEWS, SIZE, optax.sgd(0.1))
  state = made.init(jax.random.key(0), jnp.zeros((1, *SIZE, 3)), made.normalization)
  _, metrics = made.update(state, _batch(4), jax.random.key(1))
  for name in ('mask', 'rate', 'plain', 'same'):
    assert metrics[f'loss/m/{name}'] == pytest.approx(0, abs=1e-5)


def test_images_with_statistics_of_their_own_leave_the_others_as_they_are():
  """Outputs of the rest, and the running statistics, are as if those images were not there."""

  def method(apart):
    def ask(teacher, views, key, step):
      strong = Term(views['strong'].image, jnp.mean, 0.0, view='strong', own_statistics=apart)
      return {'weak': Term(views['weak'].image, jnp.mean, view='weak'), 'strong': strong}, {}

    return ask

  def alone(teacher, views, key, step):
    return {'weak': Term(views['weak'].image, jnp.mean, view='weak')}, {}

  seen = {}
  for name, one in (('apart', method(True)), ('joined', method(False)), ('alone', alone)):
    made, state = _learner({'m': one})
    after, metrics = jax.jit(made.update)(state, _batch(), jax.random.key(1))
    seen[name] = float(metrics['loss/m/weak']), after.student['batch_stats']
  assert seen['apart'][0] == pytest.approx(seen['alone'][0], abs=1e-6)
  chex.assert_trees_all_close(seen['apart'][1], seen['alone'][1], rtol=1e-6)
  difference = jax.tree.map(lambda a, b: abs(a - b).max(), seen['joined'][1], seen['alone'][1])
  assert max(jax.tree.leaves(difference)) > 1e-5


def test_labels_come_first_and_ramps_begin_after_them():
  steps = []

  def ask(teacher, views, key, step):
    steps.append(step)
    return {'u': Term(views['weak'].image, jnp.mean, 3.0, view='weak', unlabeled=True)}, {}

  made, state = _learner({'supervised': {}, 'm': ask}, labels_first=2)
  for step, weight, counted in ((0, 0, 0), (1, 0, 0), (2, 3, 0), (5, 3, 3)):
    _, metrics = made.update(state.replace(step=jnp.int32(step)), _batch(), jax.random.key(1))
    expected = metrics['loss/supervised/labeled'] + weight * metrics['loss/m/u']
    assert metrics['loss'] == pytest.approx(float(expected), rel=1e-5)
    assert int(steps[-1]) == counted


@pytest.mark.parametrize('watched', [True, False])
def test_targets_for_unlabeled_images_are_watched_by_number(watched):
  def weak(teacher, views, key, step):
    term = Term(views['weak'].image, jnp.mean, view='weak', unlabeled=watched)
    return {'any name': term}, {}

  made, state = _learner({'weak': weak}, classes=('a', 'b', 'c'))
  _, metrics = made.update(state, _batch(), jax.random.key(1))
  assert ('targets/0' in metrics) == watched
  # The loop gives the names, because the program must not depend on them.
  assert made.metric_names['targets/0'] == 'targets/a'


def test_what_a_method_asks_for_in_vain_is_named():
  def far(teacher, views, key, step):
    return {'far': Term(views['far'].image, jnp.mean)}, {}

  def second(teacher, views, key, step):
    return {'second': Term(views['weak'].image, jnp.mean, head='second')}, {}

  for method, message in ((far, "the view 'far', but there is labeled, weak, strong"),
                          (second, "the head 'second', but there is class")):  # fmt: skip
    made, state = _learner({'method': method})
    with pytest.raises(UserError, match=message):
      made.update(state, _batch(), jax.random.key(1))


def test_a_teacher_that_is_not_kept_is_refused():
  with pytest.raises(ValueError, match=r"teacher='ema' with ema_decay=0\.0"):
    _learner({}, teacher='ema')


def test_the_moving_average_follows_min_of_the_two_decays():
  made, state = _learner({'supervised': {}}, ema_decay=0.6)
  expected = _params(state)
  update = jax.jit(made.update)
  for decay in (1 / 2, 0.6, 0.6):  # 1 - 1/(t+1) = 1/2, 2/3, 3/4, capped at 0.6
    state, _ = update(state, _batch(), jax.random.key(1))
    expected = decay * expected + (1 - decay) * _params(state)
  ema = jax.flatten_util.ravel_pytree(state.ema['params'])[0]
  np.testing.assert_allclose(ema, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('averaged', [False, True])
def test_the_average_covers_batch_statistics_where_it_is_asked_to(averaged):
  made, state = _learner({'supervised': {}}, ema_decay=0.6, ema_batch_stats=averaged)

  def mean(variables):
    return np.asarray(variables['batch_stats']['BatchNorm_0']['mean'])

  first = mean(state.student)
  state, _ = jax.jit(made.update)(state, _batch(), jax.random.key(1))
  # At the first update the decay is 1 - 1/2.
  expected = (first + mean(state.student)) / 2 if averaged else mean(state.student)
  np.testing.assert_allclose(mean(state.ema), expected, rtol=1e-6)
  assert np.abs(mean(state.student) - first).min() > 0.01


def test_who_teaches_is_who_predicts():
  images = jnp.asarray(_batch()['unlabeled']['image'] / 255.0)
  probs = {}
  for teacher in ('student', 'ema'):
    made, state = _learner({'supervised': {}}, teacher=teacher, ema_decay=0.99)
    state, _ = made.update(state, _batch(), jax.random.key(1))
    state = state.replace(ema=jax.tree.map(jnp.zeros_like, state.ema))
    probs[teacher] = made.predict(state, images)
  np.testing.assert_allclose(probs['ema'], 1 / 3, rtol=1e-6)  # a network of zeros
  assert np.abs(probs['student'] - 1 / 3).max() > 0.01


@pytest.mark.parametrize('teacher', ['student', 'ema'])
def test_a_teacher_in_training_mode_has_the_statistics_of_its_batch(teacher):
  asked = {}

  def ask(teach, views, key, step):
    asked['images'], asked['probs'] = views['weak'].image, teach(views['weak'].image)
    return {}, {}

  kwargs = dict(teacher=teacher, ema_decay=0.99, teacher_mode='train')
  made, state = _learner({'supervised': {}, 'ask': ask}, **kwargs)
  # Running statistics that fit no image: in evaluation mode all would look alike.
  far = jax.tree.map(lambda x: x + 50.0, state.student['batch_stats'])
  state = state.replace(
    student={**state.student, 'batch_stats': far}, ema={**state.ema, 'batch_stats': far}
  )
  made.update(state, _batch(), jax.random.key(1))
  images = np.asarray(asked['images'])
  axes = (0, 1, 2)
  z = (images - images.mean(axes)) / np.sqrt(images.var(axes) + 1e-5)
  kernel = np.asarray(state.student['params']['logits']['kernel'])[0, 0]
  logits = z @ kernel + np.asarray(state.student['params']['logits']['bias'])
  np.testing.assert_allclose(asked['probs'], jax.nn.softmax(logits), atol=1e-5)
  # Those for prediction do not move by what the teacher saw, and predictions are made with them.
  predicted = made.predict(state, jnp.asarray(images))
  assert np.abs(np.asarray(predicted) - np.asarray(asked['probs'])).max() > 0.1


def test_no_moving_average_is_kept_unless_asked_for():
  assert _learner({'supervised': {}})[1].ema is None


def test_the_gradient_does_not_reach_the_teacher():
  """A loss that is only the teacher's own prediction moves nothing."""

  def flattery(teacher, views, key, step):
    target = teacher(views['weak'].image)
    return {'x': Term(views['weak'].image, lambda logits: target.sum() + 0 * logits.sum())}, {}

  made, state = _learner({'flattery': flattery})
  _, metrics = made.update(state, _batch(), jax.random.key(1))
  assert metrics['grad_norm'] == 0


def test_the_same_step_draws_the_same_views_and_another_step_others():
  made, state = _learner({'supervised': {}, 'fixmatch': {'threshold': 0.0}})
  update = jax.jit(made.update)
  loss = [update(state.replace(step=jnp.int32(s)), _batch(), jax.random.key(1))[1]['loss']
          for s in (3, 3, 4)]  # fmt: skip
  assert loss[0] == loss[1] != loss[2]


class Interleave(chex.TestCase):
  """Joining batches, as a plain function and compiled."""

  @chex.variants(with_jit=True, without_jit=True)
  def test_separate_undoes_it(self):
    parts = [jnp.arange(8.0 * 2).reshape(8, 2), jnp.arange(100.0, 104)[:, None] + jnp.zeros((1, 2))]
    joined = self.variant(lambda *parts: parallel.interleave(parts))(*parts)
    chex.assert_shape(joined, (12, 2))
    np.testing.assert_array_equal(joined[:3], [*parts[0][:2], parts[1][0]])  # a few rows of each
    separate = self.variant(lambda joined: parallel.separate(joined, [8, 4]))
    chex.assert_trees_all_equal(separate(joined), parts)


def test_a_loss_that_is_not_finite_is_named_by_its_method_first():
  figures = {'loss': np.nan, 'grad_norm': np.nan, 'loss/fixmatch/unlabeled': np.inf, 'a': 1.0}
  assert learner.first_nonfinite(figures) == 'loss/fixmatch/unlabeled'
  assert learner.first_nonfinite({'loss': 1.0, 'grad_norm': np.inf}) == 'grad_norm'
  assert learner.first_nonfinite({'loss': 1.0}) is None
