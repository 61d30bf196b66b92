"""Every method: its terms by hand, on views that were made by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from views_by_hand import STUDENT, TEACHER, ask, view_of, views_of

from ssl_jax import losses, parallel
from ssl_jax.errors import UserError
from ssl_jax.types import Mix


def test_supervised_by_hand():
  terms, _, asked = ask('supervised', views_of(), weight=0.5)
  term = terms['labeled']
  assert term.loss(STUDENT) == pytest.approx(-np.log([0.5, 0.1, 0.2]).mean(), rel=1e-5)
  assert term.weight == 0.5
  assert not asked  # labels need no teacher


def test_annealing_leaves_out_what_is_known_already():
  # Probabilities of the true classes: 0.5, 0.1 and 0.2 of the three labeled pixels.
  def loss(step, **kwargs):
    terms, _, _ = ask('supervised', views_of(), step=step, tsa_steps=100, **kwargs)
    return terms['labeled'].loss(STUDENT)

  confident = jnp.log(jnp.array([[[[0.9, 0.1], [0.9, 0.1]]], [[[0.8, 0.2], [0.3, 0.7]]]]))
  known = jnp.where(jnp.arange(2).reshape(2, 1, 1, 1) == 0, confident, STUDENT)
  for annealing, a in (('linear', 0.5), ('log', 1 - np.exp(-2.5)), ('exp', np.exp(-2.5))):
    kwargs = dict(annealing=annealing)
    assert loss(0, **kwargs) == pytest.approx(-np.log([0.5, 0.1, 0.2]).mean(), rel=1e-5)
    terms, _, _ = ask('supervised', views_of(), step=50, tsa_steps=100, **kwargs)
    counted = [p for p in (0.9, 0.1, 0.2) if p <= a / 2 + 0.5]
    assert terms['labeled'].loss(known) == pytest.approx(-np.log(counted).mean(), rel=1e-4)
    terms, _, _ = ask('supervised', views_of(), step=100, tsa_steps=100, **kwargs)
    assert terms['labeled'].loss(known) == pytest.approx(-np.log([0.9, 0.1, 0.2]).mean(), rel=1e-4)


@pytest.mark.parametrize(
  ('kwargs', 'says'),
  [(dict(annealing='cosine'), 'not one of linear, log, exp'), (dict(annealing='exp'), 'tsa_steps')],
)
def test_annealing_that_cannot_be_is_refused(kwargs, says):
  with pytest.raises(UserError, match=says):
    ask('supervised', views_of(), **kwargs)


def test_dice_may_stand_alone():
  terms, _, _ = ask('supervised', views_of(), dice=1.0, cross_entropy=0.0)
  labels = views_of()['labeled'].label
  assert terms['labeled'].loss(STUDENT) == pytest.approx(float(losses.dice(STUDENT, labels)))


def test_fixmatch_by_hand():
  terms, metrics, asked = ask('fixmatch', views_of(), threshold=0.95)
  term = terms['unlabeled']
  # Confident: 0.97 for class 0 and exactly 0.95 for class 1; the mean is over all four pixels.
  assert term.loss(STUDENT) == pytest.approx(-(np.log(0.5) + np.log(0.2)) / 4, rel=1e-5)
  assert metrics['mask_rate'] == pytest.approx(0.5)
  assert (term.images == 0.9).all()
  assert (asked[0] == jnp.float32(0.1)).all()


def test_fixmatch_leaves_out_what_padding_and_cutout_made():
  views = views_of(valid=[[[True, True]], [[False, True]]])
  terms, metrics, _ = ask('fixmatch', views, threshold=0.95)
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(-np.log(0.5) / 3, rel=1e-5)
  assert metrics['mask_rate'] == pytest.approx(1 / 3)


def test_fixmatch_over_all_pixels_learns_from_padding_but_not_from_cutout():
  weak = view_of(valid=[[[True, True]], [[False, True]]], value=0.1)
  cut = jnp.array([[[True, False]], [[False, False]]])
  strong = view_of(valid=[[[False, True]], [[False, True]]], value=0.9).replace(cut=cut)
  terms, metrics, _ = ask('fixmatch', {'weak': weak, 'strong': strong}, all_pixels=True)
  # Confident: the first pixel, cut out, and the third, which is padding; the mean is over all four.
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(-np.log(0.2) / 4, rel=1e-5)
  assert metrics['mask_rate'] == pytest.approx(0.25)
  # Padding that is cut out is noise, too.
  views = {'weak': weak, 'strong': strong.replace(cut=jnp.ones_like(cut))}
  terms, _, _ = ask('fixmatch', views, all_pixels=True)
  assert terms['unlabeled'].loss(STUDENT) == 0


def test_supervised_shows_several_views_that_weigh_the_same():
  views = views_of() | {'pseudo': view_of(label=jnp.array([[[1, 1]], [[0, 0]]]))}
  terms, _, _ = ask('supervised', views, shown=('labeled', 'pseudo'))
  assert {name: term.weight for name, term in terms.items()} == {'labeled': 0.5, 'pseudo': 0.5}
  by_hand = -np.log([0.5, 0.1, 0.8, 0.3]).mean()
  assert terms['pseudo'].loss(STUDENT) == pytest.approx(by_hand, rel=1e-5)


def test_fixmatch_targets_follow_cutmix():
  pasted = jnp.array([[[True, False]], [[False, False]]])
  views = views_of(mix=Mix(jnp.array([1, 0]), pasted))
  terms, _, _ = ask('fixmatch', views, threshold=0.95)
  # The first pixel of image 0 now shows image 1, whose class is 1 for the teacher.
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(
    -(np.log(0.5) + np.log(0.2)) / 4, rel=1e-5
  )
  views = views_of(mix=Mix(jnp.array([1, 0]), jnp.array([[[False, True]], [[True, False]]])))
  terms, metrics, _ = ask('fixmatch', views, threshold=0.95)
  # Image 1's first pixel now shows image 0's confident class 0, image 0's second an unsure one.
  assert metrics['mask_rate'] == pytest.approx(0.5)
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(
    -(np.log(0.5) + np.log(0.8)) / 4, rel=1e-5
  )


def test_fixmatch_may_ramp_its_weight():
  weights = []
  for step in (0, 5, 10, 99):
    terms, _, _ = ask('fixmatch', views_of(), weight=2.0, ramp_up_steps=10, step=step)
    weights.append(terms['unlabeled'].weight)
  assert weights == pytest.approx([2 * np.exp(-5), 2 * np.exp(-1.25), 2, 2], rel=1e-5)


def test_mean_teacher_by_hand():
  terms, _, _ = ask('mean_teacher', views_of(), weight=2.0, ramp_up_steps=10, step=5)
  term = terms['unlabeled']
  expected = ((np.exp(STUDENT) - TEACHER) ** 2).mean()
  assert term.loss(STUDENT) == pytest.approx(float(expected), rel=1e-5)
  assert term.weight == pytest.approx(2 * np.exp(-5 * 0.25), rel=1e-5)
  assert ask('mean_teacher', views_of(), ramp_up_steps=10, step=99)[0]['unlabeled'].weight == 1


def test_pseudo_label_and_entropy_by_hand():
  terms, metrics, _ = ask('pseudo_label', views_of(), threshold=0.95)
  expected = -(np.log(0.5) + np.log(0.2)) / 4
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(expected, rel=1e-5)
  assert (terms['unlabeled'].images == jnp.float32(0.1)).all()
  assert metrics['mask_rate'] == pytest.approx(0.5)
  terms, _, asked = ask('entropy', views_of(), weight=0.3)
  probs = np.exp(STUDENT)
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(
    float(-(probs * np.log(probs)).sum(-1).mean()), rel=1e-5
  )
  assert terms['unlabeled'].weight == pytest.approx(0.3)
  assert not asked


def test_uda_by_hand():
  probs, target = np.exp(STUDENT), np.asarray(TEACHER)
  each = (target * (np.log(target) - np.log(probs))).sum(-1)
  terms, _, _ = ask('uda', views_of())
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(float(each.mean()), rel=1e-5)
  terms, metrics, _ = ask('uda', views_of(), threshold=0.95)  # strictly above, unlike FixMatch
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(float(each[0, 0, 0] / 4), rel=1e-5)
  assert metrics['mask_rate'] == pytest.approx(0.25)
  sharp = target**2 / (target**2).sum(-1, keepdims=True)
  each = (sharp * (np.log(sharp) - np.log(probs))).sum(-1)
  terms, _, _ = ask('uda', views_of(), temperature=0.5)
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(float(each.mean()), rel=1e-5)
  with pytest.raises(UserError, match='neither'):
    ask('uda', views_of(), divergence='js')


def test_uda_with_mutual_information():
  terms, _, _ = ask('uda', views_of(), divergence='iid', marginal=1.5)
  valid = jnp.ones((2, 1, 2), bool)
  expected = losses.mutual_information(TEACHER, jax.nn.softmax(STUDENT), valid, 0, 1.5)
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize('name', ['uda', 'iic'])
def test_mutual_information_is_of_warped_probabilities_not_of_warped_logits(name):
  # The strong view lies half a pixel to the right, so that each pixel is the mean of two.
  shifted = jnp.broadcast_to(jnp.array([[1.0, 0, 0], [0, 1, 0.5]]), (2, 2, 3))
  views = views_of()
  views['strong'] = views['strong'].replace(geometry=shifted)
  probs, strong_probs = jax.nn.softmax(STUDENT), np.asarray(jax.nn.softmax(STUDENT))
  # Pixel 0 of the weak view is at -0.5 of the strong one, where its border pixel is repeated;
  # pixel 1 is at 0.5, halfway between the two.
  warped = np.stack([strong_probs[:, :, 0], strong_probs.mean(2)], 2)
  valid = jnp.ones((2, 1, 2), bool)
  if name == 'uda':
    loss = ask('uda', views, divergence='iid')[0]['unlabeled'].loss(STUDENT)
    expected = losses.mutual_information(TEACHER, jnp.asarray(warped), valid)
  else:
    logits = parallel.interleave([STUDENT, STUDENT])
    loss = ask('iic', views, radius=0)[0]['unlabeled'].loss({'class': logits})
    expected = losses.mutual_information(probs, jnp.asarray(warped), valid)
  assert loss == pytest.approx(float(expected), rel=1e-5)


def test_uda_compares_where_the_weak_view_is():
  """The strong view is mirrored, its prediction mirrored back; pixels it lacks do not count."""
  mirrored = jnp.broadcast_to(jnp.array([[1.0, 0, 0], [0, -1, 1]]), (2, 2, 3))
  seen = np.array([[[True, False]], [[True, True]]])
  views = views_of(valid=seen)
  views['strong'] = views['strong'].replace(geometry=mirrored)
  terms, _, _ = ask('uda', views)
  probs, target = np.exp(STUDENT)[:, :, ::-1], np.asarray(TEACHER)
  each = (target * (np.log(target) - np.log(probs))).sum(-1)
  expected = each[seen[:, :, ::-1]].mean()
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(float(expected), rel=1e-4)


def test_iic_is_blind_to_a_turn_and_to_the_order_of_clusters():
  mirrored = jnp.broadcast_to(jnp.array([[1.0, 0, 0], [0, -1, 1]]), (2, 2, 3))
  views = views_of()
  views['strong'] = views['strong'].replace(geometry=mirrored)
  term = ask('iic', views, radius=0, over='over')[0]['unlabeled']
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
