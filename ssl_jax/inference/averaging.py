"""The mean of several networks' predictions, and of mirrored and turned copies of an image.

Copies are made inside the predict function, of each batch, tile or window, so that averaging needs
no more memory however large an image or a volume is (nnU-Net does so, Isensee et al. 2021).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Num

from ssl_jax.inference.images import ImagePredictor
from ssl_jax.inference.sliding_window import WindowedPredictor
from ssl_jax.types import PredictFn


class Copy(NamedTuple):
  """A copy of a batch of images [B, *space, C]: transposed first, then mirrored."""

  mirrored: tuple[int, ...] = ()  # axes of the batch
  transposed: bool = False  # whether rows and columns are exchanged

  def of(self, batch: Num[np.ndarray, 'b *space c']) -> Num[np.ndarray, 'b *other c']:
    """Returns the copy of a batch."""
    if self.transposed:
      batch = batch.swapaxes(1, 2)
    return np.flip(batch, self.mirrored)

  def undone(self, probs: Num[np.ndarray, 'b *space k']) -> Num[np.ndarray, 'b *other k']:
    """Brings what was predicted of the copy back to the position of the batch."""
    probs = np.flip(probs, self.mirrored)
    return probs.swapaxes(1, 2) if self.transposed else probs


AS_IS = Copy()


def copies_of(dimensions: int, turned: bool) -> list[Copy]:
  """Returns a Copy for each combination of mirrored axes of space; the first is the image itself.

  Args:
    dimensions: 2 for images, which gives 4 copies; 3 for volumes, which gives 8.
    turned: whether images are turned by quarters as well, which gives 8 copies: all positions of a
      square.
  """
  axes = range(1, dimensions + 1)
  chosen = [itertools.combinations(axes, count) for count in range(dimensions + 1)]
  transpositions = (False, True) if turned else (False,)
  pairs = itertools.product(transpositions, itertools.chain.from_iterable(chosen))
  return [Copy(mirrored, transposed) for transposed, mirrored in pairs]


def average(
  predict_fns: Sequence[PredictFn], copies: Sequence[Copy] = (AS_IS,), spread: bool = False
) -> PredictFn:
  """Returns the mean of predictions; of volumes window by window where all take the same ones.

  Args:
    predict_fns: of the networks. Those of cells predict dicts and have no copies.
    copies: of each batch, whose predictions are averaged as well.
    spread: whether a last channel behind the classes holds the mean entropy of the single
      predictions, from which `disagreement` follows.
  """
  # Averaging within a window keeps the bounded memory of WindowedPredictor, which a mean of whole
  # volumes would lose.
  windowed = [f for f in predict_fns if isinstance(f, WindowedPredictor)]
  if len(windowed) == len(predict_fns) and len({tuple(f.window) for f in windowed}) == 1:
    inner = average([f.predict_fn for f in windowed], copies, spread)
    return windowed[0]._replace(predict_fn=inner)
  multiples = [f.multiple for f in predict_fns if isinstance(f, ImagePredictor)]

  def mean(images: np.ndarray) -> Any:
    # Summed one by one: eight copies for each of five networks would fill the memory.
    total: Any = None
    for predict_fn, copy in itertools.product(predict_fns, copies):
      output = predict_fn(copy.of(images))
      if not isinstance(output, Mapping):
        output = copy.undone(np.asarray(output))
      if spread:
        output = np.concatenate([output, entropy(output)[..., None]], -1)
      total = output if total is None else _sum(total, output)
    count = len(predict_fns) * len(copies)
    if isinstance(total, Mapping):
      return {name: value / count for name, value in total.items()}
    return total / count

  # An image is padded once, so that it fits all of them.
  return ImagePredictor(mean, math.lcm(*multiples))


def _sum(total: Any, output: Any) -> Any:
  """The sum of two predictions: arrays, or dicts of them."""
  if isinstance(total, Mapping):
    return {name: value + output[name] for name, value in total.items()}
  return total + output


def entropy(probs: Float[np.ndarray, '*space k']) -> Float[np.ndarray, '*space']:
  """Returns the entropy of class probabilities as a fraction of the largest possible, 0 to 1."""
  # The floor makes 0 log 0 = 0.
  logs = np.log(np.maximum(probs, np.finfo(np.float32).tiny))
  return -(probs * logs).sum(-1) / np.float32(np.log(max(probs.shape[-1], 2)))


def split(
  probs: Float[np.ndarray, '*space channels'], spread: bool
) -> tuple[Float[np.ndarray, '*space k'], Float[np.ndarray, '*space'] | None]:
  """Returns class probabilities, and the mean entropy that `average` put behind them, if it did."""
  if not spread:
    return probs, None
  return probs[..., :-1], probs[..., -1]


def disagreement(
  probs: Float[np.ndarray, '*space k'], mean_entropy: Float[np.ndarray, '*space']
) -> Float[np.ndarray, '*space']:
  """Returns the mutual information of class and network, on the scale of `entropy`.

  It is the entropy of the mean less the mean entropy, and 0 where all networks predict the same
  (BALD, Houlsby et al. 2011; deep ensembles, Lakshminarayanan et al. 2017).

  Args:
    probs: mean class probabilities.
    mean_entropy: of the single predictions.
  """
  # Rounding may bring it below 0.
  return np.clip(entropy(probs) - mean_entropy, 0, 1)
