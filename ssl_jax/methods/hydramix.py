"""HydraMix-Net: MixMatch for patches of cells, with centroids and a loss that bears wrong labels.

Bashir et al. 2020, "HydraMix-Net: A Deep Multi-task Semi-supervised Learning Approach for Cell
Detection and Classification".
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from ssl_jax import losses
from ssl_jax.errors import UserError
from ssl_jax.types import BACKGROUND, CELLS, IGNORE, LossTransform, Term
from ssl_jax.views import geometry, mixup

REPLACES = ('supervised', 'centroids')
TASKS = (CELLS,)


def method(
  guesses: Sequence[str] = ('weak', 'weak2'),
  plain: str = 'plain',
  temperature: float = 0.5,
  alpha: float = 0.75,
  mu: float = 0.7,
  weight: float = 1.0,
  unlabeled: float = 1.0,
  ramp: int = 0,
  symmetric: bool = True,
  delta: Sequence[float] = (1.0, 0.1),
  rho: Sequence[float] = (0.1, 1.0),
  clip: float = 1e-4,
) -> LossTransform:
  """`mu` times the losses of classes plus 1 - `mu` times those of centroids, labeled and guessed.

  A class is guessed as in MixMatch, by the mean over the views `guesses`, sharpened; a centroid by
  the view `plain` of the same image alone, and brought into each of them. Images and classes are
  mixed by max(l, 1 - l), l ~ Beta(alpha, alpha); a centroid stays that of the image which has the
  larger part. The loss of classes is the symmetric cross-entropy with `delta` and `rho` (labeled,
  guessed) and `clip`; without `symmetric` cross-entropy, and squared error for guesses. That of
  guesses has the weight `unlabeled`, which rises linearly over `ramp` steps.
  """

  for name, pair in (('delta', delta), ('rho', rho)):
    if len(pair) != 2 or min(pair) < 0:
      raise UserError(f'methods.hydramix.{name}={pair} is no pair (labeled, guessed) of weights.')

  def ask(teacher, views, key, step):
    labeled, shown = views['labeled'], [views[name] for name in guesses]
    told = labeled.label != IGNORE
    at, seen = geometry.centroids(labeled)
    said = teacher(views[plain].image, head=None)
    there = (1 - said['class'][:, BACKGROUND])[:, None]
    found = jnp.stack([said['y'], said['x']], -1)
    moved = [geometry.warp_centroids(found, views[plain], view) for view in shown]
    mean = jnp.stack([teacher(view.image) for view in shown]).mean(0)
    guess = losses.sharpen(mean, temperature)

    images = jnp.concatenate([labeled.image, *(view.image for view in shown)])
    target = [jax.nn.one_hot(labeled.label, guess.shape[-1]), *(guess for _ in shown)]
    centroid = jnp.concatenate([at, *(there * point for point in moved)])
    sure = jnp.ones(len(guess) * len(shown), bool)
    valid, seen = (jnp.concatenate([known, sure]) for known in (told, seen))

    partner, share = mixup.partners(key, len(images), alpha)
    images = mixup.mix(images, partner, share)
    target = mixup.mix(jnp.concatenate(target), partner, share)
    valid = valid & valid[partner]

    def term(part, weight, guessed):
      def loss(heads):
        given = heads['class'], target[part], valid[part]
        if symmetric:
          classes = losses.symmetric_cross_entropy(*given, delta[guessed], rho[guessed], clip)
        else:
          classes = (losses.squared_error if guessed else losses.soft_cross_entropy)(*given)
        return mu * classes + (1 - mu) * losses.centroid_error(heads, centroid[part], seen[part])

      return Term(images[part], loss, weight, head=None)

    done = jnp.clip(step / ramp, 0, 1) if ramp else 1.0
    many = len(labeled.label)
    return {
      'labeled': term(slice(many), weight, False),
      'unlabeled': term(slice(many, None), unlabeled * done, True),
    }, {}

  return ask
