"""UniMatch: two strong views and a weak one with dropped features must all agree with the teacher.

Yang et al. 2023, "Revisiting Weak-to-Strong Consistency in Semi-Supervised Semantic Segmentation".
"""

from ssl_jax import losses
from ssl_jax.types import LossTransform, Term
from ssl_jax.views import geometry


def method(
  threshold: float = 0.95, weight: float = 1.0, ramp: int = 0, drop: float = 0.5
) -> LossTransform:
  """Half the weight on 'strong' and 'strong2', a quarter each; half on 'weak' without channels.

  `drop` is the share of feature channels that the third stream does not see.
  """

  def ask(teacher, views, key, step):
    weak = views['weak']
    probs = teacher(weak.image)
    sure, target = probs.max(-1) >= threshold, probs.argmax(-1)
    now = weight * losses.ramp_up(step, ramp)

    def term(view, share, **how):
      carried, seen = geometry.warp(target, weak, view)
      trusted, _ = geometry.warp(sure, weak, view)
      valid = seen & view.valid

      def loss(logits):
        return losses.cross_entropy(logits, carried, valid, weight=trusted)

      return Term(view.image, loss, share * now, **how)

    terms = {name: term(views[name], 0.25) for name in ('strong', 'strong2')}
    terms['features'] = term(weak, 0.5, drop=drop)
    return terms, {'trusted': losses.valid_mean(sure.astype('float32'), weak.valid)}

  return ask
