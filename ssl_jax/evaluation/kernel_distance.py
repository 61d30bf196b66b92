"""How far generated images are from real ones, seen through a network that was trained here."""

from collections.abc import Callable

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Float

from ssl_jax.types import Variables


def encoder_features(
  network: nn.Module, variables: Variables, standardize: Callable
) -> Callable[[np.ndarray], Float[np.ndarray, 'n d']]:
  """Images [n, H, W, C] in [0, 1] -> means over space of the features at the coarsest layer.

  Of several equally coarse layers it is the one with the most channels.
  """

  @jax.jit
  def answer(images):
    _, kept = network.apply(
      variables,
      standardize(images),
      train=False,
      capture_intermediates=True,
      mutable='intermediates',
    )
    maps = [x for x in jax.tree.leaves(kept) if x.ndim == 4]
    return min(maps, key=lambda x: (x.shape[1] * x.shape[2], -x.shape[3])).mean((1, 2))

  def features(images: np.ndarray, batch: int = 32) -> np.ndarray:
    parts = [images[i : i + batch] for i in range(0, len(images), batch)]
    filled = [np.pad(x, [(0, batch - len(x)), *[(0, 0)] * 3], mode='edge') for x in parts]
    each = [np.asarray(answer(x)) for x in filled]
    return np.concatenate(each)[: len(images)].astype(np.float64)

  return features


def kernel_distance(real: Float[np.ndarray, 'n d'], fake: Float[np.ndarray, 'm d']) -> float:
  """The unbiased squared maximum mean discrepancy with the kernel (x y / d + 1)^3.

  It is the kernel inception distance (Binkowski et al. 2018) on features of one's own; each is
  divided by its deviation over `real`, so that no feature speaks louder. About 0 where both are
  drawn from the same images; it may be below.
  """
  centre, spread = real.mean(0), real.std(0) + 1e-6
  real, fake = ((x - centre) / spread for x in (real, fake))

  def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3

  def within(x: np.ndarray) -> float:
    k, n = kernel(x, x), len(x)
    return (k.sum() - np.trace(k)) / (n * (n - 1))

  return float(within(real) + within(fake) - 2 * kernel(real, fake).mean())
