"""Class ids of a whole volume from windows, in memory that the window bounds.

Windows go along the first axis. Of the probabilities only the slab that the next windows can still
reach is kept; what they have passed is a class id. So the device holds a batch of windows, and the
host the ids (one byte a voxel) and one slab: window x side x side x classes float32.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from ssl_jax.types import PredictFn

OVERLAP = 0.25
BLENDS = ('constant', 'gaussian')
SIGMA = 1 / 8
"""Of the Gaussian weight, in sides of the window (nnU-Net)."""


def starts(length: int, window: int, overlap: float) -> list[int]:
  """First voxels of the windows that cover `length`; neighbours share `overlap` or more."""
  if length <= window:
    return [0]
  count = int(np.ceil((length - window) / (window * (1 - overlap)))) + 1
  return np.linspace(0, length - window, count).round().astype(int).tolist()


def weights(window: Sequence[int], blend: str) -> Float[np.ndarray, 'i j k']:
  """What a voxel's answer counts, by its place in the window."""
  if blend == 'constant':
    return np.ones(window, np.float32)
  each = [np.arange(side) - (side - 1) / 2 for side in window]
  curves = [np.exp(-0.5 * (x / (SIGMA * len(x))) ** 2) for x in each]
  whole = curves[0][:, None, None] * curves[1][None, :, None] * curves[2][None, None, :]
  return np.maximum(whole, 1e-4).astype(np.float32)


def slide(
  answer: PredictFn,
  volume: Float[np.ndarray, 'x y z c'],
  window: Sequence[int],
  overlap: float = OVERLAP,
  blend: str = 'constant',
  batch: int = 1,
) -> UInt8[np.ndarray, 'x y z']:
  """Class ids of a volume; `batch` windows are answered together, which changes no id.

  A volume smaller than the window is padded with zeros. Every call of `answer` is of one shape.
  """
  found = np.zeros(volume.shape[:3], np.uint8)
  for here, sums in _slabs(answer, volume, window, overlap, blend, batch):
    found[here] = sums.argmax(-1)
  return found


class Windowed(NamedTuple):
  """PredictFn [B, x, y, z, classes] of whole volumes [B, x, y, z, C], from windows.

  A network is asked about pieces of the size that it has learnt from, wherever it answers: with
  instance norm it says something else of larger ones. Where class ids will do, `labels` needs less
  memory.
  """

  answer: PredictFn
  window: Sequence[int]

  def __call__(self, volumes: Float[np.ndarray, 'b x y z c']) -> Float[np.ndarray, 'b x y z k']:
    if volumes.shape[1:4] == tuple(self.window):
      return np.asarray(self.answer(volumes))
    return np.stack([self._whole(volume) for volume in volumes])

  def labels(
    self, volume: Float[np.ndarray, 'x y z c']
  ) -> tuple[UInt8[np.ndarray, 'x y z'], Float[np.ndarray, 'x y z']]:
    """Class ids of a volume and their probabilities, in the memory of these two and one slab."""
    found = np.zeros(volume.shape[:3], np.uint8)
    sure = np.zeros(volume.shape[:3], np.float32)
    for here, sums in self._slabs(volume):
      found[here] = sums.argmax(-1)
      sure[here] = sums.max(-1) / sums.sum(-1)
    return found, sure

  def _whole(self, volume: Float[np.ndarray, 'x y z c']) -> Float[np.ndarray, 'x y z k']:
    return np.concatenate([s / s.sum(-1, keepdims=True) for _, s in self._slabs(volume)])

  def _slabs(self, volume: Float[np.ndarray, 'x y z c']) -> Iterator[tuple[slice, np.ndarray]]:
    return _slabs(self.answer, volume, self.window, OVERLAP, 'constant', 1)


def _slabs(
  answer: PredictFn,
  volume: Float[np.ndarray, 'x y z c'],
  window: Sequence[int],
  overlap: float,
  blend: str,
  batch: int,
) -> Iterator[tuple[slice, Float[np.ndarray, 'd y z k']]]:
  """Yields along the first axis where, and the weighted sums of the probabilities there."""
  shape = volume.shape[:3]
  margin = [(0, max(w - n, 0)) for w, n in zip(window, shape, strict=True)]
  padded = np.pad(volume, [*margin, (0, 0)]) if any(m for _, m in margin) else volume
  space = padded.shape[:3]
  first, *across = (starts(n, w, overlap) for n, w in zip(space, window, strict=True))
  weight = weights(window, blend)[..., None]
  own = tuple(slice(n) for n in shape[1:])
  slab = None
  for at, following in zip(first, [*first[1:], space[0]], strict=True):
    places = [*itertools.product(*across)]
    for group in (places[i : i + batch] for i in range(0, len(places), batch)):
      cuts = [tuple(slice(s, s + w) for s, w in zip(g, window[1:], strict=True)) for g in group]
      shown = np.stack([padded[(slice(at, at + window[0]), *cut)] for cut in cuts])
      shown = np.pad(shown, [(0, batch - len(group)), *[(0, 0)] * 4], mode='edge')
      for cut, probs in zip(cuts, np.asarray(answer(shown)), strict=False):
        if slab is None:
          slab = np.zeros((window[0], *space[1:], probs.shape[-1]), np.float32)
        slab[(slice(None), *cut)] += weight * probs
    done = min(following, shape[0]) - at
    yield slice(at, at + done), slab[(slice(done), *own)]
    done = following - at
    slab[: len(slab) - done] = slab[done:]
    slab[len(slab) - done :] = 0
