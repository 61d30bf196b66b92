"""How far generated images are from real ones, by features of a network that was trained here."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from ssl_jax.types import Normalization, Variables


def encoder_features(
  network: nn.Module, variables: Variables, normalization: Normalization
) -> Callable[[np.ndarray], Float[np.ndarray, 'n d']]:
  """Returns a function that maps images [n, H, W, C] in [0, 1] to features of a network.

  They are the means over space of its coarsest layer; of several equally coarse layers it is the
  one with the most channels. The images go through the network 32 at a time.
  """

  # Weights and normalization are arguments, so that one program serves all seeds and data sets.
  @jax.jit
  def coarsest_layer(
    variables: Any, normalization: Normalization, images: Float[Array, 'b h w c']
  ) -> Float[Array, 'b d']:
    # Flax notes down the outputs of all layers, so that no network needs a special method for it.
    _, kept = network.apply(
      variables,
      normalization.standardize(images),
      train=False,
      capture_intermediates=True,
      mutable='intermediates',
    )
    # [B, h, w, c]; outputs without space are no maps.
    maps = [x for x in jax.tree.leaves(kept) if x.ndim == 4]
    coarsest = min(maps, key=lambda x: (x.shape[1] * x.shape[2], -x.shape[3]))
    return coarsest.mean((1, 2))

  def features(images: np.ndarray, batch: int = 32) -> Float[np.ndarray, 'n d']:
    batches = []
    for start in range(0, len(images), batch):
      part = images[start : start + batch]
      # A full batch even at the end: one shape, one compilation.
      filled = np.pad(part, [(0, batch - len(part)), *[(0, 0)] * 3], mode='edge')
      # [batch, d]
      batches.append(np.asarray(coarsest_layer(variables, normalization, filled)))
    return np.concatenate(batches)[: len(images)].astype(np.float64)

  return features


def kernel_distance(real: Float[np.ndarray, 'n d'], generated: Float[np.ndarray, 'm d']) -> float:
  """Returns the unbiased squared maximum mean discrepancy with the kernel (x y / d + 1)^3.

  It is the kernel inception distance (Binkowski et al. 2018, arXiv:1801.01401) on features of
  one's own, each standardized by its mean and deviation over `real`. It is about 0, and may be
  below, where both are drawn from the same images.
  """
  # By the real images alone: a shift of the generated ones must stay visible.
  center, spread = real.mean(0), real.std(0) + 1e-6
  real = (real - center) / spread
  generated = (generated - center) / spread

  # [n, m]: the similarity of each image of x to each of y.
  def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3

  def mean_of_pairs(x: np.ndarray) -> np.floating:
    """The mean of the kernel over pairs of different images of one set."""
    k, n = kernel(x, x), len(x)
    # An image is more similar to itself than to any other; counting these pairs would make the
    # distance of small sets too large.
    return (k.sum() - np.trace(k)) / (n * (n - 1))

  # MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y)
  within = mean_of_pairs(real) + mean_of_pairs(generated)
  return float(within - 2 * kernel(real, generated).mean())
