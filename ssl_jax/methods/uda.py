"""UDA: the student's answer to a strong view must be the teacher's to the weak one.

Xie et al. 2020, "Unsupervised Data Augmentation for Consistency Training"; on pixels, with KL or
mutual information, as in the microscopy study of system 2.
"""

import jax

from ssl_jax import losses
from ssl_jax.errors import UserError
from ssl_jax.types import LossTransform, Term
from ssl_jax.views import geometry


def method(
  divergence: str = 'kl',
  temperature: float = 1.0,
  threshold: float = 0.0,
  weight: float = 1.0,
  ramp: int = 0,
  radius: int = 0,
  marginal: float = 1.0,
) -> LossTransform:
  """Brings the strong view's answer back onto the weak view and compares it there.

  'kl': KL from the teacher's answer, sharpened by `temperature`, where its confidence is above
  `threshold`. 'iid': minus their mutual information, with `radius` and `marginal` as in IIC.
  """
  if divergence not in ('kl', 'iid'):
    raise UserError(f"methods.uda.divergence={divergence!r} is neither 'kl' nor 'iid'.")

  def ask(teacher, views, key, step):
    weak, strong = views['weak'], views['strong']
    probs = teacher(weak.image)
    target, sure = losses.sharpen(probs, temperature), probs.max(-1) > threshold

    def loss(logits):
      back, seen = geometry.warp(logits, strong, weak)
      valid = seen & weak.valid
      if divergence == 'kl':
        return losses.kl_divergence(back, target, valid, weight=sure)
      return losses.mutual_information(probs, jax.nn.softmax(back), valid & sure, radius, marginal)

    trusted = losses.valid_mean(sure.astype('float32'), weak.valid)
    term = Term(strong.image, loss, weight * losses.ramp_up(step, ramp))
    return {'unlabeled': term}, {'trusted': trusted}

  return ask
