"""MixMatch: guess by averaging, sharpen, and mix everything with everything.

Berthelot et al. 2019, "MixMatch: A Holistic Approach to Semi-Supervised Learning"; on pixels, whose
targets mix as their images do.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from ssl_jax import losses
from ssl_jax.types import IGNORE, LossTransform, Term
from ssl_jax.views import geometry, mixup

REPLACES = ('supervised',)


def method(
  guesses: Sequence[str] = ('weak', 'weak2'),
  temperature: float = 0.5,
  alpha: float = 0.75,
  weight: float = 1.0,
  unlabeled: float = 75.0,
  ramp: int = 0,
  dice: float = 0.0,
) -> LossTransform:
  """Cross-entropy on mixed labeled pixels, `unlabeled` (linear ramp) times squared error on others.

  `guesses` are views of the same unlabeled images. The teacher's answers to all of them, brought
  onto each, are averaged and sharpened. Every image is mixed with one drawn from all, by max(l, 1 -
  l), l ~ Beta(alpha, alpha). It has its own term for labels, to which `dice` adds so much soft Dice
  (the paper has none; without it rare classes can get lost).
  """

  def ask(teacher, views, key, step):
    shown = [views[name] for name in guesses]
    answers = [teacher(view.image) for view in shown]
    label = views['labeled'].label
    classes = answers[0].shape[-1]
    targets = [jax.nn.one_hot(label, classes)]
    valids = [label != IGNORE]
    for view in shown:
      brought = [geometry.warp(a, of, view) for a, of in zip(answers, shown, strict=True)]
      seen = jnp.stack([seen for _, seen in brought])[..., None]
      total = (jnp.stack([probs for probs, _ in brought]) * seen).sum(0)
      mean = total / jnp.maximum(total.sum(-1, keepdims=True), losses.TINY)
      targets.append(losses.sharpen(mean, temperature))
      valids.append(seen.any(0)[..., 0] & view.valid)
    everything = [views['labeled'].image, *(view.image for view in shown)]
    images, target, valid = (jnp.concatenate(x) for x in (everything, targets, valids))

    partner, share = mixup.partners(key, len(images), alpha)
    images, target = (mixup.mix(x, partner, share) for x in (images, target))
    valid = valid & valid[partner]

    many = len(label)
    of_labels, of_guesses = slice(many), slice(many, None)

    def labeled(logits):
      given = logits, target[of_labels], valid[of_labels]
      total = losses.soft_cross_entropy(*given)
      return total + dice * losses.soft_dice(*given) if dice else total

    def guessed(logits):
      return losses.squared_error(logits, target[of_guesses], valid[of_guesses])

    done = jnp.clip(step / ramp, 0, 1) if ramp else 1.0
    return {
      'labeled': Term(images[of_labels], labeled, weight),
      'unlabeled': Term(images[of_guesses], guessed, unlabeled * done),
    }, {}

  return ask
