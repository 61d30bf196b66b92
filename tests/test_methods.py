"""Every method: its terms by hand on views made by hand, and what a method must be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax import find
from ssl_jax.types import IGNORE, Mix, View

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


def _ask(name, views, step=0, **knobs):
  shown = []

  def teacher(images):
    shown.append(images)
    return TEACHER

  terms, metrics = find.build('methods', name, knobs)(teacher, views, KEY, step)
  return terms, metrics, shown


def test_supervised_by_hand():
  terms, _, shown = _ask('supervised', _views(), weight=0.5)
  term = terms['labeled']
  assert term.loss(STUDENT) == pytest.approx(-np.log([0.5, 0.1, 0.2]).mean(), rel=1e-5)
  assert term.weight == 0.5
  assert not shown  # nobody needs a teacher to learn from labels


def test_fixmatch_by_hand():
  terms, metrics, shown = _ask('fixmatch', _views(), threshold=0.95)
  term = terms['unlabeled']
  # Sure: 0.97 for class 0 and exactly 0.95 for class 1; the mean is over all four pixels.
  assert term.loss(STUDENT) == pytest.approx(-(np.log(0.5) + np.log(0.2)) / 4, rel=1e-5)
  assert metrics['trusted'] == pytest.approx(0.5)
  assert (term.images == 0.9).all()
  assert (shown[0] == jnp.float32(0.1)).all()


def test_fixmatch_leaves_out_what_padding_and_cutout_made():
  views = _views(valid=[[[True, True]], [[False, True]]])
  terms, metrics, _ = _ask('fixmatch', views, threshold=0.95)
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(-np.log(0.5) / 3, rel=1e-5)
  assert metrics['trusted'] == pytest.approx(1 / 3)


def test_fixmatch_over_all_pixels_learns_from_padding_but_not_from_cutout():
  weak = _view(valid=[[[True, True]], [[False, True]]], value=0.1)
  strong = _view(valid=[[[False, True]], [[False, True]]], value=0.9)  # a cut-out at the first
  terms, metrics, _ = _ask('fixmatch', {'weak': weak, 'strong': strong}, all_pixels=True)
  # Sure: the first pixel, cut out, and the third, which is padding; the mean is over all four.
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(-np.log(0.2) / 4, rel=1e-5)
  assert metrics['trusted'] == pytest.approx(0.25)


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
  # The first pixel of image 0 now shows image 1, of which the teacher said class 1.
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(
    -(np.log(0.5) + np.log(0.2)) / 4, rel=1e-5
  )
  views = _views(mix=Mix(jnp.array([1, 0]), jnp.array([[[False, True]], [[True, False]]])))
  terms, metrics, _ = _ask('fixmatch', views, threshold=0.95)
  # Image 1's first pixel now shows image 0's sure class 0; image 0's second shows an unsure one.
  assert metrics['trusted'] == pytest.approx(0.5)
  assert terms['unlabeled'].loss(STUDENT) == pytest.approx(
    -(np.log(0.5) + np.log(0.8)) / 4, rel=1e-5
  )


def test_fixmatch_may_ramp_its_weight():
  weights = [_ask('fixmatch', _views(), weight=2.0, ramp=10, step=step)[0]['unlabeled'].weight
             for step in (0, 5, 10, 99)]  # fmt: skip
  assert weights == pytest.approx([2 * np.exp(-5), 2 * np.exp(-1.25), 2, 2], rel=1e-5)


def test_mean_teacher_by_hand():
  terms, _, _ = _ask('mean_teacher', _views(), weight=2.0, ramp=10, step=5)
  term = terms['unlabeled']
  expected = ((np.exp(STUDENT) - TEACHER) ** 2).mean()
  assert term.loss(STUDENT) == pytest.approx(float(expected), rel=1e-5)
  assert term.weight == pytest.approx(2 * np.exp(-5 * 0.25), rel=1e-5)
  assert _ask('mean_teacher', _views(), ramp=10, step=99)[0]['unlabeled'].weight == 1


@pytest.mark.parametrize('name', find.known('methods'))
def test_every_method_asks_named_terms_with_finite_losses(name):
  terms, metrics, _ = _ask(name, _views())
  assert terms
  for term in terms.values():
    assert np.isfinite(term.loss(STUDENT))
    assert np.isfinite(term.weight)
  assert all(np.isfinite(value) for value in metrics.values())
