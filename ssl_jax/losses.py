"""Losses over pixels: arrays are channels last, and only valid pixels count."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from ssl_jax.types import IGNORE


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
  valid = (labels != IGNORE)[..., None]
  truth = jax.nn.one_hot(labels, logits.shape[-1]) * valid
  probs = jax.nn.softmax(logits) * valid
  space = tuple(range(1, logits.ndim - 1))
  power = 2 if squared else 1
  overlap = 2 * (probs * truth).sum(space) + smooth
  return (1 - overlap / ((probs**power).sum(space) + (truth**power).sum(space) + smooth)).mean()


def squared_error(
  logits: Float[Array, '*n k'], target: Float[Array, '*n k'], valid: Bool[Array, '*n']
) -> Float[Array, '']:
  """Squared error of probabilities, mean over valid pixels and over classes."""
  return valid_mean(((jax.nn.softmax(logits) - target) ** 2).mean(-1), valid)


def ramp_up(step: Array | int, steps: int) -> Float[Array, '']:
  """exp(-5 (1 - t)^2), t the share of `steps` that is done; 1 from there on (Laine & Aila 2017)."""
  done = jnp.clip(step / steps, 0, 1) if steps else jnp.ones(())
  return jnp.exp(-5 * (1 - done) ** 2)
