"""Mean teacher: the student's probabilities follow the teacher's, whatever their confidence.

Tarvainen & Valpola 2017, "Mean teachers are better role models"; meant for `teacher='ema'`.
"""

from collections.abc import Mapping

from jaxtyping import Array

from ssl_jax import losses
from ssl_jax.types import Key, LossTransform, Metrics, Outputs, Step, Teacher, Term, Views
from ssl_jax.views import geometry


def method(weight: float = 1.0, ramp_up_steps: int = 0) -> LossTransform:
  """Returns a method that makes predictions for the strong view agree with the teacher's.

  Args:
    weight: weight of the squared error of probabilities, mean over valid pixels and classes.
    ramp_up_steps: steps over which the weight rises; 0: it is there from the start.
  """

  def ask(
    teacher: Teacher, views: Views, key: Key, step: Step
  ) -> tuple[Mapping[str, Term], Metrics]:
    weak, strong = views['weak'], views['strong']
    # [B, *space, classes]: soft targets, interpolated between the pixels of the weak view.
    target, seen = geometry.warp(teacher(weak.image), weak, strong)
    valid = seen & strong.valid

    # Every pixel that both views show counts; no threshold filters them.
    def loss(logits: Outputs) -> Array:
      return losses.squared_error(logits, target, valid)

    ramped_weight = weight * losses.ramp_up(step, ramp_up_steps)
    term = Term(strong.image, loss, ramped_weight, view='strong', unlabeled=True)
    return {'unlabeled': term}, {}

  return ask
