"""HydraMix-Net by hand: its losses, its guesses, what is mixed and what is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny_cells

from ssl_jax import losses, registry
from ssl_jax.errors import UserError
from ssl_jax.run import run
from ssl_jax.types import IGNORE, View
from ssl_jax.views import affine, labels, make_views, mixup

KEY = jax.random.key(0)
LOGITS = jnp.log(jnp.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]))
SURE = jnp.ones(2, bool)


def test_symmetric_cross_entropy_by_hand():
  """Wang et al. 2019: delta (- q log p) + rho (- p log q), log 0 as the log of the clip."""
  target = jnp.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
  forward = [-np.log(0.7), -0.5 * np.log(0.1) - 0.5 * np.log(0.8)]
  reverse = [-0.3 * np.log(1e-4), -0.1 * np.log(1e-4) - 0.9 * np.log(0.5)]
  for delta, rho in ((1.0, 0.0), (0.0, 1.0), (1.0, 0.1), (0.1, 2.0)):
    expected = delta * np.mean(forward) + rho * np.mean(reverse)
    found = losses.symmetric_cross_entropy(LOGITS, target, SURE, delta, rho)
    assert found == pytest.approx(expected, rel=1e-5)
  coarse = losses.symmetric_cross_entropy(LOGITS, target, SURE, 0.0, 1.0, target_clip=0.01)
  expected = np.mean([-0.3 * np.log(0.01), -0.1 * np.log(0.01) - 0.9 * np.log(0.5)])
  assert coarse == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
  ('logit', 'expected'), [(9.0, -0.999877), (10.0, -0.999955), (16.0, -1.0), (17.0, 0.0)]
)
def test_symmetric_cross_entropy_teaches_what_is_confidently_wrong(logit, expected):
  # The gradient of the cross-entropy at the true class is p - 1, where p = 1 / (e^g + 3): 1 / 8106
  # for g = 9. Below the clip of 1e-7, from g = 16.2 on, there is none.
  logits = jnp.array([[logit, 0.0, 0.0, 0.0]])
  target = jax.nn.one_hot(jnp.array([1]), 4)
  gradient = jax.grad(losses.symmetric_cross_entropy)(logits, target, jnp.ones(1, bool), 1.0, 0.0)
  assert gradient[0, 1] == pytest.approx(expected, abs=1e-6)


def test_symmetric_cross_entropy_clips_predictions_and_counts_valid_entries_alone():
  certain = jnp.array([[100.0, 0.0], [0.0, 1.0]])
  wrong = jnp.array([[0.0, 1.0], [0.0, 1.0]])
  first = losses.symmetric_cross_entropy(certain, wrong, jnp.array([True, False]), 1.0, 0.0)
  # e^-100 counts as 1e-7: 16.118.
  assert first == pytest.approx(16.118, rel=1e-4)
  assert losses.symmetric_cross_entropy(certain, wrong, jnp.zeros(2, bool)) == 0


def _heads(x, y, logits=LOGITS):
  return {'class': logits, 'x': jnp.array(x), 'y': jnp.array(y)}


def test_the_error_of_a_centroid_counts_as_far_as_there_is_a_cell():
  target = jnp.array([[0.5, 0.25], [0.0, 0.0]])  # y, x; the second is background
  found = losses.centroid_error(_heads([0.8, 0.3], [0.9, 0.4]), target, SURE)
  first = (0.3 * 0.8 - 0.25) ** 2 + (0.3 * 0.9 - 0.5) ** 2
  second = (0.9 * 0.3) ** 2 + (0.9 * 0.4) ** 2
  assert found == pytest.approx((first + second) / 2, rel=1e-5)
  sure = jnp.array([[100.0, 0.0, 0.0]] * 2)
  background = losses.centroid_error(_heads([0.8, 3.0], [0.9, 4.0], sure), jnp.zeros((2, 2)), SURE)
  assert background == pytest.approx(0)  # whatever the other heads say
  one = losses.centroid_error(_heads([0.8, 0.3], [0.9, 0.4]), target, jnp.array([True, False]))
  assert one == pytest.approx(first, rel=1e-5)


def _view(value, label=None, point=None, flipped=False, count=2):
  line = jnp.array([[1.0, 0, 0], [0, -1, 4] if flipped else [0, 1, 0]])
  maps = jnp.broadcast_to(line, (count, 2, 3))
  image = jnp.full((count, 5, 5, 3), value) + jnp.arange(count).reshape(-1, 1, 1, 1)
  return View(image, jnp.ones((count, 5, 5), bool), maps, label, point=point)


def test_centroids_are_parts_of_the_view_and_unknown_where_it_lost_them():
  point = jnp.array([[2.0, 4.0], [jnp.nan, jnp.nan], [2.0, 6.0], [0.0, 0.0]])
  view = _view(0.0, jnp.array([1, 0, 1, IGNORE]), point, count=4)
  parts, known = labels.centroids(view)
  np.testing.assert_allclose(parts[:2], [[0.5, 0.9], [0, 0]], rtol=1e-6)
  assert known.tolist() == [True, True, False, False]


def test_points_follow_their_pixels_through_turns_flips_and_crops():
  """A dot is painted, the view is made as in training, and the dot is where `point` says."""
  rng = np.random.default_rng(0)
  count, side, size = 32, 31, 25
  at = rng.integers(14, 18, (count, 2))
  image = np.zeros((count, side, side, 1), np.float32)
  rows, columns = np.mgrid[:side, :side]
  image[..., 0] = np.exp(-((rows - at[:, :1, None]) ** 2 + (columns - at[:, 1:, None]) ** 2) / 4)
  stream = {
    'image': image,
    'extent': np.full((count, 2), side, np.int32),
    'label': np.ones(count, np.int32),
    'point': at.astype(np.float32),
  }
  recipes = {
    'turned': {'source': 'labeled', 'rotate': 180.0, 'flip': 0.5, 'scale': (0.9, 1.2)},
    'plain': {'source': 'labeled'},
  }
  make = jax.jit(lambda stream, key: make_views.make_views(recipes, {'labeled': stream}, size, key))
  views = make(stream, KEY)
  for view in views.values():
    bright = np.asarray(view.image[..., 0])
    weight = bright / bright.sum((1, 2), keepdims=True)
    index = np.arange(size)
    seen = [(weight.sum(2) * index).sum(1), (weight.sum(1) * index).sum(1)]
    np.testing.assert_allclose(view.point, np.stack(seen, -1), atol=0.2)
    assert view.label.tolist() == [1] * count
  parts = labels.as_fractions(views['plain'].point, views['plain'])
  moved = labels.warp_centroids(parts, views['plain'], views['turned'])
  expected = labels.as_fractions(views['turned'].point, views['turned'])
  np.testing.assert_allclose(moved, np.clip(expected, 0, 1), atol=1e-4)


def test_a_map_is_applied_to_a_point():
  maps = jnp.array([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]])
  np.testing.assert_allclose(affine.apply(maps, jnp.array([[7.0, 8.0]])), [[26.0, 74.0]])


def test_mixing_by_hand():
  partner, share = mixup.partners(KEY, 1000, 0.75)
  assert sorted(partner.tolist()) == list(range(1000))
  assert 0.5 <= share.min() < 0.55
  assert share.max() <= 1
  x = jnp.arange(6.0).reshape(3, 2)
  mixed = mixup.mix(x, jnp.array([2, 0, 1]), jnp.array([1.0, 0.75, 0.5]))
  np.testing.assert_allclose(mixed, [[0, 1], [1.5, 2.5], [3, 4]])


VIEWS = {
  'labeled': _view(0.0, jnp.array([1, 0]), jnp.array([[2.0, 1.0], [jnp.nan, jnp.nan]])),
  'plain': _view(10.0),
  'weak': _view(20.0),
  'weak2': _view(30.0, flipped=True),
}
PREDICTIONS = {  # of plain, weak and weak2: [2 images, 3 classes]
  10: ([[0.1, 0.8, 0.1], [0.7, 0.2, 0.1]], [0.3, 0.2], [0.9, 0.6]),
  20: ([[0.2, 0.6, 0.2], [0.5, 0.3, 0.2]], [0.0, 0.0], [0.0, 0.0]),
  30: ([[0.0, 0.4, 0.6], [0.9, 0.1, 0.0]], [0.0, 0.0], [0.0, 0.0]),
}


def _ask(views=VIEWS, step=0, **kwargs):
  shown = []

  def teacher(images, head='class'):
    probs, x, y = PREDICTIONS[int(images[0, 0, 0, 0])]
    shown.append((int(images[0, 0, 0, 0]), head))
    probs = jnp.array(probs)
    return probs if head else {'class': probs, 'x': jnp.array(x), 'y': jnp.array(y)}

  terms, _ = registry.build('methods', 'hydramix', kwargs)(teacher, views, KEY, step)
  return terms, shown


def _no_teacher(images, head='class'):
  raise AssertionError('the control asks no teacher')


def _expected():
  """Images, classes and centroids (y, x) of labeled, weak and weak2; the first two mixed."""
  images = np.concatenate([VIEWS[name].image for name in ('labeled', 'weak', 'weak2')])
  mean = (np.array(PREDICTIONS[20][0]) + np.array(PREDICTIONS[30][0])) / 2
  guess = mean**2 / (mean**2).sum(-1, keepdims=True)  # temperature 1/2
  target = np.concatenate([[[0, 1, 0], [1, 0, 0]], guess, guess])
  there = np.array([[0.9], [0.3]])
  plain = np.array([[0.9, 0.3], [0.6, 0.2]])
  mirrored = np.array([[0.9, 0.7], [0.6, 0.8]])
  centroid = np.concatenate([[[0.5, 0.3], [0, 0]], there * plain, there * mirrored])
  partner, share = map(np.asarray, mixup.partners(KEY, 6, 0.75))
  pixels = share[:, None, None, None]
  images = pixels * images + (1 - pixels) * images[partner]
  target = share[:, None] * target + (1 - share[:, None]) * target[partner]
  return images, target, centroid


def _answers(count):
  rng = np.random.default_rng(count)
  logits = rng.normal(size=(count, 3)).astype(np.float32)
  x, y = rng.uniform(size=(2, count)).astype(np.float32)
  return {'class': jnp.asarray(logits), 'x': jnp.asarray(x), 'y': jnp.asarray(y)}


def _parts(heads, target, centroid):
  """CE, reverse CE, squared error of the probabilities, error of the centroids: means."""
  p = np.asarray(jax.nn.softmax(heads['class']))
  forward = -(target * np.log(p)).sum(-1).mean()
  reverse = -(p * np.log(np.clip(target, 1e-4, 1))).sum(-1).mean()
  there = 1 - p[:, 0]
  x, y = np.asarray(heads['x']) * there, np.asarray(heads['y']) * there
  error = ((y - centroid[:, 0]) ** 2 + (x - centroid[:, 1]) ** 2).mean()
  return forward, reverse, ((p - target) ** 2).mean(), error


def test_hydramix_by_hand():
  terms, shown = _ask(
    mu=0.6, delta=(1.0, 0.2), rho=(0.3, 2.0), lambda_u=4.0, ramp_up_steps=100, step=25
  )
  assert shown == [(10, None), (20, 'class'), (30, 'class')]  # centroids of the plain view alone
  images, target, centroid = _expected()
  np.testing.assert_allclose(terms['labeled'].images, images[:2], rtol=1e-5)
  np.testing.assert_allclose(terms['unlabeled'].images, images[2:], rtol=1e-5)
  for name, part, delta, rho in (
    ('labeled', slice(2), 1.0, 0.3),
    ('unlabeled', slice(2, 6), 0.2, 2.0),
  ):
    heads = _answers(len(target[part]))
    forward, reverse, _, error = _parts(heads, target[part], centroid[part])
    expected = 0.6 * (delta * forward + rho * reverse) + 0.4 * error
    assert terms[name].loss(heads) == pytest.approx(float(expected), rel=1e-4)
  assert terms['labeled'].weight == 1.0
  assert terms['unlabeled'].weight == pytest.approx(1.0)  # 4 x a quarter of the ramp


def test_without_the_symmetric_loss_it_is_mixmatch():
  terms, _ = _ask(mu=0.6, symmetric=False)
  _, target, centroid = _expected()
  heads = _answers(2)
  forward, _, _, error = _parts(heads, target[:2], centroid[:2])
  assert terms['labeled'].loss(heads) == pytest.approx(0.6 * forward + 0.4 * error, rel=1e-4)
  heads = _answers(4)
  _, _, squared, error = _parts(heads, target[2:], centroid[2:])
  assert terms['unlabeled'].loss(heads) == pytest.approx(0.6 * squared + 0.4 * error, rel=1e-4)


def test_centroids_are_not_mixed():
  """Whoever the partner is, the error of what the first image says is 0 at its own centroid."""
  terms, _ = _ask(mu=0.0)
  _, _, centroid = _expected()
  sure = jnp.tile(jnp.array([-100.0, 0.0, 0.0]), (4, 1))
  for name, part in (('labeled', slice(2)), ('unlabeled', slice(2, 6))):
    own = centroid[part]
    heads = {'class': sure[: len(own)], 'x': jnp.array(own[:, 1]), 'y': jnp.array(own[:, 0])}
    assert terms[name].loss(heads) == pytest.approx(0, abs=1e-9)


def test_patches_without_a_label_teach_nothing_in_the_labeled_term():
  unknown = VIEWS['labeled'].replace(label=jnp.array([1, IGNORE]))
  terms, _ = _ask({**VIEWS, 'labeled': unknown})
  partner, _ = mixup.partners(KEY, 6, 0.75)
  assert (np.asarray(partner[:2]) != 1).sum() >= 1
  heads = _answers(2)
  base = terms['labeled'].loss(heads)
  moved = heads | {name: heads[name].at[1].add(0.3) for name in ('class', 'x', 'y')}
  assert base == pytest.approx(float(terms['labeled'].loss(moved)), rel=1e-6)


def test_the_control_learns_class_and_centroid_of_the_same_patches():
  labeled = VIEWS['labeled']
  heads = _answers(2)
  terms, _ = registry.build('methods', 'centroids', dict(weight=0.4))(_no_teacher, VIEWS, KEY, 0)
  term = terms['labeled']
  assert term.images is labeled.image  # so that one forward pass serves both
  _, _, _, error = _parts(heads, np.eye(3)[[1, 0]], np.array([[0.5, 0.3], [0, 0]]))
  assert term.loss(heads) == pytest.approx(float(error), rel=1e-4)
  assert term.weight == 0.4
  terms, _ = registry.build('methods', 'supervised', {})(_no_teacher, VIEWS, KEY, 0)
  forward = _parts(heads, np.eye(3)[[1, 0]], np.zeros((2, 2)))[0]
  assert terms['labeled'].loss(heads['class']) == pytest.approx(float(forward), rel=1e-4)
  with pytest.raises(UserError, match='dice is for masks'):
    registry.build('methods', 'supervised', dict(dice=1.0))(_no_teacher, VIEWS, KEY, 0)


@pytest.mark.parametrize(
  ('kwargs', 'says'),
  [
    (dict(delta=(1.0,)), r'delta=\(1.0,\) is no pair'),
    (dict(rho=(1.0, -1.0)), r'rho=\(1.0, -1.0\) is no pair'),
    (dict(mu=1.5), 'hydramix.mu=1.5 is not in the range 0.0 to 1.0'),
    (dict(clip=0.0), 'hydramix.clip=0.0 is not in'),
    (dict(alpha=0.0), 'hydramix.alpha=0.0 is not in'),
    (dict(temperature=0.0), 'hydramix.temperature=0.0 is not in'),
  ],
)
def test_weights_that_cannot_be_are_refused_before_anything_is_trained(tmp_path, kwargs, says):
  config = tiny_cells(tmp_path)
  config.unlock()
  config.methods.hydramix.update(kwargs)
  with pytest.raises(UserError, match=says):
    run(config, tmp_path / 'run')
