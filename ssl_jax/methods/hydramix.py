"""HydraMix-Net: MixMatch for patches of cells, with centroids and a noise-robust loss.

Bashir et al. 2020, "HydraMix-Net: A Deep Multi-task Semi-supervised Learning Approach for Cell
Detection and Classification".
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ssl_jax import losses
from ssl_jax.errors import UserError
from ssl_jax.types import (
  BACKGROUND,
  CELLS,
  IGNORE,
  Key,
  LossTransform,
  Metrics,
  Outputs,
  Step,
  Teacher,
  Term,
  Views,
)
from ssl_jax.views import labels, mixup

# It has losses on labeled patches of its own; its control has these two instead.
REPLACES = ('supervised', 'centroids')
TASKS = (CELLS,)


def method(
  unlabeled_views: Sequence[str] = ('weak', 'weak2'),
  plain: str = 'plain',
  temperature: float = 0.5,
  alpha: float = 0.75,
  mu: float = 0.7,
  weight: float = 1.0,
  lambda_u: float = 1.0,
  ramp_up_steps: int = 0,
  symmetric: bool = True,
  delta: Sequence[float] = (1.0, 0.1),
  rho: Sequence[float] = (0.1, 1.0),
  prediction_clip: float = 1e-7,
  target_clip: float = 1e-4,
) -> LossTransform:
  """Returns a method that learns classes and centroids of labeled and unlabeled patches.

  A class is guessed as in MixMatch: the mean over `unlabeled_views`, sharpened. A centroid is
  guessed from the view `plain` of the same image alone, and warped to each of them. Images and
  classes are mixed with the weight max(l, 1 - l), l ~ Beta(alpha, alpha); the centroid stays that
  of the image with the larger weight.

  Args:
    unlabeled_views: views of the same unlabeled patches.
    plain: a view of them that is not augmented.
    temperature: sharpens the guessed classes; 1 leaves them as they are.
    alpha: of the Beta distribution.
    mu: weight of the loss of classes; that of centroids has 1 - mu.
    weight: weight of the losses of labeled patches.
    lambda_u: weight of the losses of unlabeled patches.
    ramp_up_steps: steps over which lambda_u rises linearly; 0: it is there from the start.
    symmetric: use the symmetric cross-entropy; otherwise, as MixMatch, cross-entropy for labeled
      and squared error for unlabeled patches.
    delta: weights of the forward cross-entropy (labeled, unlabeled).
    rho: weights of the reverse cross-entropy (labeled, unlabeled).
    prediction_clip: smallest prediction inside the logarithm of the forward cross-entropy.
    target_clip: smallest target inside the logarithm of the reverse cross-entropy.

  Raises:
    UserError: if `delta` or `rho` is no pair of weights.
  """
  for name, pair in (('delta', delta), ('rho', rho)):
    if len(pair) != 2 or min(pair) < 0:
      raise UserError(f'methods.hydramix.{name}={pair} is no pair (labeled, unlabeled) of weights.')

  def ask(
    teacher: Teacher, views: Views, key: Key, step: Step
  ) -> tuple[Mapping[str, Term], Metrics]:
    labeled, plain_view = views['labeled'], views[plain]
    unlabeled = [views[name] for name in unlabeled_views]
    label = labels.labels_of(labeled)
    has_label = label != IGNORE
    labeled_centroid, labeled_known = labels.centroids(labeled)

    # The guesses. A centroid counts as far as there is a cell; background has (0, 0).
    # 'class' [B, classes] as probabilities, 'x' and 'y' [B].
    predictions = teacher(plain_view.image, head=None)
    # [B, 1].
    cell_prob = (1 - predictions['class'][:, BACKGROUND])[:, None]
    # (row, column), as all points here.
    plain_centroid = jnp.stack([predictions['y'], predictions['x']], -1)
    warped_centroids = [
      labels.warp_centroids(plain_centroid, plain_view, view) for view in unlabeled
    ]
    # Averaged first, then sharpened.
    mean = jnp.stack([teacher(view.image) for view in unlabeled]).mean(0)
    guess = losses.sharpen(mean, temperature)

    # All examples: first the labeled patches, then each unlabeled view.
    images = jnp.concatenate([labeled.image, *(view.image for view in unlabeled)])
    # An ignored label becomes a row of zeros, which `valid` keeps out of the loss.
    targets = [jax.nn.one_hot(label, guess.shape[-1]), *(guess for _ in unlabeled)]
    centroid = jnp.concatenate(
      [labeled_centroid, *(cell_prob * warped for warped in warped_centroids)]
    )
    guessed = jnp.ones(len(guess) * len(unlabeled), bool)
    valid = jnp.concatenate([has_label, guessed])
    centroid_known = jnp.concatenate([labeled_known, guessed])

    partner, mix_weight = mixup.partners(key, len(images), alpha)
    # Centroids are not mixed: a point between two cells is the position of neither.
    images = mixup.mix(images, partner, mix_weight)
    target = mixup.mix(jnp.concatenate(targets), partner, mix_weight)
    # A mix with a patch of unknown class has no target.
    valid = valid & valid[partner]

    def term(part: slice, term_weight: Array | float, is_guess: bool) -> Term:
      def loss(heads: Outputs) -> Array:
        # The examples of this part: logits, mixed targets, and which of them count.
        given = heads['class'], target[part], valid[part]
        if symmetric:
          # Labels can be trusted, so their forward term is the larger one; for guesses it is the
          # reverse term, which gives the prediction more say.
          weights = delta[int(is_guess)], rho[int(is_guess)]
          class_loss = losses.symmetric_cross_entropy(
            *given, *weights, prediction_clip, target_clip
          )
        elif is_guess:
          class_loss = losses.squared_error(*given)
        else:
          class_loss = losses.soft_cross_entropy(*given)
        centroid_loss = losses.centroid_error(heads, centroid[part], centroid_known[part])
        return mu * class_loss + (1 - mu) * centroid_loss

      # Mixed images are those of no view.
      return Term(images[part], loss, term_weight, head=None, unlabeled=is_guess)

    ramped_lambda_u = lambda_u * losses.linear_ramp_up(step, ramp_up_steps)
    return {
      'labeled': term(slice(len(label)), weight, False),
      'unlabeled': term(slice(len(label), None), ramped_lambda_u, True),
    }, {}

  return ask


def control(mu: float = 0.7, weight: float = 1.0, **kwargs: Any) -> dict[str, dict[str, Any]]:
  """Returns the methods of the supervised control: class and centroid of labeled patches alone."""
  return {'supervised': {'weight': weight * mu}, 'centroids': {'weight': weight * (1 - mu)}}
