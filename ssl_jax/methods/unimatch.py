"""UniMatch: two strong views, and the weak one with features dropped, agree with the teacher.

Yang et al. 2023, "Revisiting Weak-to-Strong Consistency in Semi-Supervised Semantic Segmentation".
"""

from collections.abc import Mapping

from jaxtyping import Array

from ssl_jax import losses
from ssl_jax.methods import confidence
from ssl_jax.types import Key, LossTransform, Metrics, Outputs, Step, Teacher, Term, Views
from ssl_jax.views import geometry


def method(
  threshold: float = 0.95,
  weight: float = 1.0,
  ramp_up_steps: int = 0,
  feature_dropout: float = 0.5,
  cross_entropy: float = 1.0,
  dice: float = 0.0,
  own_statistics: bool = False,
  class_share: float = 0.0,
  weighting: str = 'threshold',
  hold_back: bool = False,
  align_classes: bool = False,
) -> LossTransform:
  """Returns a method that learns the teacher's confident classes in three ways.

  A quarter of the weight is on each of 'strong' and 'strong2', and half of it on 'weak' with
  dropped features.

  Args:
    threshold: smallest probability of a class that is learned.
    weight: weight of the three losses together.
    ramp_up_steps: steps over which the weight rises; 0: it is there from the start.
    feature_dropout: fraction of the feature channels that the third one does not see.
    cross_entropy: weight of the cross-entropy in each loss.
    dice: weight of the Dice loss in each; the paper has it alone for medical images.
    own_statistics: whether strong views have statistics of their own in batch normalization, and
      leave those for prediction alone.
    class_share: part of the pixels of each class that teaches at least, however unsure the teacher.
    weighting: how far each pixel is trusted, by confidence.WEIGHTINGS.
    hold_back: whether nothing is learned while a class that the teacher predicts has no confident
      pixel.
    align_classes: whether the teacher's classes are made about as frequent as the labels' first.

  Raises:
    UserError: if `weighting` is unknown.
  """
  confidence.check_weighting('unimatch', weighting)

  def ask(
    teacher: Teacher, views: Views, key: Key, step: Step
  ) -> tuple[Mapping[str, Term], Metrics]:
    weak = views['weak']
    probs = teacher(weak.image)
    if align_classes:
      probs = confidence.align_classes(probs, weak.valid, views['labeled'])
    # Warped later, each pixel from one of the teacher's: neither is interpolated.
    confident = confidence.pixel_weights(
      probs, weak.valid, threshold, class_share, weighting, hold_back
    )
    target = probs.argmax(-1)
    ramped_weight = weight * losses.ramp_up(step, ramp_up_steps)

    def term(name: str, fraction: float, dropout: float = 0.0, apart: bool = False) -> Term:
      view = views[name]
      # Each view has its own CutMix, and so its own targets.
      warped_target, seen = geometry.warp(target, weak, view)
      warped_confident, _ = geometry.warp(confident, weak, view, nearest=True)
      valid = seen & view.valid

      def loss(logits: Outputs) -> Array:
        return confidence.confident_loss(
          logits, warped_target, valid, warped_confident, cross_entropy, dice
        )

      # Dropped channels are the third perturbation; terms that drop differently share no pass.
      return Term(
        view.image,
        loss,
        fraction * ramped_weight,
        feature_dropout=dropout,
        view=name,
        unlabeled=True,
        own_statistics=apart,
      )

    terms = {
      'strong': term('strong', 0.25, apart=own_statistics),
      'strong2': term('strong2', 0.25, apart=own_statistics),
      # The weak view again, perturbed only inside the network.
      'features': term('weak', 0.5, feature_dropout),
    }
    return terms, confidence.mask_rates(probs, confident, weak.valid)

  return ask
