"""GANs: losses and penalties by hand on linear discriminators; the networks and their samples."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from ssl_jax.errors import UserError
from ssl_jax.models import discriminator, generator, prominence_unet
from ssl_jax.settings import Settings
from ssl_jax.stages.learning import gan_samples
from ssl_jax.training import gan
from ssl_jax.types import Normalization

KEY = jax.random.key(0)


def _images(seed, count=3):
  return jnp.asarray(np.random.default_rng(seed).uniform(size=(count, 4, 4, 1)), jnp.float32)


WEIGHTS = jnp.asarray(np.random.default_rng(9).normal(size=(2, 4, 4, 1)), jnp.float32)


def linear(images):
  """Two members, each a fixed weight for each pixel."""
  return jnp.einsum('mijc,bijc->mb' if images.ndim == 4 else 'mijc,mbijc->mb', WEIGHTS, images)


REAL = jnp.array([[1.0, -2.0], [0.5, 0.0]])
FAKE = jnp.array([[0.0, 3.0], [-1.0, 2.0]])


def _softplus(x):
  return np.log1p(np.exp(x))


def test_losses_by_hand():
  for name in ('wasserstein', 'wasserstein-gp'):
    assert gan.GAMES[name].discriminator(REAL, FAKE) == pytest.approx(1.0 - (-0.125))
    assert gan.GAMES[name].generator(FAKE) == pytest.approx(-1.0)
  real = np.mean([_softplus(-v) for v in (1.0, -2.0, 0.5, 0.0)])
  fake = np.mean([_softplus(v) for v in (0.0, 3.0, -1.0, 2.0)])
  believed = np.mean([_softplus(-v) for v in (0.0, 3.0, -1.0, 2.0)])
  for name in ('non-saturating', 'non-saturating-gp'):
    assert gan.GAMES[name].discriminator(REAL, FAKE) == pytest.approx(real + fake, rel=1e-6)
    assert gan.GAMES[name].generator(FAKE) == pytest.approx(believed, rel=1e-6)
  assert [name for name, game in gan.GAMES.items() if game.clipped] == ['wasserstein']
  assert [n for n, g in gan.GAMES.items() if g.penalty] == ['wasserstein-gp', 'non-saturating-gp']


def test_the_input_gradient_of_a_linear_discriminator_is_its_weights():
  gradients = gan.input_gradients(linear, _images(0))
  np.testing.assert_allclose(
    gradients, jnp.broadcast_to(WEIGHTS[:, None], (2, 3, 4, 4, 1)), rtol=1e-5
  )


def test_penalties_by_hand():
  lengths = np.sqrt((np.asarray(WEIGHTS) ** 2).sum((1, 2, 3)))
  penalty = gan.gradient_penalty(linear, _images(0), _images(1), KEY)
  assert penalty == pytest.approx(((lengths - 1) ** 2).mean(), rel=1e-5)
  assert gan.r1(linear, _images(0)) == pytest.approx((lengths**2).mean() / 2, rel=1e-5)


def test_the_penalty_looks_between_real_and_fake():
  """The gradient is twice the image: on the way from 0 to 1 it is twice the fraction."""

  def discriminate(images):
    return (images**2).sum((-3, -2, -1)).reshape(1, -1)

  real, fake = jnp.ones((64, 4, 4, 1)), jnp.zeros((64, 4, 4, 1))
  fraction = np.asarray(jax.random.uniform(KEY, (64, 1, 1, 1))).ravel()
  expected = ((2 * fraction * 4 - 1) ** 2).mean()
  assert gan.gradient_penalty(discriminate, real, fake, KEY) == pytest.approx(expected, rel=1e-4)


def test_a_discriminator_without_gradient_gives_no_nan():
  def penalty(scale):
    return gan.gradient_penalty(lambda x: scale * linear(x), _images(0), _images(1), KEY)

  assert penalty(0.0) == pytest.approx(1, abs=1e-5)
  assert np.isfinite(jax.grad(penalty)(0.0))


class OneNumber(nn.Module):
  """One number for all pixels of all images."""

  @nn.compact
  def __call__(self, z):
    value = self.param('value', nn.initializers.constant(0.2), ())
    return jnp.full((len(z), 4, 4, 1), 1.0) * value


class Linear(nn.Module):
  """Linear in the mean of an image."""

  @nn.compact
  def __call__(self, x):
    slope = self.param('slope', nn.initializers.constant(0.5), (2,))
    return slope[:, None] * x.mean((-3, -2, -1))


RECIPES = {'real': {'source': 'unlabeled'}}


def _batch(value=0.8, count=4):
  image = np.full((count, 4, 4, 1), value, np.float32)
  return {'unlabeled': {'image': image, 'extent': np.full((count, 2), 4, np.int32)}}


def _learner(**kwargs):
  sgd = optax.sgd(0.1)
  return gan.make_gan(OneNumber(), Linear(), RECIPES, (4, 4), sgd, sgd, latent=2, **kwargs)


def _step(learner, state=None):
  state = state or learner.init(KEY, jnp.zeros((1, 4, 4, 1)), learner.normalization)
  return jax.jit(learner.update)(state, _batch(), KEY)


@pytest.mark.parametrize('critics', [1, 3])
def test_one_update_by_hand(critics):
  """Wasserstein: each slope grows by lr (real - fake) / 2, the generator follows their mean."""
  learner = _learner(loss='wasserstein', clip=10.0, critics=critics, ema_decay=0.0)
  state, figures = _step(learner)
  slope = 0.5 + critics * 0.1 * (0.8 - 0.2) / 2
  params = state.student['params']
  np.testing.assert_allclose(params['discriminators']['slope'], [slope] * 2, rtol=1e-5)
  assert params['generator']['value'] == pytest.approx(0.2 + 0.1 * slope, rel=1e-5)
  assert state.ema['params']['value'] == params['generator']['value']
  assert figures['loss'] == pytest.approx(-slope * 0.2, rel=1e-5)
  assert state.step == 1


def test_discriminators_see_standardized_images_and_the_generator_makes_plain_ones():
  learner = _learner(
    loss='wasserstein', clip=10.0, normalization=Normalization(jnp.full(1, 0.5), jnp.full(1, 0.25))
  )
  state, _ = _step(learner)
  slope = 0.5 + 0.1 * (0.8 - 0.2) / 0.25 / 2
  params = state.student['params']
  np.testing.assert_allclose(params['discriminators']['slope'], [slope] * 2, rtol=1e-5)
  assert params['generator']['value'] == pytest.approx(0.2 + 0.1 * slope / 0.25, rel=1e-5)
  images = learner.predict(state, jnp.zeros((1, 2)))
  np.testing.assert_allclose(images, state.ema['params']['value'], rtol=1e-6)


def test_weights_are_clipped_in_the_first_game_only():
  state, _ = _step(_learner(loss='wasserstein', clip=0.01))
  np.testing.assert_allclose(state.student['params']['discriminators']['slope'], [0.01] * 2)
  state, _ = _step(_learner(loss='wasserstein-gp'))
  assert (state.student['params']['discriminators']['slope'] > 0.4).all()


def test_the_penalty_and_r1_move_the_discriminators():
  # The slope by one pixel is slope / 16, its length 4 / 16 of the slope.
  length = 0.5 / 4
  pull = 2 * (length - 1) / 4 / 2  # by each member's slope, mean over members
  state, figures = _step(_learner(loss='wasserstein-gp', penalty=2.0))
  assert figures['penalty'] == pytest.approx((length - 1) ** 2, rel=1e-4)
  expected = 0.5 + 0.1 * ((0.8 - 0.2) / 2 - 2 * pull)
  np.testing.assert_allclose(
    state.student['params']['discriminators']['slope'], [expected] * 2, rtol=1e-4
  )
  state, figures = _step(_learner(loss='wasserstein', clip=10.0, r1_weight=4.0))
  assert figures['r1'] == pytest.approx(length**2 / 2, rel=1e-4)
  expected = 0.5 + 0.1 * ((0.8 - 0.2) / 2 - 4 * length / 4 / 2)
  np.testing.assert_allclose(
    state.student['params']['discriminators']['slope'], [expected] * 2, rtol=1e-4
  )


def test_an_unknown_game_is_refused():
  with pytest.raises(UserError, match='wasserstein-gp, non-saturating'):
    _learner(loss='poker')


def test_real_networks_train_and_the_moving_average_makes_images():
  networks = generator.Generator(1, widths=(4,)), discriminator.Ensemble(2, widths=(4,))
  adam = optax.adam(1e-3)
  learner = gan.make_gan(*networks, RECIPES, (8, 8), adam, adam, latent=4, ema_decay=0.5)
  state = learner.init(KEY, jnp.zeros((1, 8, 8, 1)), learner.normalization)
  image = np.random.default_rng(0).uniform(size=(4, 8, 8, 1)).astype(np.float32)
  batch = {'unlabeled': {'image': image, 'extent': np.full((4, 2), 16, np.int32)}}
  update = jax.jit(learner.update)
  for _ in range(2):
    before = state
    state, figures = update(state, batch, KEY)
    chex.assert_tree_all_finite(figures)
    assert 0 <= figures['d_accuracy'] <= 1
  changed = jax.tree.map(
    lambda a, b: not np.array_equal(a, b), before.student['params'], state.student['params']
  )
  assert all(jax.tree.leaves(changed))
  images = jax.jit(learner.predict)(state, jax.random.normal(KEY, (3, 4)))
  chex.assert_shape(images, (3, 8, 8, 1))
  assert 0 <= images.min() < images.max() <= 1


def test_members_of_the_ensemble_begin_differently():
  several = discriminator.Ensemble(3, widths=(4, 8))
  x = jax.random.uniform(KEY, (2, 16, 16, 1))
  variables = several.init(KEY, x)
  logits = several.apply(variables, x)
  chex.assert_shape(logits, (3, 2))
  assert len(set(np.asarray(logits).ravel().tolist())) == 6


def test_a_discriminator_sees_each_image_alone_and_at_every_scale():
  network = discriminator.Discriminator(widths=(4, 8))
  x = jax.random.uniform(KEY, (2, 16, 16, 1))
  variables = network.init(KEY, x)
  logits = network.apply(variables, x)
  np.testing.assert_allclose(network.apply(variables, x[:1])[0], logits[0], rtol=1e-5)
  params = variables['params']
  assert params['near0']['kernel'].shape == (3, 3, 1, 2)
  assert params['near1']['kernel'].shape == (3, 3, 4 + 1, 4)  # features and a copy of the image
  assert params['verdict']['kernel'].shape == (4 * 4 * (8 + 1), 1)
  means = discriminator.halve(jnp.arange(16.0).reshape(1, 4, 4, 1))
  np.testing.assert_allclose(means[0, :, :, 0], [[2.5, 4.5], [10.5, 12.5]])


def test_the_generator_blurs_and_adds_noise():
  x = jnp.zeros((1, 5, 5, 1)).at[0, 2, 2, 0].set(16.0)
  expected = np.outer([0, 1, 2, 1, 0], [0, 1, 2, 1, 0])
  np.testing.assert_allclose(generator.blur(x)[0, :, :, 0], expected)
  np.testing.assert_allclose(generator.blur(jnp.ones((1, 4, 4, 2))), 1)  # the edge goes on
  noise = generator.AdaptiveNoise()
  variables = {'params': {'strength': jnp.array([0.0, 2.0])}}
  made = noise.apply(variables, jnp.zeros((1, 64, 64, 2)), rngs={'noise': KEY})
  assert (made[..., 0] == 0).all()
  assert made[..., 1].std() == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize('side', [64, 50])
def test_the_unet_sees_the_image_again_and_keeps_the_size(side):
  model = prominence_unet.Model(2, widths=(4, 8), stem=4)
  x = jax.random.uniform(KEY, (2, side, side, 1))
  variables = model.init(KEY, x)
  logits = model.apply(variables, x)
  assert logits.shape == (2, side, side, 2)
  params = variables['params']
  assert params['down0_1']['kernel'].shape == (3, 3, 4 + 1, 4)  # the image again
  assert params['down1_1']['kernel'].shape == (3, 3, 4, 8)
  assert params['up1_1']['kernel'].shape == (3, 3, 8 + 8, 8)
  assert params['grow1']['kernel'].shape == (2, 2, 8 + 8, 8)  # the same skip again
  assert params['out_2']['kernel'].shape == (3, 3, 4 + 1, 4)
  assert set(variables['batch_stats']) == {
    *(f'{way}{level}_{i}_norm' for way in ('down', 'up') for level in (0, 1) for i in (1, 2)),
    *(f'{name}{level}_norm' for name in ('grow',) for level in (0, 1)),
    *(f'down{level}_stride_norm' for level in (0, 1)),
  }


def test_variety_is_how_much_images_differ_by_hand():
  same = np.ones((4, 2, 2, 1))
  assert gan_samples.variety(same) == 0
  other = same.copy()
  other[:2, 0, 0] = 0  # one of four pixels is 0, 0, 1, 1: a deviation of a half
  assert gan_samples.variety(other) == pytest.approx(0.5 / 4)


def test_a_page_without_a_game_is_refused():
  with pytest.raises(UserError, match=r'stages\.game needs config\.gan'):
    gan_samples.game_of(Settings(), 'stages.game')
