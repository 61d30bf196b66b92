"""A generator learns to paint images that no discriminator of an ensemble can tell from real ones.

It is another Learner for the same loop: its `update` makes the views, teaches the discriminators,
then the generator, and moves the generator's average, which is what is sampled.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float

from ssl_jax.errors import UserError
from ssl_jax.training.learner import ema_decay
from ssl_jax.types import Key, Learner, Metrics, TrainState
from ssl_jax.views import make_views

Verdicts = Float[Array, 'members b']
Judge = Callable[[Float[Array, '*members b side side c']], Verdicts]
"""Images, the same for all members or each member's own -> what each says of each."""


class Game(NamedTuple):
  """How discriminators and generator are scored, and how far weights may go (0: anywhere)."""

  discriminator: Callable[[Verdicts, Verdicts], Array]  # real, fake -> loss
  generator: Callable[[Verdicts], Array]  # fake -> loss
  penalty: bool = False  # of the gradient between real and fake
  clipped: bool = False


def _wasserstein(real: Verdicts, fake: Verdicts) -> Array:
  return fake.mean() - real.mean()


def _saturating_not(real: Verdicts, fake: Verdicts) -> Array:
  return jax.nn.softplus(-real).mean() + jax.nn.softplus(fake).mean()


def _believed(fake: Verdicts) -> Array:
  return jax.nn.softplus(-fake).mean()


GAMES = {
  'wasserstein': Game(_wasserstein, lambda fake: -fake.mean(), clipped=True),
  'wasserstein-gp': Game(_wasserstein, lambda fake: -fake.mean(), penalty=True),
  'non-saturating': Game(_saturating_not, _believed),
  'non-saturating-gp': Game(_saturating_not, _believed, penalty=True),
}
"""Arjovsky et al. 2017; Gulrajani et al. 2017; Goodfellow et al. 2014; Fedus et al. 2018."""


def slopes(
  judge: Judge, images: Float[Array, 'b side side c']
) -> Float[Array, 'members b side side c']:
  """The gradient of each member's verdict on each image by that image's pixels."""
  members = jax.eval_shape(judge, images).shape[0]
  own = jnp.broadcast_to(images, (members, *images.shape))  # so that one pass serves all members
  return jax.grad(lambda each: judge(each).sum())(own)


def gradient_penalty(judge: Judge, real: Array, fake: Array, key: Key) -> Array:
  """Mean of (|gradient| - 1)^2 on images drawn between real and fake (Gulrajani et al. 2017)."""
  share = jax.random.uniform(key, (len(real), 1, 1, 1))
  found = slopes(judge, share * real + (1 - share) * fake)
  length = jnp.sqrt((found**2).sum((2, 3, 4)) + 1e-12)  # no slope has a gradient of its own
  return ((length - 1) ** 2).mean()


def r1(judge: Judge, real: Array) -> Array:
  """Half the mean squared gradient on real images (Mescheder et al. 2018)."""
  return (slopes(judge, real) ** 2).sum((2, 3, 4)).mean() / 2


def make_gan(
  generator: nn.Module,
  discriminators: nn.Module,
  recipes: Mapping[str, Mapping],
  size: tuple[int, ...],
  optimizers: tuple[optax.GradientTransformation, optax.GradientTransformation],
  *,
  latent: int = 128,
  loss: str = 'non-saturating-gp',
  penalty: float | int = 10.0,
  r1_weight: float | int = 0.0,
  clip: float | int = 0.01,
  critics: int = 1,
  decay: float = 0.999,
  standardize: Callable[[Array], Array] = lambda images: images,
) -> Learner:
  """A learner whose `predict(state, key)` gives images of a batch of normal vectors.

  `recipes` make the view 'real' of the batch; `optimizers` are those of generator and
  discriminators. `loss` is one of GAMES, `penalty` the weight of its gradient penalty, `clip` the
  bound of its weights, `r1_weight` that of R1, `critics` the updates of the discriminators for one
  of the generator, `decay` that of the generator's average. The discriminators see all images
  through `standardize`, so that a slope of 1, which the penalty asks for, is one per deviation of a
  pixel: of images in [0, 1] with little contrast it would be too flat to tell textures apart.
  """
  if loss not in GAMES:
    raise UserError(f'gan.loss={loss!r} is not one of {", ".join(GAMES)}.')
  game = GAMES[loss]
  if min(latent, critics) < 1 or min(penalty, r1_weight) < 0 or (game.clipped and clip <= 0):
    raise UserError(
      f'gan: latent={latent} and critics={critics} are at least 1, penalty={penalty} and r1_weight='
      f'{r1_weight} at least 0, and clip={clip} above 0 where weights are clipped.'
    )
  painter, judges = optimizers

  def init(key: Key, images: Array) -> TrainState:
    key_paint, key_judge = jax.random.split(key)
    z = jnp.zeros((1, latent))
    painted = generator.init({'params': key_paint, 'noise': key_paint}, z)['params']
    judged = discriminators.init(key_judge, images[:1])['params']
    student = {'params': {'generator': painted, 'discriminators': judged}}
    opt_state = painter.init(painted), judges.init(judged)
    average = {'params': jax.tree.map(jnp.copy, painted)}
    return TrainState(jnp.zeros((), jnp.int32), student, average, opt_state)

  def paint(params, key: Key, count: int) -> Array:
    key_z, key_noise = jax.random.split(key)
    z = jax.random.normal(key_z, (count, latent))
    return standardize(generator.apply({'params': params}, z, rngs={'noise': key_noise}))

  def judge_with(params) -> Judge:
    return lambda images: discriminators.apply({'params': params}, images)

  def teach_judges(judged, opt_state, painted, real, key):
    key_fake, key_between = jax.random.split(key)
    fake = paint(painted, key_fake, len(real))

    def score(params):
      judge = judge_with(params)
      verdicts = judge(real), judge(fake)
      total = game.discriminator(*verdicts)
      figures = {'loss/discriminators': total}
      if game.penalty and penalty:
        figures['penalty'] = gradient_penalty(judge, real, fake, key_between)
        total += penalty * figures['penalty']
      if r1_weight:
        figures['r1'] = r1(judge, real)
        total += r1_weight * figures['r1']
      right = ((verdicts[0] > 0).mean() + (verdicts[1] < 0).mean()) / 2
      return total, figures | {'told_apart': right}

    grads, figures = jax.grad(score, has_aux=True)(judged)
    updates, opt_state = judges.update(grads, opt_state, judged)
    judged = optax.apply_updates(judged, updates)
    if game.clipped:
      judged = jax.tree.map(lambda x: jnp.clip(x, -clip, clip), judged)
    return judged, opt_state, figures

  def update(state: TrainState, batch, key: Key) -> tuple[TrainState, Metrics]:
    key = jax.random.fold_in(key, state.step)
    view_key, key_paint, *keys = jax.random.split(key, 2 + critics)
    real = standardize(make_views.make_views(recipes, batch, size, view_key)['real'].image)
    params, (paint_state, judge_state) = state.student['params'], state.opt_state
    painted, judged = params['generator'], params['discriminators']
    for own in keys:
      judged, judge_state, figures = teach_judges(judged, judge_state, painted, real, own)

    def score(params):
      return game.generator(judge_with(judged)(paint(params, key_paint, len(real))))

    value, grads = jax.value_and_grad(score)(painted)
    updates, paint_state = painter.update(grads, paint_state, painted)
    painted = optax.apply_updates(painted, updates)
    rate = 1 - ema_decay(state.step, decay)
    average = {'params': optax.incremental_update(painted, state.average['params'], rate)}
    student = {'params': {'generator': painted, 'discriminators': judged}}
    figures |= {'loss': value, 'loss/generator': value, 'grad_norm': optax.tree.norm(grads)}
    return TrainState(state.step + 1, student, average, (paint_state, judge_state)), figures

  def predict(state: TrainState, z: Array) -> Array:
    noise = {'noise': jax.random.key(0)}
    return generator.apply({'params': state.average['params']}, z, rngs=noise)

  return Learner(init, update, predict)
