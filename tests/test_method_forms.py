"""What every method has to be: named terms, finite losses, a control."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from views_by_hand import STUDENT, ask, view_of, views_of

from ssl_jax import registry
from ssl_jax.errors import UserError
from ssl_jax.types import MASKS

OF_MASKS = [
  n
  for n in registry.known('methods')
  if MASKS in getattr(registry.find('methods', n), 'TASKS', [MASKS])
]


@pytest.mark.parametrize('name', OF_MASKS)
def test_every_method_asks_named_terms_with_finite_losses(name):
  views = views_of() | {'weak2': view_of(value=0.2), 'strong2': view_of(value=0.8)}
  terms, metrics, _ = ask(name, views)
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
  views = views_of() | {'weak2': view_of(value=0.2), 'strong2': view_of(value=0.8)}
  terms, _, _ = ask(name, views)
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
  views = views_of() | {'weak2': view_of(value=0.2)}
  views['labeled'] = views['weak']
  with pytest.raises(UserError, match='stream without labels'):
    ask(name, views)
