"""Methods of several views or networks: their terms by hand, on views that were made by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from views_by_hand import KEY, STUDENT, TEACHER, ask, view_of, views_of

from ssl_jax import losses, registry
from ssl_jax.errors import UserError
from ssl_jax.methods import unimatch_v2
from ssl_jax.types import IGNORE, View


def test_unimatch_by_hand():
  views = views_of() | {'strong2': view_of(value=0.5, valid=[[[True, True]], [[False, True]]])}
  terms, _, _ = ask('unimatch', views, threshold=0.95, feature_dropout=0.3)
  assert {n: (float(t.weight), t.feature_dropout) for n, t in terms.items()} == {
    'strong': (0.25, 0.0),
    'strong2': (0.25, 0.0),
    'features': (0.5, 0.3),
  }
  expected = -(np.log(0.5) + np.log(0.2)) / 4
  for name, image in (('strong', 0.9), ('features', 0.1)):
    assert terms[name].loss(STUDENT) == pytest.approx(expected, rel=1e-5)
    assert (terms[name].images == jnp.float32(image)).all()
  assert terms['strong2'].loss(STUDENT) == pytest.approx(-np.log(0.5) / 3, rel=1e-5)


def test_unimatch_v2_by_hand():
  views = views_of() | {'strong2': view_of(value=0.5, valid=[[[True, True]], [[False, True]]])}
  terms, metrics, asked = ask('unimatch_v2', views, step=25, weight=0.8, ramp_up_steps=100)
  ramp = float(losses.ramp_up(25, 100))
  assert 0 < ramp < 1
  assert {name: float(term.weight) for name, term in terms.items()} == {
    'strong': pytest.approx(0.4 * ramp),
    'strong2': pytest.approx(0.4 * ramp),
  }
  # The teacher's surest pixels are 0.97 and 0.95; the student gives their classes 0.5 and 0.2.
  assert terms['strong'].loss(STUDENT) == pytest.approx(-np.log([0.5, 0.2]).sum() / 4, rel=1e-5)
  assert terms['strong2'].loss(STUDENT) == pytest.approx(-np.log(0.5) / 3, rel=1e-5)
  assert metrics['mask_rate'] == 0.5
  assert len(asked) == 1
  terms, _, _ = ask('unimatch_v2', views, cross_entropy=0.0, dice=1.0)
  # Of V-Net, by class over the two confident pixels: 1 - 2 sum(p t) / (sum(p^2) + sum(t^2)).
  zero = 1 - 2 * 0.5 / (0.5**2 + 0.8**2 + 1)
  one = 1 - 2 * 0.2 / (0.5**2 + 0.2**2 + 1)
  assert terms['strong'].loss(STUDENT) == pytest.approx((zero + one) / 2, rel=1e-3)


def test_unimatch_v2_drops_in_one_view_what_the_other_keeps():
  def masks(batch, dropped_images, channels=6):
    first, second = unimatch_v2.complementary_masks(KEY, batch, dropped_images)
    np.testing.assert_array_equal(first(channels), first(channels))  # the same at every layer
    return np.asarray(first(channels)), np.asarray(second(channels))

  first, second = masks(8, 0.5)
  np.testing.assert_array_equal(first + second, 2)
  kept_whole = (first == 1).all(1)
  assert kept_whole.sum() == 4
  assert set(np.unique(first[~kept_whole])) == {0, 2}
  # Images differ in their channels, and about half of them are in either view.
  first, _ = masks(200, 1.0)
  assert len(np.unique(first, axis=0)) > 32
  assert first.mean() == pytest.approx(1, abs=0.1)
  # Half of three images is one and a half, of which one stays whole.
  assert (masks(3, 0.5)[0] == 1).all(1).sum() == 1
  assert (masks(4, 0.0)[0] == 1).all()


def test_cps_by_hand():
  terms, _, asked = ask('cps', views_of(), weight=1.5)
  other = jnp.log(TEACHER)
  assert not asked
  one, two = np.exp(STUDENT), np.asarray(TEACHER)
  pick = np.take_along_axis
  each = -np.log(pick(one, two.argmax(-1)[..., None], -1))
  each = each - np.log(pick(two, one.argmax(-1)[..., None], -1))
  for name in ('labeled', 'unlabeled'):
    term = terms[name]
    loss = term.loss({'class': STUDENT, 'second': other})
    assert loss == pytest.approx(float(each.mean()), rel=1e-5)
    assert (term.head, float(term.weight)) == (None, 1.5)
  assert terms['second'].head == 'second'
  assert terms['second'].loss(other) == pytest.approx(-np.log([0.97, 0.6, 0.95]).mean(), rel=1e-5)


def test_mixmatch_by_hand():
  """Guesses are averaged on the same pixels and sharpened; then images and targets are mixed."""
  views = views_of() | {'weak2': view_of(value=0.3)}
  made, _, asked = ask('mixmatch', views, lambda_u=75.0, ramp_up_steps=100, step=25)
  assert [float(x.mean()) for x in asked] == pytest.approx([0.1, 0.3])
  key_partner, key_weight = jax.random.split(KEY)
  partner = np.asarray(jax.random.permutation(key_partner, 6))
  mix_weight = np.asarray(jax.random.beta(key_weight, 0.75, 0.75, (6,)))
  mix_weight = np.maximum(mix_weight, 1 - mix_weight)[:, None, None, None]
  images = np.concatenate([np.full((2, 1, 2, 3), v) for v in (0.0, 0.1, 0.3)])
  labels = np.eye(2)[np.array([[[0, 1]], [[1, 0]]])]
  labels[1, 0, 1] = 0  # IGNORE
  guess = np.asarray(TEACHER) ** 2
  guess = guess / guess.sum(-1, keepdims=True)
  target = np.concatenate([labels, guess, guess])
  valid = np.ones((6, 1, 2), bool)
  valid[1, 0, 1] = False
  images, target = (mix_weight * x + (1 - mix_weight) * x[partner] for x in (images, target))
  valid = valid & valid[partner]
  np.testing.assert_allclose(made['labeled'].images, images[:2], rtol=1e-5)
  np.testing.assert_allclose(made['unlabeled'].images, images[2:], rtol=1e-5)
  probs = np.exp(STUDENT)
  expected = -(target[:2] * np.log(probs)).sum(-1)[valid[:2]].mean()
  assert made['labeled'].loss(STUDENT) == pytest.approx(float(expected), rel=1e-4)
  twice = jnp.concatenate([STUDENT, STUDENT])
  expected = ((np.exp(twice) - target[2:]) ** 2).mean(-1)[valid[2:]].mean()
  assert made['unlabeled'].loss(twice) == pytest.approx(float(expected), rel=1e-4)
  assert made['unlabeled'].weight == pytest.approx(75 / 4)


def test_bcp_by_hand():
  """Two images of 6 x 6 pixels; boxes of 4 x 4, wherever they are."""
  space = (6, 6)
  rng = np.random.default_rng(0)
  images = rng.random((2, 2, *space, 1)).astype(np.float32)
  label = rng.integers(0, 2, (2, *space))
  label[0, 0, 0] = IGNORE
  valid = jnp.ones((2, *space), bool).at[1, 5, 5].set(False)
  affine = jnp.tile(jnp.eye(2, 3), (2, 1, 1))
  views = {
    'labeled': View(jnp.asarray(images[0]), jnp.ones_like(valid), affine, jnp.asarray(label)),
    'weak': View(jnp.asarray(images[1]), valid, affine),
  }
  guess = jnp.tile(jnp.arange(6) < 3, (2, 6, 1)).astype(int)
  logits = jnp.asarray(rng.normal(size=(2, *space, 2)).astype(np.float32))

  def ask(step, **kwargs):
    method = registry.build('methods', 'bcp', dict(dice=0.0, unlabeled_weight=0.25) | kwargs)
    return method(lambda shown: jax.nn.one_hot(guess, 2), views, KEY, step)[0]

  terms = ask(0)
  of_label = np.asarray(terms['inside'].images == images[0])[..., 0]
  assert (of_label.sum((1, 2)) == 16).all()
  np.testing.assert_array_equal(np.asarray(terms['outside'].images == images[0])[..., 0], ~of_label)
  surprise = -np.log(np.asarray(jax.nn.softmax(logits)))

  def mean(ids, counted):
    ids = np.where(counted, ids, 0)
    return np.take_along_axis(surprise, ids[..., None], -1)[..., 0][counted].mean()

  for name, shown in (('inside', of_label), ('outside', ~of_label)):
    expected = mean(label, shown & (label != IGNORE))
    expected += 0.25 * mean(np.asarray(guess), ~shown & np.asarray(valid))
    assert terms[name].loss(logits) == pytest.approx(float(expected), rel=1e-5)
  # In pre-training the other image is the other labeled one, with its label and the same weight.
  early = ask(0, pretraining_steps=1)['inside']
  np.testing.assert_array_equal(
    early.images, np.where(of_label[..., None], images[0], images[0][::-1])
  )
  other = label[::-1]
  expected = mean(label, of_label & (label != IGNORE)) + mean(other, ~of_label & (other != IGNORE))
  assert early.loss(logits) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize('space', [(60, 120), (9, 24, 64)])
def test_the_box_of_bcp_has_two_thirds_of_each_side(space):
  image, valid = jnp.zeros((2, *space, 1)), jnp.ones((2, *space), bool)
  affine = jnp.tile(jnp.eye(len(space), len(space) + 1), (2, 1, 1))
  label = jnp.zeros((2, *space), int)
  views = {'labeled': View(image + 1, valid, affine, label), 'weak': View(image, valid, affine)}
  method = registry.build('methods', 'bcp', dict(largest_component=False))

  def teacher(shown):
    return jax.nn.one_hot(jnp.zeros(shown.shape[:-1], int), 2)

  for key in range(3):
    terms = method(teacher, views, jax.random.key(key), 0)[0]
    for box in np.asarray(terms['inside'].images[..., 0] == 1):
      for axis, side in enumerate(space):
        others = tuple(other for other in range(len(space)) if other != axis)
        assert box.any(others).sum() == side * 2 // 3


def test_bcp_pastes_one_to_one():
  views = views_of()
  views['weak'] = jax.tree.map(lambda x: x[:1], views['weak'])
  with pytest.raises(UserError, match='one to one'):
    ask('bcp', views)
