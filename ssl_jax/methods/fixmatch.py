"""FixMatch: what the teacher is sure of in the weak view, the student must see in the strong one.

Sohn et al. 2020, "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence".
"""

import jax.numpy as jnp

from ssl_jax import losses
from ssl_jax.types import LossTransform, Term
from ssl_jax.views import geometry


def method(
  threshold: float = 0.95, weight: float = 1.0, ramp: int = 0, all_pixels: bool = False
) -> LossTransform:
  """Cross-entropy with the teacher's class where its probability is at least `threshold`.

  The weight is ramped up over the first `ramp` steps (the paper has no ramp). `all_pixels` learns
  from padding as well, and divides by all pixels, as some implementations do.
  """

  def ask(teacher, views, key, step):
    weak, strong = views['weak'], views['strong']
    probs = teacher(weak.image)
    target, seen = geometry.warp(probs.argmax(-1), weak, strong)
    sure, _ = geometry.warp(probs.max(-1) >= threshold, weak, strong)
    valid = seen & strong.valid
    if all_pixels:
      padding = ~weak.valid
      sure = sure & (strong.valid | padding)
      valid = jnp.ones_like(valid)

    def loss(logits):
      return losses.cross_entropy(logits, target, valid, weight=sure)

    trusted = losses.valid_mean(sure.astype('float32'), valid)
    term = Term(strong.image, loss, weight * losses.ramp_up(step, ramp))
    return {'unlabeled': term}, {'trusted': trusted}

  return ask
