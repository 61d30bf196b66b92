"""Cross pseudo supervision: two networks of one design teach each other.

Chen et al. 2021, "Semi-Supervised Semantic Segmentation with Cross Pseudo Supervision". The two are
`models/pair.py`, one network with two heads; the first predicts.
"""

from ssl_jax import losses
from ssl_jax.types import LossTransform, Term

NEEDS = ('supervised',)


def method(
  weight: float = 1.5, ramp: int = 0, view: str = 'weak', dice: float = 0.0
) -> LossTransform:
  """Each network's class is the other's label, on labeled and unlabeled images alike.

  The labels themselves teach the first network through `supervised`, and the second here, with
  the same weight 1 and with `dice` as there.
  """

  def ask(teacher, views, key, step):
    labeled, unlabeled = views['labeled'], views[view]
    now = weight * losses.ramp_up(step, ramp)

    def cross(heads, valid):
      one, two = heads['class'], heads['second']
      return losses.cross_entropy(one, two.argmax(-1), valid) + losses.cross_entropy(
        two, one.argmax(-1), valid
      )

    def second(logits):
      total = losses.cross_entropy(logits, labeled.label)
      return total + dice * losses.dice(logits, labeled.label) if dice else total

    return {
      'second': Term(labeled.image, second, head='second'),
      'labeled': Term(labeled.image, lambda heads: cross(heads, labeled.valid), now, head=None),
      'unlabeled': Term(
        unlabeled.image, lambda heads: cross(heads, unlabeled.valid), now, head=None
      ),
    }, {}

  return ask
