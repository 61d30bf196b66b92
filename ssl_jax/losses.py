"""Losses over pixels: arrays are channels last, and only valid pixels count."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int
from scipy import fft

from ssl_jax.types import BACKGROUND, IGNORE

TINY = 2.0**-52
"""Stands for 0 inside a logarithm; p log p is then as good as 0."""


def valid_mean(values: Float[Array, '*n'], valid: Bool[Array, '*n']) -> Float[Array, '']:
  """Mean over the valid entries; 0 where there are none."""
  return jnp.where(valid, values, 0).sum() / jnp.maximum(valid.sum(), 1)


def cross_entropy(
  logits: Float[Array, '*n k'],
  labels: Int[Array, '*n'],
  valid: Bool[Array, '*n'] | None = None,
  weight: Float[Array, '*n'] | Bool[Array, '*n'] | None = None,
) -> Float[Array, '']:
  """Weighted cross-entropy in nats, mean over ALL valid pixels, those of weight 0 included.

  Pixels labelled IGNORE are not valid; a batch without any valid pixel gives 0.
  """
  known = labels != IGNORE
  valid = known if valid is None else known & valid
  # optax gives NaN for a label outside the classes, and NaN * 0 is NaN: put a harmless one there.
  loss = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(valid, labels, 0))
  return valid_mean(loss if weight is None else loss * weight, valid)


def dice(
  logits: Float[Array, 'b *space k'],
  labels: Int[Array, 'b *space'],
  smooth: float = 1.0,
  squared: bool = False,
) -> Float[Array, '']:
  """Soft Dice loss per class and example, then the mean (Milletari et al. 2016 where squared)."""
  truth = jax.nn.one_hot(labels, logits.shape[-1])
  return soft_dice(logits, truth, labels != IGNORE, smooth, squared)


def soft_dice(
  logits: Float[Array, 'b *space k'],
  target: Float[Array, 'b *space k'],
  valid: Bool[Array, 'b *space'],
  smooth: float = 1.0,
  squared: bool = False,
) -> Float[Array, '']:
  """The Dice loss against probabilities, over valid pixels."""
  truth = target * valid[..., None]
  probs = jax.nn.softmax(logits) * valid[..., None]
  space = tuple(range(1, logits.ndim - 1))
  power = 2 if squared else 1
  overlap = 2 * (probs * truth).sum(space) + smooth
  return (1 - overlap / ((probs**power).sum(space) + (truth**power).sum(space) + smooth)).mean()


def squared_error(
  logits: Float[Array, '*n k'], target: Float[Array, '*n k'], valid: Bool[Array, '*n']
) -> Float[Array, '']:
  """Squared error of probabilities, mean over valid pixels and over classes."""
  return valid_mean(((jax.nn.softmax(logits) - target) ** 2).mean(-1), valid)


def sharpen(probs: Float[Array, '*n k'], temperature: float) -> Float[Array, '*n k']:
  """p^(1/T) / sum p^(1/T): below 1 more certain, at 1 unchanged (Berthelot et al. 2019)."""
  if temperature == 1:
    return probs
  return jax.nn.softmax(jnp.log(jnp.maximum(probs, TINY)) / temperature)


def soft_cross_entropy(
  logits: Float[Array, '*n k'], target: Float[Array, '*n k'], valid: Bool[Array, '*n']
) -> Float[Array, '']:
  """Cross-entropy against probabilities in nats, mean over valid pixels."""
  return valid_mean(optax.softmax_cross_entropy(logits, target), valid)


def symmetric_cross_entropy(
  logits: Float[Array, '*n k'],
  target: Float[Array, '*n k'],
  valid: Bool[Array, '*n'],
  delta: float = 1.0,
  rho: float = 1.0,
  clip: float = 1e-4,
) -> Float[Array, '']:
  """delta CE(target, p) + rho CE(p, target) in nats, mean over valid entries (Wang et al. 2019).

  Inside the logarithms probabilities are at least `clip`. The first part trusts the target, the
  second, the reverse cross-entropy, what the network itself says.
  """
  probs = jax.nn.softmax(logits)
  log_probs, log_target = (jnp.log(jnp.clip(p, clip, 1)) for p in (probs, target))
  forward, reverse = -(target * log_probs).sum(-1), -(probs * log_target).sum(-1)
  return valid_mean(delta * forward + rho * reverse, valid)


def centroid_error(
  heads: Mapping[str, Array], target: Float[Array, 'b 2'], known: Bool[Array, ' b']
) -> Float[Array, '']:
  """Squared errors of x and y, each times the probability that there is a cell, mean over known.

  `target` holds (y, x) in parts of the patch, 0 for background, of which the probability that it
  is none thus takes care (Bashir et al. 2020).
  """
  there = 1 - jax.nn.softmax(heads['class'])[:, BACKGROUND]
  errors = [(heads[axis] * there - target[:, i]) ** 2 for i, axis in enumerate(('y', 'x'))]
  return valid_mean(sum(errors), known)


def kl_divergence(
  logits: Float[Array, '*n k'],
  target: Float[Array, '*n k'],
  valid: Bool[Array, '*n'],
  weight: Float[Array, '*n'] | Bool[Array, '*n'] | None = None,
) -> Float[Array, '']:
  """KL(target || prediction) in nats, summed over classes, mean over ALL valid pixels."""
  loss = optax.kl_divergence(jax.nn.log_softmax(logits), target)
  return valid_mean(loss if weight is None else loss * weight, valid)


def entropy(logits: Float[Array, '*n k'], valid: Bool[Array, '*n']) -> Float[Array, '']:
  """Entropy of the prediction in nats, mean over valid pixels."""
  return valid_mean(optax.softmax_cross_entropy(logits, jax.nn.softmax(logits)), valid)


def mutual_information(
  probs: Float[Array, 'b *space k'],
  other: Float[Array, 'b *space k'],
  valid: Bool[Array, 'b *space'],
  radius: int = 0,
  marginal: float = 1.0,
) -> Float[Array, '']:
  """Minus the mutual information of two aligned predictions, in nats (Ji et al. 2019, IIC).

  For each displacement of up to `radius` pixels along every axis: the joint distribution of the
  two, normalised and symmetrised, and -sum p (log p - marginal (log p_i + log p_j)); then the mean
  over displacements (the uncollapsed form). Pixels that are not valid add nothing.
  """
  seen = valid[..., None]
  joint = _joint(jnp.where(seen, probs, 0), jnp.where(seen, other, 0), radius)
  joint = joint / jnp.maximum(joint.sum((0, 1)), TINY)
  joint = (joint + joint.swapaxes(0, 1)) / 2
  log_joint = jnp.log(jnp.maximum(joint, TINY))
  log_rows, log_columns = (jnp.log(jnp.maximum(joint.sum(a, keepdims=True), TINY)) for a in (1, 0))
  return -(joint * (log_joint - marginal * (log_rows + log_columns))).sum((0, 1)).mean()


def _joint(
  one: Float[Array, 'b *space k'], two: Float[Array, 'b *space k'], radius: int
) -> Float[Array, 'k k displacements']:
  """Sums over pixels x of one[x + d] two[x], for each displacement d of up to `radius` per axis.

  By Fourier transforms: a convolution with a kernel of the size of the image takes minutes.
  """
  space = one.shape[1:-1]
  if not radius:
    k = one.shape[-1]
    pixels = one.reshape(-1, k), two.reshape(-1, k)
    return jnp.matmul(pixels[0].T, pixels[1], precision='highest')[..., None]
  axes = tuple(range(1, len(space) + 1))
  size = [fft.next_fast_len(side + radius, real=True) for side in space]  # no wrapping round
  ones, twos = (jnp.fft.rfftn(x, size, axes) for x in (one, two))
  spectrum = jnp.einsum('b...k,b...l->...kl', ones, twos.conj(), precision='highest')
  every = jnp.fft.irfftn(spectrum, size, tuple(range(len(space))))
  near = jnp.arange(-radius, radius + 1)
  for axis in range(len(space)):
    every = jnp.take(every, near, axis, mode='wrap')
  return jnp.moveaxis(every.reshape(-1, *every.shape[-2:]), 0, -1)


def ramp_up(step: Array | int, steps: int) -> Float[Array, '']:
  """exp(-5 (1 - t)^2), t the share of `steps` that is done; 1 from there on (Laine & Aila 2017)."""
  done = jnp.clip(step / steps, 0, 1) if steps else jnp.ones(())
  return jnp.exp(-5 * (1 - done) ** 2)


ANNEALINGS = {
  'linear': lambda done: done,
  'log': lambda done: 1 - jnp.exp(-5 * done),
  'exp': lambda done: jnp.exp(5 * (done - 1)),
}


def unknown(
  logits: Float[Array, '*n k'],
  labels: Int[Array, '*n'],
  annealing: str,
  step: Array | int,
  steps: int,
) -> Bool[Array, '*n']:
  """Whether the true class has at most the probability a (1 - 1/k) + 1/k (Xie et al. 2020, TSA).

  `a` grows from 0 to 1 over `steps`, by one of ANNEALINGS; from there on all pixels are due. An
  IGNORE label counts as class 0.
  """
  probs = jax.nn.softmax(lax.stop_gradient(logits))
  k = logits.shape[-1]
  true = jnp.where(labels == IGNORE, 0, labels)
  known = jnp.take_along_axis(probs, true[..., None], -1)[..., 0]
  share = ANNEALINGS[annealing](jnp.clip(step / max(steps, 1), 0, 1))
  return (known <= share * (1 - 1 / k) + 1 / k) | (step >= steps)
