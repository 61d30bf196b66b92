"""Computing activations anew in the backward pass: equal updates, and less that is kept."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from ssl_jax import registry
from ssl_jax.models import layers
from ssl_jax.training import learner

pytestmark = pytest.mark.gpu

SIZE = (16, 16)


class Small(nn.Module):
  """Convolutions with all that lies between them in our networks."""

  @nn.compact
  def __call__(self, x, train=False):
    x = layers.ConvNormAct(4)(x, train)
    x = nn.Dropout(0.5, deterministic=not train)(layers.max_pool2(x))
    x = layers.UpConv2(4)(layers.ConvNormAct(8, norm='instance')(x, train))
    return layers.Conv(3, 1, name='head')(x)


def test_updates_are_equal():
  rng = np.random.default_rng(0)
  batch = {
    'labeled': {
      'image': rng.integers(0, 256, (4, *SIZE, 3), np.uint8),
      'extent': np.full((4, 2), 16, np.int32),
      'label': rng.integers(0, 3, (4, *SIZE)).astype(np.uint8),
    }
  }
  views = {'labeled': {'source': 'labeled'}}
  after = []
  for remat in (False, True):
    methods = {'supervised': registry.build('methods', 'supervised', {})}
    made = learner.make_learner(Small(), methods, views, SIZE, optax.sgd(0.1), remat=remat)
    state = made.init(jax.random.key(0), jnp.zeros((1, *SIZE, 3)), made.normalization)
    after.append(jax.jit(made.update)(state, batch, jax.random.key(1)))
  (state, figures), (state_again, figures_again) = after
  chex.assert_trees_all_close(state.student, state_again.student, rtol=1e-5, atol=1e-7)
  chex.assert_trees_all_close(figures, figures_again, rtol=1e-5)


def test_less_is_kept_for_the_backward_pass():
  """Less than half, and what is kept are results of convolutions: none is computed twice."""
  network = registry.build('models', 'unet', {'widths': (8, 16)}, num_classes=3)
  images = jax.ShapeDtypeStruct((2, 32, 32, 3), 'float32')
  variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), images)

  def kept(policy):
    def backward(variables, images):
      def apply(params, images):
        given = {**variables, 'params': params}
        return network.apply(given, images, train=True, mutable=['batch_stats'])[0]

      shown = jax.checkpoint(apply, policy=policy) if policy else apply
      return jax.vjp(shown, variables['params'], images)[1]

    arrays = jax.tree.leaves(jax.eval_shape(backward, variables, images))
    return sum(array.size * array.dtype.itemsize for array in arrays)

  assert kept(learner._is_kept) < 0.5 * kept(None)
