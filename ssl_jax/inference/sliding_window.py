"""Predictions of whole volumes from overlapping windows, in memory that the window bounds.

Windows move along the first axis. Of the summed probabilities only the slab that later windows can
still reach is kept; what they have left behind is reduced to class ids. So the device holds one
batch of windows, and the host the ids (one byte per voxel) and one slab of float32 with the size
window x side x side x classes.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from ssl_jax.inference.window_defaults import OVERLAP
from ssl_jax.types import PredictFn

SIGMA = 1 / 8
"""Standard deviation of the Gaussian weight, as a fraction of the window's side (nnU-Net)."""


def window_starts(length: int, window: int, overlap: float) -> list[int]:
  """Returns the first voxels of windows that cover an axis of `length` voxels.

  They are evenly spaced, and neighbors share at least the fraction `overlap` of a window.
  """
  if length <= window:
    return [0]
  # Neighbors are at most window * (1 - overlap) apart; one more window than there are gaps.
  count = int(np.ceil((length - window) / (window * (1 - overlap)))) + 1
  # The last window ends exactly at the end of the axis.
  return np.linspace(0, length - window, count).round().astype(int).tolist()


def blend_weights(window: Sequence[int], blend: str) -> Float[np.ndarray, 'i j k']:
  """Returns the weight of each voxel of a window, by its position in the window."""
  if blend == 'constant':
    return np.ones(window, np.float32)
  # Voxels from the middle of the window, along each axis.
  offsets = [np.arange(side) - (side - 1) / 2 for side in window]
  curves = [np.exp(-0.5 * (x / (SIGMA * len(x))) ** 2) for x in offsets]
  product = curves[0][:, None, None] * curves[1][None, :, None] * curves[2][None, None, :]
  # Corners keep a small weight, so that a voxel that only they cover is still divided by a number.
  return np.maximum(product, 1e-4).astype(np.float32)


def predict_volume(
  predict_fn: PredictFn,
  volume: Float[np.ndarray, 'x y z c'],
  window: Sequence[int],
  overlap: float = OVERLAP,
  blend: str = 'constant',
  batch: int = 1,
) -> UInt8[np.ndarray, 'x y z']:
  """Returns the class ids of a volume.

  Args:
    predict_fn: gives the class probabilities of windows; all its calls have one shape.
    volume: intensities in [0, 1]; padded with zeros where it is smaller than the window.
    window: size in voxels, in the axes of the volume.
    overlap: fraction of a window that neighbors share.
    blend: one of window_defaults.BLENDS.
    batch: windows that are predicted together; it changes no id.
  """
  ids = np.zeros(volume.shape[:3], np.uint8)
  for planes, sums in _summed_slabs(predict_fn, volume, window, overlap, blend, batch):
    # Dividing by the sum of the weights would not change which class is largest.
    ids[planes] = sums.argmax(-1)
  return ids


def predict_probabilities(
  predict_fn: PredictFn,
  volume: Float[np.ndarray, 'x y z c'],
  window: Sequence[int],
  overlap: float = OVERLAP,
  blend: str = 'constant',
  batch: int = 1,
  more: int = 0,
) -> Float[np.ndarray, 'x y z k']:
  """Returns the class probabilities of a volume, all of them in memory; else as predict_volume.

  The last `more` channels are no probabilities, but averaged with them.
  """
  slabs = _summed_slabs(predict_fn, volume, window, overlap, blend, batch)
  parts = []
  for _, sums in slabs:
    # The classes' sums add up to the sum of the weights.
    weights = sums[..., : sums.shape[-1] - more].sum(-1, keepdims=True)
    # The division makes a copy, which is needed: `sums` is a view of a buffer that is used again.
    parts.append(sums / weights)
  return np.concatenate(parts)


class WindowedPredictor(NamedTuple):
  """A PredictFn [B, x, y, z, classes] of whole volumes [B, x, y, z, C], computed from windows.

  The network only ever sees windows of the size that it was trained on: with instance norm its
  outputs depend on the size. Where class ids are enough, `labels` needs less memory.
  """

  predict_fn: PredictFn
  window: Sequence[int]

  def __call__(self, volumes: Float[np.ndarray, 'b x y z c']) -> Float[np.ndarray, 'b x y z k']:
    """Returns the class probabilities of volumes of one size."""
    # Crops during training have the window's size already and need no windows.
    if volumes.shape[1:4] == tuple(self.window):
      return np.asarray(self.predict_fn(volumes))
    # One volume after another, because each may fill the memory.
    return np.stack([self._probabilities(volume) for volume in volumes])

  def labels(
    self, volume: Float[np.ndarray, 'x y z c']
  ) -> tuple[UInt8[np.ndarray, 'x y z'], Float[np.ndarray, 'x y z']]:
    """Returns the class ids of a volume and their probabilities, with one slab in memory."""
    ids = np.zeros(volume.shape[:3], np.uint8)
    confidence = np.zeros(volume.shape[:3], np.float32)
    for planes, sums in self._slabs(volume):
      ids[planes] = sums.argmax(-1)
      # The classes' sums add up to the sum of the weights, so that this is the probability.
      confidence[planes] = sums.max(-1) / sums.sum(-1)
    return ids, confidence

  def _probabilities(self, volume: Float[np.ndarray, 'x y z c']) -> Float[np.ndarray, 'x y z k']:
    return predict_probabilities(self.predict_fn, volume, self.window)

  def _slabs(
    self, volume: Float[np.ndarray, 'x y z c']
  ) -> Iterator[tuple[slice, Float[np.ndarray, 'd y z k']]]:
    # Constant weights and a quarter of overlap, as in the paper of FLARE22 (Gao et al. 2022).
    return _summed_slabs(self.predict_fn, volume, self.window, OVERLAP, 'constant', 1)


def _summed_slabs(
  predict_fn: PredictFn,
  volume: Float[np.ndarray, 'x y z c'],
  window: Sequence[int],
  overlap: float,
  blend: str,
  batch: int,
) -> Iterator[tuple[slice, Float[np.ndarray, 'd y z k']]]:
  """Yields slices of the first axis, and the weighted sums of the probabilities in them."""
  size = volume.shape[:3]
  padded = _pad_to_window(volume, window)
  starts = [window_starts(n, w, overlap) for n, w in zip(padded.shape[:3], window, strict=True)]
  # Windows of one slab differ in their position along the second and third axes only.
  corners = list(itertools.product(starts[1], starts[2]))
  weight = blend_weights(window, blend)[..., None]
  # [window, y, z, classes]: the sums of all windows that start at `start`, and of earlier ones.
  slab = None
  # Where the next slab begins; behind the last one nothing follows, so all of it is finished.
  next_starts = [*starts[0][1:], padded.shape[0]]
  for start, next_start in zip(starts[0], next_starts, strict=True):
    for first in range(0, len(corners), batch):
      cuts = [
        (slice(row, row + window[1]), slice(column, column + window[2]))
        for row, column in corners[first : first + batch]
      ]
      planes = slice(start, start + window[0])
      # [windows of this batch, *window, C]
      windows = np.stack([padded[(planes, *cut)] for cut in cuts])
      # The last batch is filled up: one shape, one compilation.
      windows = np.pad(windows, [(0, batch - len(cuts)), *[(0, 0)] * 4], mode='edge')
      for cut, probs in zip(cuts, np.asarray(predict_fn(windows)), strict=False):
        if slab is None:  # only now is the number of classes known
          slab = np.zeros((window[0], *padded.shape[1:3], probs.shape[-1]), np.float32)
        slab[(slice(None), *cut)] += weight * probs
    assert slab is not None  # there is at least one window
    # Planes that only padding made are cut off.
    finished = min(next_start, size[0]) - start
    yield slice(start, start + finished), slab[:finished, : size[1], : size[2]]
    # No later window reaches these planes: the rest moves to the front.
    passed = next_start - start
    # The front of the buffer is overwritten: what was yielded must have been used or copied by now.
    slab[: len(slab) - passed] = slab[passed:]
    slab[len(slab) - passed :] = 0


def _pad_to_window(
  volume: Float[np.ndarray, 'x y z c'], window: Sequence[int]
) -> Float[np.ndarray, 'i j k c']:
  """The volume, with zeros behind it where it is smaller than the window."""
  # Only behind the volume, so that indices of voxels stay the same.
  margin = [(0, max(w - n, 0)) for w, n in zip(window, volume.shape[:3], strict=True)]
  if not any(after for _, after in margin):
    return volume
  return np.pad(volume, [*margin, (0, 0)])
