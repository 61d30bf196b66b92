"""MixMatch: average and sharpen the guesses, then mix all examples with each other.

Berthelot et al. 2019, "MixMatch: A Holistic Approach to Semi-Supervised Learning"; per pixel: the
targets of pixels are mixed as their images are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ssl_jax import losses
from ssl_jax.types import IGNORE, Key, LossTransform, Metrics, Outputs, Step, Teacher, Term, Views
from ssl_jax.views import geometry, labels, mixup

# It has a loss on labeled images of its own; its control has this one instead.
REPLACES = ('supervised',)


def method(
  unlabeled_views: Sequence[str] = ('weak', 'weak2'),
  temperature: float = 0.5,
  alpha: float = 0.75,
  weight: float = 1.0,
  lambda_u: float = 75.0,
  ramp_up_steps: int = 0,
  dice: float = 0.0,
  dice_smooth: float = 1.0,
  dice_squared: bool = False,
  dice_over: str = 'image',
) -> LossTransform:
  """Returns a method that learns labels and guessed labels of mixed images.

  The teacher's probabilities for all `unlabeled_views`, warped to each of them, are averaged and
  sharpened: the guesses. Every image is mixed with one drawn from all, labeled and unlabeled, with
  the weight max(l, 1 - l), l ~ Beta(alpha, alpha).

  Args:
    unlabeled_views: views of the same unlabeled images.
    temperature: sharpens the guesses; 1 leaves them as they are.
    alpha: of the Beta distribution.
    weight: weight of the cross-entropy on mixed labeled images.
    lambda_u: weight of the squared error on mixed unlabeled images.
    ramp_up_steps: steps over which lambda_u rises linearly; 0: it is there from the start.
    dice: weight of the soft Dice loss on mixed labeled images (the paper has none; without it rare
      classes can get lost).
    dice_smooth: as in supervised.py.
    dice_squared: as in supervised.py.
    dice_over: as in supervised.py.

  Raises:
    UserError: if `dice_over` is unknown.
  """
  dice_loss = losses.dice_fields('mixmatch', dice_smooth, dice_squared, dice_over)

  def ask(
    teacher: Teacher, views: Views, key: Key, step: Step
  ) -> tuple[Mapping[str, Term], Metrics]:
    labeled = views['labeled']
    unlabeled = [views[name] for name in unlabeled_views]
    predictions = [teacher(view.image) for view in unlabeled]
    label = labels.labels_of(labeled)
    classes = predictions[0].shape[-1]

    # Targets and validity: first of the labeled images, then of each unlabeled view.
    # An ignored label becomes a row of zeros, which `valids` keeps out of the loss.
    targets = [jax.nn.one_hot(label, classes)]
    valids = [label != IGNORE]
    for view in unlabeled:
      # What all views of these images predict, on the pixels of this one.
      warped = [
        geometry.warp(probs, source, view)
        for probs, source in zip(predictions, unlabeled, strict=True)
      ]
      # [views, B, *space, 1].
      seen = jnp.stack([seen for _, seen in warped])[..., None]
      total = (jnp.stack([probs for probs, _ in warped]) * seen).sum(0)
      # Each pixel is averaged over the views that saw it.
      mean = total / jnp.maximum(total.sum(-1, keepdims=True), losses.TINY)
      targets.append(losses.sharpen(mean, temperature))
      valids.append(seen.any(0)[..., 0] & view.valid)
    images = jnp.concatenate([labeled.image, *(view.image for view in unlabeled)])
    target = jnp.concatenate(targets)
    valid = jnp.concatenate(valids)

    # MixUp, among labeled and unlabeled examples alike.
    partner, mix_weight = mixup.partners(key, len(images), alpha)
    images = mixup.mix(images, partner, mix_weight)
    target = mixup.mix(target, partner, mix_weight)
    # A mix with a pixel of unknown class has no target.
    valid = valid & valid[partner]

    is_labeled = slice(len(label))
    is_unlabeled = slice(len(label), None)

    def labeled_loss(logits: Outputs) -> Array:
      given = logits, target[is_labeled], valid[is_labeled]
      total = losses.soft_cross_entropy(*given)
      if dice:
        total = total + dice * losses.soft_dice(*given, **dice_loss)
      return total

    # Squared error, as in the paper: it is bounded, and so less sensitive to wrong guesses.
    def unlabeled_loss(logits: Outputs) -> Array:
      return losses.squared_error(logits, target[is_unlabeled], valid[is_unlabeled])

    ramped_lambda_u = lambda_u * losses.linear_ramp_up(step, ramp_up_steps)
    # Mixed images are those of no view.
    return {
      'labeled': Term(images[is_labeled], labeled_loss, weight),
      'unlabeled': Term(images[is_unlabeled], unlabeled_loss, ramped_lambda_u, unlabeled=True),
    }, {}

  return ask


def control(weight: float = 1.0, **kwargs: Any) -> dict[str, dict[str, Any]]:
  """Returns the methods of the supervised control: the same losses on images that are not mixed."""
  # All fields of the Dice loss have the same name there.
  dice = {name: value for name, value in kwargs.items() if name.startswith('dice')}
  return {'supervised': {'weight': weight, 'dice': 0.0, **dice}}
