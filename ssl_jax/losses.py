"""Losses over pixels, voxels or patches: arrays are channels last, and only valid entries count."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int
from scipy import fft

from ssl_jax.errors import UserError
from ssl_jax.types import BACKGROUND, IGNORE

TINY = 2.0**-52
"""Stands for 0 inside a logarithm; p log p is then as good as 0."""


def valid_mean(values: Float[Array, '*n'], valid: Bool[Array, '*n']) -> Float[Array, '']:
  """Returns the mean over the valid entries; 0 where there are none."""
  # `where` rather than a product: an invalid entry may be NaN or infinite, and 0 * NaN is NaN. The
  # maximum avoids 0 / 0 where nothing is valid.
  return jnp.where(valid, values, 0).sum() / jnp.maximum(valid.sum(), 1)


def cross_entropy(
  logits: Float[Array, '*n k'],
  labels: Int[Array, '*n'],
  valid: Bool[Array, '*n'] | None = None,
  weight: Float[Array, '*n'] | Bool[Array, '*n'] | None = None,
) -> Float[Array, '']:
  """Returns the weighted cross-entropy in nats, mean over ALL valid pixels.

  Pixels of weight 0 count in the mean. A batch without any valid pixel gives 0.

  Args:
    logits: predictions.
    labels: class ids; those that are IGNORE are not valid.
    valid: further pixels that are not valid are False.
    weight: weights of the pixels; 1 by default.
  """
  known = labels != IGNORE
  valid = known if valid is None else known & valid
  # optax gives NaN for a label outside the classes, and NaN * 0 is NaN: put a harmless one there.
  loss = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(valid, labels, 0))
  return valid_mean(loss if weight is None else loss * weight, valid)


DICE_OVER = ('image', 'batch')
"""What the sums of a Dice loss run over: the pixels of each image, or of the whole batch."""


def dice(
  logits: Float[Array, 'b *space k'],
  labels: Int[Array, 'b *space'],
  smooth: float = 1.0,
  squared: bool = False,
  over: str = 'image',
) -> Float[Array, '']:
  """Returns the soft Dice loss 1 - (2 sum pq + s) / (sum p + sum q + s), mean over classes.

  Milletari et al. 2016, "V-Net", where `squared`. optax's Dice loss is of binary masks.

  Args:
    logits: predictions.
    labels: class ids; pixels that are IGNORE do not count.
    smooth: s; the larger, the less a small or absent class weighs.
    squared: square probabilities and labels in the denominator.
    over: 'image': each image has its own sums, and the mean is over images too; 'batch': the sums
      are over all images, so that a class need not be in every image.
  """
  # [B, *space, classes]. IGNORE lies outside the classes, so its row is 0 everywhere.
  truth = jax.nn.one_hot(labels, logits.shape[-1])
  return soft_dice(logits, truth, labels != IGNORE, smooth, squared, over)


def soft_dice(
  logits: Float[Array, 'b *space k'],
  target: Float[Array, 'b *space k'],
  weight: Bool[Array, 'b *space'] | Float[Array, 'b *space'],
  smooth: float = 1.0,
  squared: bool = False,
  over: str = 'image',
) -> Float[Array, '']:
  """Returns `dice` against probabilities; each pixel counts by its weight in all sums."""
  weight = weight[..., None]
  probs = jax.nn.softmax(logits)
  # All axes between batch and classes: 2 for images, 3 for volumes; and that of the batch.
  axes = tuple(range(0 if over == 'batch' else 1, logits.ndim - 1))
  power = 2 if squared else 1
  # [B, classes], or [classes] over the batch.
  overlap = 2 * (probs * target * weight).sum(axes) + smooth
  size = (probs**power * weight).sum(axes) + (target**power * weight).sum(axes) + smooth
  # Without smoothing a class that is nowhere would be 0 / 0; it is counted as found.
  ratio = jnp.where(size > 0, overlap / jnp.where(size > 0, size, 1), 1)
  return (1 - ratio).mean()


def dice_fields(method: str, smooth: float, squared: bool, over: str) -> dict[str, Any]:
  """Returns the fields of a method's Dice loss as arguments of `dice`.

  Raises:
    UserError: if `over` is none of DICE_OVER.
  """
  if over not in DICE_OVER:
    raise UserError(f'methods.{method}.dice_over={over!r} is not one of {", ".join(DICE_OVER)}.')
  return {'smooth': smooth, 'squared': squared, 'over': over}


def squared_error(
  logits: Float[Array, '*n k'], target: Float[Array, '*n k'], valid: Bool[Array, '*n']
) -> Float[Array, '']:
  """Returns the squared error of probabilities, mean over valid pixels and over classes."""
  return valid_mean(((jax.nn.softmax(logits) - target) ** 2).mean(-1), valid)


def sharpen(probs: Float[Array, '*n k'], temperature: float) -> Float[Array, '*n k']:
  """Returns p^(1/T) / sum p^(1/T): below T = 1 more certain (Berthelot et al. 2019, MixMatch)."""
  # Exactly unchanged, rather than changed by rounding.
  if temperature == 1:
    return probs
  # As a softmax of logarithms, so that small probabilities do not underflow.
  return jax.nn.softmax(jnp.log(jnp.maximum(probs, TINY)) / temperature)


def soft_cross_entropy(
  logits: Float[Array, '*n k'], target: Float[Array, '*n k'], valid: Bool[Array, '*n']
) -> Float[Array, '']:
  """Returns the cross-entropy against probabilities in nats, mean over valid pixels."""
  return valid_mean(optax.softmax_cross_entropy(logits, target), valid)


def symmetric_cross_entropy(
  logits: Float[Array, '*n k'],
  target: Float[Array, '*n k'],
  valid: Bool[Array, '*n'],
  delta: float = 1.0,
  rho: float = 1.0,
  prediction_clip: float = 1e-7,
  target_clip: float = 1e-4,
) -> Float[Array, '']:
  """Returns delta CE(target, p) + rho CE(p, target) in nats, mean over valid entries.

  Wang et al. 2019, "Symmetric Cross Entropy for Robust Learning with Noisy Labels", with the two
  clips of its authors' code.

  Args:
    logits: predictions.
    target: probabilities.
    valid: entries that count.
    delta: weight of the forward cross-entropy, which trusts the target.
    rho: weight of the reverse cross-entropy, which trusts the prediction.
    prediction_clip: smallest prediction inside the logarithm of the forward cross-entropy, whose
      gradient ends there: it must be small, or what is confidently wrong is never put right.
    target_clip: smallest target inside the logarithm of the reverse cross-entropy; the log of a
      one-hot target would be minus infinity, and this is what a wrong class costs instead.
  """
  probs = jax.nn.softmax(logits)
  log_probs = jnp.log(jnp.clip(probs, prediction_clip, 1))
  log_target = jnp.log(jnp.clip(target, target_clip, 1))
  # The sum over the classes leaves one value for each entry.
  forward = -(target * log_probs).sum(-1)
  reverse = -(probs * log_target).sum(-1)
  return valid_mean(delta * forward + rho * reverse, valid)


def centroid_error(
  heads: Mapping[str, Array], target: Float[Array, 'b 2'], known: Bool[Array, ' b']
) -> Float[Array, '']:
  """Returns the sum of the squared errors of x and y, mean over patches with a known centroid.

  Predictions are multiplied by the probability that there is a cell, so that they need not be 0
  for background (Bashir et al. 2020, HydraMix-Net).

  Args:
    heads: predictions with 'class' (logits), 'x' and 'y'.
    target: (y, x) as fractions of the sides of the patch; 0 for background.
    known: patches that count.
  """
  # [B], and so are the outputs of the heads x and y.
  cell_prob = 1 - jax.nn.softmax(heads['class'])[:, BACKGROUND]
  y_error = (heads['y'] * cell_prob - target[:, 0]) ** 2
  x_error = (heads['x'] * cell_prob - target[:, 1]) ** 2
  return valid_mean(y_error + x_error, known)


def kl_divergence(
  logits: Float[Array, '*n k'],
  target: Float[Array, '*n k'],
  valid: Bool[Array, '*n'],
  weight: Float[Array, '*n'] | Bool[Array, '*n'] | None = None,
) -> Float[Array, '']:
  """Returns KL(target || prediction) in nats, summed over classes, mean over ALL valid pixels.

  As in `cross_entropy`, pixels of weight 0 count in the mean.
  """
  loss = optax.kl_divergence(jax.nn.log_softmax(logits), target)
  return valid_mean(loss if weight is None else loss * weight, valid)


def entropy(logits: Float[Array, '*n k'], valid: Bool[Array, '*n']) -> Float[Array, '']:
  """Returns the entropy of the prediction in nats, mean over valid pixels."""
  # The entropy is the cross-entropy of a distribution with itself; gradients flow through both.
  return valid_mean(optax.softmax_cross_entropy(logits, jax.nn.softmax(logits)), valid)


def mutual_information(
  probs: Float[Array, 'b *space k'],
  other: Float[Array, 'b *space k'],
  valid: Bool[Array, 'b *space'],
  radius: int = 0,
  marginal: float = 1.0,
) -> Float[Array, '']:
  """Returns minus the mutual information of two aligned predictions, in nats.

  For each displacement of up to `radius` pixels along every axis: the joint distribution of the
  two, normalized and symmetrised, and -sum p (log p - marginal (log p_i + log p_j)); then the mean
  over displacements under which valid pixels meet, 0 where none do. Ji et al. 2019, "Invariant
  Information Clustering", the uncollapsed form.

  Args:
    probs: the first prediction.
    other: the second prediction, on the same pixels.
    valid: pixels that count.
    radius: half side of the window of displacements, in pixels.
    marginal: weight of the entropies of the marginals.
  """
  is_valid = valid[..., None]
  # [classes, classes, displacements]; invalid pixels are 0 and drop out of the sums.
  joint = _joint(jnp.where(is_valid, probs, 0), jnp.where(is_valid, other, 0), radius)
  # Pairs of valid pixels. A displacement without any has no joint distribution: what the Fourier
  # transforms leave of its sums is rounding, and dividing by that would give any number.
  pairs = _joint(*[is_valid.astype(joint.dtype)] * 2, radius)[0, 0]
  is_met = pairs > 0.5
  # The sums of products become probabilities, for each displacement.
  joint = joint / jnp.where(is_met, jnp.maximum(joint.sum((0, 1)), TINY), 1)
  # Neither prediction comes first, so the matrix should not depend on their order.
  joint = (joint + joint.swapaxes(0, 1)) / 2
  log_joint = jnp.log(jnp.maximum(joint, TINY))
  # The marginals keep their axis of length 1, so that they broadcast to [classes, classes, ...].
  log_rows = jnp.log(jnp.maximum(joint.sum(1, keepdims=True), TINY))
  log_columns = jnp.log(jnp.maximum(joint.sum(0, keepdims=True), TINY))
  information = (joint * (log_joint - marginal * (log_rows + log_columns))).sum((0, 1))
  return -jnp.where(is_met, information, 0).sum() / jnp.maximum(is_met.sum(), 1)


def _joint(
  one: Float[Array, 'b *space k'], two: Float[Array, 'b *space k'], radius: int
) -> Float[Array, 'k k displacements']:
  """Sums over pixels x of one[x + d] two[x], for each displacement d of up to `radius` per axis.

  By Fourier transforms: a convolution with a kernel of the size of the image takes minutes.
  """
  space = one.shape[1:-1]
  # Without displacement the sum over pixels is a single matrix product.
  if not radius:
    k = one.shape[-1]
    pixels = one.reshape(-1, k), two.reshape(-1, k)
    return jnp.matmul(pixels[0].T, pixels[1], precision='highest')[..., None]
  axes = tuple(range(1, len(space) + 1))
  # Padded by the radius, so that displaced pixels do not wrap round to the other side.
  size = [fft.next_fast_len(side + radius, real=True) for side in space]
  # Correlation theorem: the transform of the correlation is F(one) conj(F(two)). The sum over the
  # batch can be taken before transforming back, because the transform is linear.
  spectrum_one = jnp.fft.rfftn(one, size, axes)
  spectrum_two = jnp.fft.rfftn(two, size, axes)
  spectrum = jnp.einsum(
    'b...k,b...l->...kl', spectrum_one, spectrum_two.conj(), precision='highest'
  )
  # [*size, classes, classes]: one entry for each possible displacement.
  sums = jnp.fft.irfftn(spectrum, size, tuple(range(len(space))))
  # Negative displacements are at the end of each axis.
  displacements = jnp.arange(-radius, radius + 1)
  for axis in range(len(space)):
    sums = jnp.take(sums, displacements, axis, mode='wrap')
  # The displacements along all axes become one last axis.
  return jnp.moveaxis(sums.reshape(-1, *sums.shape[-2:]), 0, -1)


def ramp_up(step: Array | int, steps: int) -> Float[Array, '']:
  """Returns exp(-5 (1 - t)^2), t the fraction of `steps` that is done (Laine & Aila 2017).

  It is 1 from there on, and always where `steps` is 0.
  """
  # `steps` is a Python number, so this `if` is decided when the function is traced.
  done = jnp.clip(step / steps, 0, 1) if steps else jnp.ones(())
  return jnp.exp(-5 * (1 - done) ** 2)


def linear_ramp_up(step: Array | int, steps: int) -> Float[Array, ''] | float:
  """Returns the fraction of `steps` that is done, at most 1; 1 where `steps` is 0."""
  return jnp.clip(step / steps, 0, 1) if steps else 1.0


ANNEALINGS = {
  'linear': lambda done: done,
  'log': lambda done: 1 - jnp.exp(-5 * done),
  'exp': lambda done: jnp.exp(5 * (done - 1)),
}
"""Schedules of training-signal annealing: fraction of its steps -> `a` of `tsa_mask`."""


def tsa_mask(
  logits: Float[Array, '*n k'],
  labels: Int[Array, '*n'],
  annealing: str,
  step: Array | int,
  steps: int,
) -> Bool[Array, '*n']:
  """Returns whether the true class has at most the probability a (1 - 1/k) + 1/k.

  Training-signal annealing (Xie et al. 2020, UDA): pixels that are classified better than that
  teach nothing yet.

  Args:
    logits: predictions.
    labels: class ids; IGNORE counts as class 0.
    annealing: a key of ANNEALINGS, by which `a` grows from 0 to 1.
    step: updates so far.
    steps: updates after which the result is True everywhere.
  """
  # The mask selects pixels and is no part of the loss: no gradient goes through it.
  probs = jax.nn.softmax(lax.stop_gradient(logits))
  k = logits.shape[-1]
  # 255 would be out of range below; ignored pixels drop out of the loss by their own mask.
  labels = jnp.where(labels == IGNORE, 0, labels)
  true_prob = jnp.take_along_axis(probs, labels[..., None], -1)[..., 0]
  a = ANNEALINGS[annealing](jnp.clip(step / max(steps, 1), 0, 1))
  # The bound rises from chance level (1 / k) to 1. From the last step on rounding has no say.
  return (true_prob <= a * (1 - 1 / k) + 1 / k) | (step >= steps)
