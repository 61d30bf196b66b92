"""Cross pseudo supervision: two networks of one design teach each other.

Chen et al. 2021, "Semi-Supervised Semantic Segmentation with Cross Pseudo Supervision". The two are
`models/pair.py`, one network with two heads; the first predicts.
"""

from collections.abc import Mapping

from jaxtyping import Array

from ssl_jax import losses
from ssl_jax.types import Key, LossTransform, Metrics, Outputs, Step, Teacher, Term, Views
from ssl_jax.views import labels

# The labels reach the first network through it; the second one learns from them here.
NEEDS = ('supervised',)


def method(
  weight: float = 1.5,
  ramp_up_steps: int = 0,
  view: str = 'weak',
  dice: float = 0.0,
  dice_smooth: float = 1.0,
  dice_squared: bool = False,
  dice_over: str = 'image',
) -> LossTransform:
  """Returns a method in which each network's class is the other's label, on all images.

  The true labels teach the first network through `supervised`, and the second one here, with
  weight 1.

  Args:
    weight: weight of the cross pseudo supervision.
    ramp_up_steps: steps over which that weight rises; 0: it is there from the start.
    view: the view of unlabeled images.
    dice: weight of the soft Dice loss of the second network; give it that of `supervised`.
    dice_smooth: as in supervised.py, and likewise the same as there.
    dice_squared: as in supervised.py.
    dice_over: as in supervised.py.

  Raises:
    UserError: if `dice_over` is unknown.
  """
  dice_loss = losses.dice_fields('cps', dice_smooth, dice_squared, dice_over)

  def ask(
    teacher: Teacher, views: Views, key: Key, step: Step
  ) -> tuple[Mapping[str, Term], Metrics]:
    labeled, unlabeled = views['labeled'], views[view]
    label = labels.labels_of(labeled)
    ramped_weight = weight * losses.ramp_up(step, ramp_up_steps)

    def cross(heads: Outputs, valid: Array) -> Array:
      # The argmax has no gradient, so each network learns from the other's class alone.
      first, second = heads['class'], heads['second']
      first_loss = losses.cross_entropy(first, second.argmax(-1), valid)
      second_loss = losses.cross_entropy(second, first.argmax(-1), valid)
      return first_loss + second_loss

    # Labels play no part in these two, so ignored pixels of labeled images count as well.
    def cross_labeled(heads: Outputs) -> Array:
      return cross(heads, labeled.valid)

    def cross_unlabeled(heads: Outputs) -> Array:
      return cross(heads, unlabeled.valid)

    def second_supervised(logits: Outputs) -> Array:
      total = losses.cross_entropy(logits, label)
      if dice:
        total = total + dice * losses.dice(logits, label, **dice_loss)
      return total

    # 'second' and 'labeled' have the same view, and so share one forward pass.
    return {
      'second': Term(labeled.image, second_supervised, head='second', view='labeled'),
      'labeled': Term(labeled.image, cross_labeled, ramped_weight, head=None, view='labeled'),
      'unlabeled': Term(
        unlabeled.image, cross_unlabeled, ramped_weight, head=None, view=view, unlabeled=True
      ),
    }, {}

  return ask
