"""Bidirectional copy-paste: labeled and unlabeled images are pasted into each other.

Bai et al. 2023, "Bidirectional Copy-Paste for Semi-Supervised Medical Image Segmentation"
(arXiv:2305.00673); meant for `teacher='ema'`.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from ssl_jax.errors import UserError
from ssl_jax.methods import components, confidence
from ssl_jax.types import (
  BACKGROUND,
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
from ssl_jax.views import geometry, labels

# It has a loss on labeled images of its own; its control has this one instead.
REPLACES = ('supervised',)


def method(
  weight: float = 1.0,
  unlabeled_weight: float = 0.5,
  cross_entropy: float = 1.0,
  dice: float = 1.0,
  pretraining_steps: int = 0,
  largest_component: bool = True,
) -> LossTransform:
  """Returns a method whose images are each half labeled and half pseudo-labeled.

  A box of two thirds of each side, at a random place, is pasted from one image into another: a
  labeled one into an unlabeled one, and the other way round. The teacher's class is the label of
  every unlabeled pixel, whatever its confidence.

  Args:
    weight: weight of all losses together.
    unlabeled_weight: weight of the loss on unlabeled pixels, relative to that on labeled ones.
    cross_entropy: weight of the cross-entropy.
    dice: weight of the Dice loss (of V-Net, over the batch).
    pretraining_steps: first steps, in which labeled images are pasted into labeled ones; the
      paper has a third of all steps.
    largest_component: whether only the largest component of each class of a pseudo-label stays.
  """

  def ask(
    teacher: Teacher, views: Views, key: Key, step: Step
  ) -> tuple[Mapping[str, Term], Metrics]:
    labeled, weak = views['labeled'], views['weak']
    if labeled.image.shape != weak.image.shape:
      raise UserError(
        f'methods.bcp pastes labeled and unlabeled images into each other, one to one; make '
        f'batch.labeled and batch.unlabeled equal (they are {len(labeled.image)} and '
        f'{len(weak.image)}).'
      )
    label = labels.labels_of(labeled)
    if label.ndim == 1:
      raise UserError('methods.bcp pastes pixels, and patches of cells have one label each.')
    probs = teacher(weak.image)
    guess = probs.argmax(-1)
    if largest_component:
      guess = components.keep_largest(guess, probs.shape[-1])
    # What is pasted with: in pre-training another labeled image of the batch.
    early = jnp.asarray(step) < pretraining_steps
    other_image = jnp.where(early, jnp.roll(labeled.image, 1, 0), weak.image)
    other_label = jnp.where(early, jnp.roll(label, 1, 0), guess)
    other_valid = jnp.where(early, jnp.roll(labeled.valid, 1, 0), weak.valid)
    other_weight = jnp.where(early, 1.0, unlabeled_weight)
    space = label.shape[1:]
    # Two thirds of each side, whatever the shape of the view.
    sides = [side * 2 // 3 for side in space]
    box = geometry.boxes_of_sides(key, len(label), space, sides)

    def term(shows_label: Array) -> Term:
      """The mixed images that show labeled pixels where the flag is True, and the others' else."""
      of_label = shows_label & labeled.valid & (label != IGNORE)
      of_other = ~shows_label & other_valid & (other_label != IGNORE)

      def loss(logits: Outputs) -> Array:
        # Only pixels that count have a label to learn; the others may say IGNORE.
        def part(ids: Array, counted: Array) -> Array:
          known = jnp.where(counted, ids, BACKGROUND)
          return confidence.confident_loss(logits, known, counted, counted, cross_entropy, dice)

        return part(label, of_label) + other_weight * part(other_label, of_other)

      images = jnp.where(shows_label[..., None], labeled.image, other_image)
      return Term(images, loss, weight)

    foreground = (guess != BACKGROUND).astype(jnp.float32).mean()
    return {'inside': term(box), 'outside': term(~box)}, {'foreground': foreground}

  return ask


def control(
  weight: float = 1.0, cross_entropy: float = 1.0, dice: float = 1.0, **rest: Any
) -> dict[str, dict[str, Any]]:
  """Returns what the supervised control of a run with this method learns with."""
  # Both terms have a loss on labeled pixels.
  form = dict(dice_smooth=1e-5, dice_squared=True, dice_over='batch')
  return {'supervised': dict(weight=2 * weight, cross_entropy=cross_entropy, dice=dice, **form)}
