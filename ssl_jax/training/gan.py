"""A GAN: a generator learns to make images that an ensemble of discriminators takes for real ones.

It is another Learner for the same loop: its `update` makes the views, updates the discriminators,
then the generator, and then the moving average of the generator, from which images are sampled.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float

from ssl_jax.errors import UserError
from ssl_jax.training.learner import warmed_up_decay
from ssl_jax.types import (
  AS_IS,
  Key,
  Learner,
  Metrics,
  Normalization,
  TrainState,
  Variables,
)
from ssl_jax.views import make_views

Logits = Float[Array, 'members b']
"""What each discriminator says of each image: positive for real, negative for fake."""

Discriminate = Callable[[Float[Array, '*members b side side c']], Logits]
"""Images, the same for all members or each member's own -> logits."""


class Game(NamedTuple):
  """The losses of discriminators and generator, and what bounds the discriminators' slope."""

  discriminator: Callable[[Logits, Logits], Array]  # of real, of fake images -> loss
  generator: Callable[[Logits], Array]  # of fake images -> loss
  penalty: bool = False  # of the gradient between real and fake images
  clipped: bool = False  # the discriminators' weights


def _wasserstein(real: Logits, fake: Logits) -> Array:
  # The negative of the critic's estimate of the Wasserstein distance, which it maximizes.
  return fake.mean() - real.mean()


def _wasserstein_generator(fake: Logits) -> Array:
  return -fake.mean()


def _cross_entropy(real: Logits, fake: Logits) -> Array:
  # softplus(-l) = -log sigmoid(l): the cross-entropy of a logit, without overflow.
  return jax.nn.softplus(-real).mean() + jax.nn.softplus(fake).mean()


def _non_saturating_generator(fake: Logits) -> Array:
  # -log D(fake) instead of log(1 - D(fake)), whose gradient vanishes while the discriminator wins.
  return jax.nn.softplus(-fake).mean()


GAMES = {
  'wasserstein': Game(_wasserstein, _wasserstein_generator, clipped=True),
  'wasserstein-gp': Game(_wasserstein, _wasserstein_generator, penalty=True),
  'non-saturating': Game(_cross_entropy, _non_saturating_generator),
  'non-saturating-gp': Game(_cross_entropy, _non_saturating_generator, penalty=True),
}
"""Arjovsky et al. 2017; Gulrajani et al. 2017; Goodfellow et al. 2014; Fedus et al. 2018."""


def input_gradients(
  discriminate: Discriminate, images: Float[Array, 'b side side c']
) -> Float[Array, 'members b side side c']:
  """Returns the gradient of each member's logit of each image by the pixels of that image."""
  members = jax.eval_shape(discriminate, images).shape[0]
  # A copy of the images for each member, so that one pass gives the gradients of all.
  copies = jnp.broadcast_to(images, (members, *images.shape))
  # The sum's gradient is that of each logit, because no logit depends on another image: there is no
  # batch normalization in a discriminator.
  return jax.grad(lambda copies: discriminate(copies).sum())(copies)


def gradient_penalty(
  discriminate: Discriminate,
  real: Float[Array, 'b side side c'],
  fake: Float[Array, 'b side side c'],
  key: Key,
) -> Array:
  """Returns the mean of (|gradient| - 1)^2 on images drawn between real and fake ones.

  Gulrajani et al. 2017, "Improved Training of Wasserstein GANs" (arXiv:1704.00028).
  """
  # One position on the line between a real and a fake image for each pair.
  fraction = jax.random.uniform(key, (len(real), 1, 1, 1))
  gradients = input_gradients(discriminate, fraction * real + (1 - fraction) * fake)
  # The square root has an infinite slope at 0, which would make NaN of a zero gradient.
  length = jnp.sqrt((gradients**2).sum((2, 3, 4)) + 1e-12)
  return ((length - 1) ** 2).mean()


def r1(discriminate: Discriminate, real: Float[Array, 'b side side c']) -> Array:
  """Returns half the mean squared gradient on real images.

  Mescheder et al. 2018, "Which Training Methods for GANs do actually Converge?" (arXiv:1801.04406).
  """
  return (input_gradients(discriminate, real) ** 2).sum((2, 3, 4)).mean() / 2


def make_gan(
  generator: nn.Module,
  discriminators: nn.Module,
  recipes: Mapping[str, Mapping],
  size: tuple[int, ...],
  generator_optimizer: optax.GradientTransformation,
  discriminator_optimizer: optax.GradientTransformation,
  *,
  latent: int = 128,
  loss: str = 'non-saturating-gp',
  penalty: float | int = 10.0,
  r1_weight: float | int = 0.0,
  clip: float | int = 0.01,
  critics: int = 1,
  ema_decay: float = 0.999,
  normalization: Normalization = AS_IS,
) -> Learner:
  """Returns a learner whose `predict(state, z)` makes images of normal vectors [B, latent].

  Args:
    generator: vectors [B, latent] -> images in (0, 1).
    discriminators: standardized images -> logits [members, B].
    recipes: how the view 'real' is made of a batch, see `make_views`.
    size: sides of the images in pixels.
    generator_optimizer: of the generator.
    discriminator_optimizer: of the discriminators.
    latent: length of the normal vectors.
    loss: one of GAMES.
    penalty: weight of the gradient penalty, in the games that have one.
    r1_weight: weight of R1, in every game; 0 leaves it out.
    clip: bound of the discriminators' weights, in the game that clips them.
    critics: updates of the discriminators for each one of the generator.
    ema_decay: decay of the moving average of the generator.
    normalization: what images in [0, 1] are standardized by for the discriminators, real and
      generated ones alike. With it the penalty's gradient of norm 1 is in units of the images'
      standard deviation. In units of [0, 1] it would be too small to tell the textures of
      low-contrast images apart.

  Raises:
    UserError: if `loss` is unknown, or a number is out of its range.
  """
  if loss not in GAMES:
    raise UserError(f'gan.loss={loss!r} is not one of {", ".join(GAMES)}.')
  game = GAMES[loss]
  # All ranges are checked together: the sentence below names every bound.
  if min(latent, critics) < 1 or min(penalty, r1_weight) < 0 or (game.clipped and clip <= 0):
    raise UserError(
      f'gan: latent={latent} and critics={critics} must be at least 1, penalty={penalty} and '
      f'r1_weight={r1_weight} at least 0, and clip={clip} above 0 where weights are clipped.'
    )

  def init(key: Key, images: Array, normalization: Normalization) -> TrainState:
    g_key, d_key = jax.random.split(key)
    z = jnp.zeros((1, latent))
    # The values of the inputs do not matter here, only their shapes do.
    g_params = generator.init({'params': g_key, 'noise': g_key}, z)['params']
    d_params = discriminators.init(d_key, images[:1])['params']
    student = {'params': {'generator': g_params, 'discriminators': d_params}}
    opt_state = generator_optimizer.init(g_params), discriminator_optimizer.init(d_params)
    # A copy: an update donates all buffers of the state, so none may be in it twice.
    ema = {'params': jax.tree.map(jnp.copy, g_params)}
    return TrainState(jnp.zeros((), jnp.int32), student, ema, opt_state, normalization)

  def generate(g_params: Variables, key: Key, count: int) -> Array:
    # One key for the latent vectors, another for the noise inside the generator.
    z_key, noise_key = jax.random.split(key)
    z = jax.random.normal(z_key, (count, latent))
    return sample(g_params, z, noise_key)

  def sample(g_params: Variables, z: Array, noise_key: Key) -> Array:
    images: Any = generator.apply({'params': g_params}, z, rngs={'noise': noise_key})
    return images

  def discriminate_with(d_params: Variables) -> Discriminate:
    def discriminate(images: Array) -> Array:
      logits: Any = discriminators.apply({'params': d_params}, images)
      return logits

    return discriminate

  def update_discriminators(
    d_params: Variables, opt_state: Any, real: Array, fake: Array, key: Key
  ) -> tuple[Variables, Any, dict[str, Array]]:
    def loss_fn(d_params: Variables) -> tuple[Array, dict[str, Array]]:
      discriminate = discriminate_with(d_params)
      real_logits, fake_logits = discriminate(real), discriminate(fake)
      total = game.discriminator(real_logits, fake_logits)
      figures = {'loss/discriminators': total}
      if game.penalty and penalty:
        # Logged without its weight, so that runs of different weights can be compared.
        figures['penalty'] = gradient_penalty(discriminate, real, fake, key)
        total += penalty * figures['penalty']
      if r1_weight:
        figures['r1'] = r1(discriminate, real)
        total += r1_weight * figures['r1']
      # 0.5: the generator deceives the discriminators; 1: they recognize all its images.
      figures['d_accuracy'] = ((real_logits > 0).mean() + (fake_logits < 0).mean()) / 2
      return total, figures

    grads, figures = jax.grad(loss_fn, has_aux=True)(d_params)
    updates, opt_state = discriminator_optimizer.update(grads, opt_state, d_params)
    updated: Any = optax.apply_updates(d_params, updates)
    if game.clipped:
      # Bounded weights bound the slope, as the Wasserstein game demands (Arjovsky et al. 2017).
      updated = jax.tree.map(lambda x: jnp.clip(x, -clip, clip), updated)
    return updated, opt_state, figures

  def update(state: TrainState, batch: Any, key: Key) -> tuple[TrainState, Metrics]:
    # Keys follow from the step, so that a resumed run repeats the uninterrupted one.
    key = jax.random.fold_in(key, state.step)
    view_key, g_key, *d_keys = jax.random.split(key, 2 + critics)
    standardize = state.normalization.standardize
    real = standardize(make_views.make_views(recipes, batch, size, view_key)['real'].image)
    params = state.student['params']
    g_params, d_params = params['generator'], params['discriminators']
    opt_states: Any = state.opt_state
    g_state, d_state = opt_states
    figures = {}
    # All rounds see the same real images, each with new fake ones; the figures are of the last.
    for d_key in d_keys:
      # The generator runs outside of the discriminators' loss: its images are constants in it.
      fake_key, between_key = jax.random.split(d_key)
      fake = standardize(generate(g_params, fake_key, len(real)))
      d_params, d_state, figures = update_discriminators(d_params, d_state, real, fake, between_key)

    def loss_fn(g_params: Variables) -> Array:
      # Gradients pass through the discriminators, whose weights are constants here.
      fake = standardize(generate(g_params, g_key, len(real)))
      return game.generator(discriminate_with(d_params)(fake))

    value, grads = jax.value_and_grad(loss_fn)(g_params)
    updates, g_state = generator_optimizer.update(grads, g_state, g_params)
    g_params = optax.apply_updates(g_params, updates)
    # Images are sampled from the average, because the weights of a GAN oscillate around it.
    rate = 1 - warmed_up_decay(state.step, ema_decay)
    ema = {'params': optax.incremental_update(g_params, ema_params(state), rate)}
    student = {'params': {'generator': g_params, 'discriminators': d_params}}
    figures |= {'loss': value, 'loss/generator': value, 'grad_norm': optax.tree.norm(grads)}
    opt_state = g_state, d_state
    after = state.replace(step=state.step + 1, student=student, ema=ema, opt_state=opt_state)
    return after, figures

  def ema_params(state: TrainState) -> Any:
    return (state.ema or {})['params']  # `init` always makes one

  def predict(state: TrainState, z: Array) -> Array:
    # A fixed key: the same vectors give the same images.
    return sample(ema_params(state), z, jax.random.key(0))

  return Learner(init, update, predict, normalization=normalization)
