"""Mean teacher: the student's probabilities follow the teacher's, whatever their confidence.

Tarvainen & Valpola 2017, "Mean teachers are better role models"; meant for `teacher='average'`.
"""

from ssl_jax import losses
from ssl_jax.types import LossTransform, Term
from ssl_jax.views import geometry


def method(weight: float = 1.0, ramp: int = 0) -> LossTransform:
  """Squared error of probabilities, its weight ramped up over the first `ramp` steps."""

  def ask(teacher, views, key, step):
    weak, strong = views['weak'], views['strong']
    target, seen = geometry.warp(teacher(weak.image), weak, strong)
    valid = seen & strong.valid

    def loss(logits):
      return losses.squared_error(logits, target, valid)

    return {'unlabeled': Term(strong.image, loss, weight * losses.ramp_up(step, ramp))}, {}

  return ask
