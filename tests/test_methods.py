"""Every method: its terms by hand on views made by hand, and what a method must be."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax import losses, parallel, registry
from ssl_jax.errors import UserError
from ssl_jax.methods import unimatch_v2
from ssl_jax.types import IGNORE, MASKS, Mix, View

GRID = jnp.broadcast_to(jnp.eye(2, 3), (2, 2, 3))
KEY = jax.random.key(0)


def _view(valid=None, label=None, mix=None, value=0.0):
  valid = np.ones((2, 1, 2), bool) if valid is None else np.array(valid)
  image = jnp.full((2, 1, 2, 3), value)
  return View(image, jnp.asarray(valid), GRID, label, mix)


def _views(**strong):
  return {
    'labeled': _view(label=jnp.array([[[0, 1]], [[1, IGNORE]]])),
    'weak': _view(value=0.1),
    'strong': _view(value=0.9, **strong),
  }


# What the teacher says of the weak view, [2 images, 1 row, 2 columns, 2 classes].
TEACHER = jnp.array([[[[0.97, 0.03], [0.4, 0.6]]], [[[0.05, 0.95], [0.9, 0.1]]]])
STUDENT = jnp.log(jnp.array([[[[0.5, 0.5], [0.9, 0.1]]], [[[0.8, 0.2], [0.3, 0.7]]]]))


def _ask(name, views, step=0, **kwargs):
  """The terms and metrics of a method, and the images that it asked the teacher about."""
  asked = []

  def teacher(images):
    asked.append(images)
    return TEACHER

  terms, metrics = registry.build('methods', name, kwargs)(teacher, views, KEY, step)
  return terms, metrics, asked


def test_supervised_by_hand():
  terms, _, asked = _ask('supervised', _views(), weight=0.5)
  term = terms['labeled']
  assert term.loss(STUDENT) == pytest.approx(-np.log([0.5, 0.1, 0.2]).mean(), rel=1e-5)
  assert term.weight == 0.5
  assert not asked  # labels need no teacher


def test_annealing_leaves_out_what_is_known_already():
  # Probabilities of the true classes: 0.5, 0.1 and 0.2 of the three labeled pixels.
  def loss(step, **kwargs):
    terms, _, _ = _ask('supervised', _views(), step=step, tsa_steps=100, **kwargs)
    return terms['labeled'].loss(STUDENT)

  confident = jnp.log(jnp.array([[[[0.9, 0.1], [0.9, 0.1]]], [[[0.8, 0.2], [0.3, 0.7]]]]))
  known = jnp.where(jnp.arange(2).reshape(2, 1, 1, 1) == 0, confident, STUDENT)
  for annealing, a in (('linear', 0.5), ('log', 1 - np.exp(-2.5)), ('exp', np.exp(-2.5))):
    kwargs = dict(annealing=annealing)
    assert loss(0, **kwargs) == pytest.approx(-np.log([0.5, 0.1, 0.2]).mean(), rel=1e-5)
    terms, _, _ = _ask('supervised', _views(), step=50, tsa_steps=100, **kwargs)
    counted = [p for p in (0.9, 0.1, 0.2) if p <= a / 2 + 0.5]
    assert terms['labeled'].loss(known) == pytest.approx(-np.log(counted).mean(), rel=1e-4)
    terms, _, _ = _ask('supervised', _views(), step=100, tsa_steps=100, **kwargs)
    assert terms['labeled'].loss(known) == pytest.approx(-np.log([0.9, 0.1, 0.2]).mean(), rel=1e-4)


@pytest.mark.parametrize(
  ('kwargs', 'says'),
  [(dict(annealing='cosine'), 'not one of linear, log, exp'), (dict(annealing='exp'), 'tsa_steps')],
)
def test_annealing_that_cannot_be_is_refused(kwargs, says):
  with pytest.raises(UserError, match=says):
    _ask('supervised', _views(), **kwargs)


def test_dice_may_stand_alone():
  terms, _, _ = _ask('supervised', _views(), dice=1.0, cross_entropy=0.0)
  labels = _views()['labeled'].label
  assert terms['labeled'].loss(STUDENT) == pytest.approx(float(losses.dice(STUDENT, labels)))


def test_fixmatch_by_hand():
  terms, metrics, asked = _ask('fixmatch', _views(), threshold=0.95)
  term = terms['unlabeled']
  # Confident: 0.97 for class 0 and exactly 0.95 for class 1; the mean is over all four pixels.
  assert term.loss(STUDENT) == pytest.approx(-(np.log(0.5) + np.log(0.2)) / 4, rel=1e-5)
  assert metrics['mask_rate'] == pytest.approx(0.5)
  assert (term.images == 0.9).all()
  assert (asked[0] == jnp.float32(0.1)).all()


def test_fixmatch_leaves_out_what_padding_and_cutout_made():
  views = _views(valid=[[[True, True]], [[False, True]]])
  terms, metrics, _ = _ask('fixmatch', views, threshold=0.95)
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(-np.log(0.5) / 3, rel=1e-5)
  assert metrics['mask_rate'] == pytest.approx(1 / 3)


def test_fixmatch_over_all_pixels_learns_from_padding_but_not_from_cutout():
  weak = _view(valid=[[[True, True]], [[False, True]]], value=0.1)
  cut = jnp.array([[[True, False]], [[False, False]]])
  strong = _view(valid=[[[False, True]], [[False, True]]], value=0.9).replace(cut=cut)
  terms, metrics, _ = _ask('fixmatch', {'weak': weak, 'strong': strong}, all_pixels=True)
  # Confident: the first pixel, cut out, and the third, which is padding; the mean is over all four.
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(-np.log(0.2) / 4, rel=1e-5)
  assert metrics['mask_rate'] == pytest.approx(0.25)
  # Padding that is cut out is noise, too.
  views = {'weak': weak, 'strong': strong.replace(cut=jnp.ones_like(cut))}
  terms, _, _ = _ask('fixmatch', views, all_pixels=True)
  assert terms['unlabeled'].loss(STUDENT) == 0


def test_supervised_shows_several_views_that_weigh_the_same():
  views = _views() | {'pseudo': _view(label=jnp.array([[[1, 1]], [[0, 0]]]))}
  terms, _, _ = _ask('supervised', views, shown=('labeled', 'pseudo'))
  assert {name: term.weight for name, term in terms.items()} == {'labeled': 0.5, 'pseudo': 0.5}
  by_hand = -np.log([0.5, 0.1, 0.8, 0.3]).mean()
  assert terms['pseudo'].loss(STUDENT) == pytest.approx(by_hand, rel=1e-5)


def test_fixmatch_targets_follow_cutmix():
  pasted = jnp.array([[[True, False]], [[False, False]]])
  views = _views(mix=Mix(jnp.array([1, 0]), pasted))
  terms, _, _ = _ask('fixmatch', views, threshold=0.95)
  # The first pixel of image 0 now shows image 1, whose class is 1 for the teacher.
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(
    -(np.log(0.5) + np.log(0.2)) / 4, rel=1e-5
  )
  views = _views(mix=Mix(jnp.array([1, 0]), jnp.array([[[False, True]], [[True, False]]])))
  terms, metrics, _ = _ask('fixmatch', views, threshold=0.95)
  # Image 1's first pixel now shows image 0's confident class 0, image 0's second an unsure one.
  assert metrics['mask_rate'] == pytest.approx(0.5)
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(
    -(np.log(0.5) + np.log(0.8)) / 4, rel=1e-5
  )


def test_fixmatch_may_ramp_its_weight():
  weights = []
  for step in (0, 5, 10, 99):
    terms, _, _ = _ask('fixmatch', _views(), weight=2.0, ramp_up_steps=10, step=step)
    weights.append(terms['unlabeled'].weight)
  assert weights == pytest.approx([2 * np.exp(-5), 2 * np.exp(-1.25), 2, 2], rel=1e-5)


def test_mean_teacher_by_hand():
  terms, _, _ = _ask('mean_teacher', _views(), weight=2.0, ramp_up_steps=10, step=5)
  term = terms['unlabeled']
  expected = ((np.exp(STUDENT) - TEACHER) ** 2).mean()
  assert term.loss(STUDENT) == pytest.approx(float(expected), rel=1e-5)
  assert term.weight == pytest.approx(2 * np.exp(-5 * 0.25), rel=1e-5)
  assert _ask('mean_teacher', _views(), ramp_up_steps=10, step=99)[0]['unlabeled'].weight == 1


def test_pseudo_label_and_entropy_by_hand():
  terms, metrics, _ = _ask('pseudo_label', _views(), threshold=0.95)
  expected = -(np.log(0.5) + np.log(0.2)) / 4
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(expected, rel=1e-5)
  assert (terms['unlabeled'].images == jnp.float32(0.1)).all()
  assert metrics['mask_rate'] == pytest.approx(0.5)
  terms, _, asked = _ask('entropy', _views(), weight=0.3)
  probs = np.exp(STUDENT)
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(
    float(-(probs * np.log(probs)).sum(-1).mean()), rel=1e-5
  )
  assert terms['unlabeled'].weight == pytest.approx(0.3)
  assert not asked


def test_uda_by_hand():
  probs, target = np.exp(STUDENT), np.asarray(TEACHER)
  each = (target * (np.log(target) - np.log(probs))).sum(-1)
  terms, _, _ = _ask('uda', _views())
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(float(each.mean()), rel=1e-5)
  terms, metrics, _ = _ask('uda', _views(), threshold=0.95)  # strictly above, unlike FixMatch
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(float(each[0, 0, 0] / 4), rel=1e-5)
  assert metrics['mask_rate'] == pytest.approx(0.25)
  sharp = target**2 / (target**2).sum(-1, keepdims=True)
  each = (sharp * (np.log(sharp) - np.log(probs))).sum(-1)
  terms, _, _ = _ask('uda', _views(), temperature=0.5)
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(float(each.mean()), rel=1e-5)
  with pytest.raises(UserError, match='neither'):
    _ask('uda', _views(), divergence='js')


def test_uda_with_mutual_information():
  terms, _, _ = _ask('uda', _views(), divergence='iid', marginal=1.5)
  valid = jnp.ones((2, 1, 2), bool)
  expected = losses.mutual_information(TEACHER, jax.nn.softmax(STUDENT), valid, 0, 1.5)
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize('name', ['uda', 'iic'])
def test_mutual_information_is_of_warped_probabilities_not_of_warped_logits(name):
  # The strong view lies half a pixel to the right, so that each pixel is the mean of two.
  shifted = jnp.broadcast_to(jnp.array([[1.0, 0, 0], [0, 1, 0.5]]), (2, 2, 3))
  views = _views()
  views['strong'] = views['strong'].replace(geometry=shifted)
  probs, strong_probs = jax.nn.softmax(STUDENT), np.asarray(jax.nn.softmax(STUDENT))
  # Pixel 0 of the weak view is at -0.5 of the strong one, where its border pixel is repeated;
  # pixel 1 is at 0.5, halfway between the two.
  warped = np.stack([strong_probs[:, :, 0], strong_probs.mean(2)], 2)
  valid = jnp.ones((2, 1, 2), bool)
  if name == 'uda':
    loss = _ask('uda', views, divergence='iid')[0]['unlabeled'].loss(STUDENT)
    expected = losses.mutual_information(TEACHER, jnp.asarray(warped), valid)
  else:
    logits = parallel.interleave([STUDENT, STUDENT])
    loss = _ask('iic', views, radius=0)[0]['unlabeled'].loss({'class': logits})
    expected = losses.mutual_information(probs, jnp.asarray(warped), valid)
  assert loss == pytest.approx(float(expected), rel=1e-5)


def test_uda_compares_where_the_weak_view_is():
  """The strong view is mirrored, its prediction mirrored back; pixels it lacks do not count."""
  mirrored = jnp.broadcast_to(jnp.array([[1.0, 0, 0], [0, -1, 1]]), (2, 2, 3))
  seen = np.array([[[True, False]], [[True, True]]])
  views = _views(valid=seen)
  views['strong'] = views['strong'].replace(geometry=mirrored)
  terms, _, _ = _ask('uda', views)
  probs, target = np.exp(STUDENT)[:, :, ::-1], np.asarray(TEACHER)
  each = (target * (np.log(target) - np.log(probs))).sum(-1)
  expected = each[seen[:, :, ::-1]].mean()
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(float(expected), rel=1e-4)


def test_iic_is_blind_to_a_turn_and_to_the_order_of_clusters():
  mirrored = jnp.broadcast_to(jnp.array([[1.0, 0, 0], [0, -1, 1]]), (2, 2, 3))
  views = _views()
  views['strong'] = views['strong'].replace(geometry=mirrored)
  term = _ask('iic', views, radius=0, over='over')[0]['unlabeled']
  assert term.head is None
  assert [float(x.mean()) for x in parallel.separate(term.images, [2, 2])] == pytest.approx(
    [0.1, 0.9]
  )

  def loss(one, two):
    joined = parallel.interleave([one, two])
    return float(term.loss({'class': joined, 'over': joined[..., ::-1]}))

  valid = jnp.ones((2, 1, 2), bool)
  probs = jax.nn.softmax(STUDENT)
  alone = float(losses.mutual_information(probs, probs, valid))
  assert loss(STUDENT, STUDENT[:, :, ::-1]) == pytest.approx(2 * alone, rel=1e-5)
  assert loss(STUDENT, STUDENT) > 2 * alone + 0.01  # not the same pixels


def test_unimatch_by_hand():
  views = _views() | {'strong2': _view(value=0.5, valid=[[[True, True]], [[False, True]]])}
  terms, _, _ = _ask('unimatch', views, threshold=0.95, feature_dropout=0.3)
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
  views = _views() | {'strong2': _view(value=0.5, valid=[[[True, True]], [[False, True]]])}
  terms, metrics, asked = _ask('unimatch_v2', views, step=25, weight=0.8, ramp_up_steps=100)
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
  terms, _, _ = _ask('unimatch_v2', views, cross_entropy=0.0, dice=1.0)
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
  terms, _, asked = _ask('cps', _views(), weight=1.5)
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
  views = _views() | {'weak2': _view(value=0.3)}
  made, _, asked = _ask('mixmatch', views, lambda_u=75.0, ramp_up_steps=100, step=25)
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
  views = _views()
  views['weak'] = jax.tree.map(lambda x: x[:1], views['weak'])
  with pytest.raises(UserError, match='one to one'):
    _ask('bcp', views)


OF_MASKS = [
  n
  for n in registry.known('methods')
  if MASKS in getattr(registry.find('methods', n), 'TASKS', [MASKS])
]


@pytest.mark.parametrize('name', OF_MASKS)
def test_every_method_asks_named_terms_with_finite_losses(name):
  views = _views() | {'weak2': _view(value=0.2), 'strong2': _view(value=0.8)}
  terms, metrics, _ = _ask(name, views)
  assert terms
  for term in terms.values():
    logits = jnp.tile(STUDENT, (len(term.images) // 2, 1, 1, 1))
    outputs = {'class': logits, 'second': logits} if term.head is None else logits
    chex.assert_shape(term.loss(outputs), ())
    assert np.isfinite(term.loss(outputs))
    assert np.isfinite(term.weight)
  assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize('name', OF_MASKS)
def test_terms_name_the_view_whose_images_they_show(name):
  """Terms of one view share a forward pass, so the name must be right, and None where mixed."""
  views = _views() | {'weak2': _view(value=0.2), 'strong2': _view(value=0.8)}
  terms, _, _ = _ask(name, views)
  for key, term in terms.items():
    shown = [view_name for view_name, view in views.items() if view.image is term.images]
    assert [term.view] == (shown or [None])
    assert term.unlabeled == (key == 'unlabeled' or name in ('unimatch', 'unimatch_v2'))


@pytest.mark.parametrize('name', registry.known('methods'))
def test_a_method_that_replaces_others_says_what_its_control_has_in_their_place(name):
  module = registry.find('methods', name)
  replaced = getattr(module, 'REPLACES', ())
  assert hasattr(module, 'control') == bool(replaced)
  if replaced:
    methods = module.control()
    assert methods.keys() == set(replaced)
    for other, kwargs in methods.items():
      assert registry.find('methods', other).LABELED
      registry.build('methods', other, kwargs)


def test_controls_have_the_weights_of_their_methods():
  mixmatch = registry.find('methods', 'mixmatch').control(dice=0.5, lambda_u=3.0)
  assert mixmatch == {'supervised': {'weight': 1.0, 'dice': 0.5}}
  hydramix = registry.find('methods', 'hydramix').control(mu=0.6, unlabeled_views=('weak',))
  assert hydramix == {'supervised': {'weight': 0.6}, 'centroids': {'weight': 0.4}}


@pytest.mark.parametrize('name', ['supervised', 'cps', 'mixmatch', 'bcp'])
def test_labels_of_a_view_without_labels_are_refused(name):
  views = _views() | {'weak2': _view(value=0.2)}
  views['labeled'] = views['weak']
  with pytest.raises(UserError, match='stream without labels'):
    _ask(name, views)
