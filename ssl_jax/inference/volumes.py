"""Class ids of whole volumes, on the volumes' own grids."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Integer, UInt8

from ssl_jax.data.volume_preprocessing import Placement, VolumePreprocessing
from ssl_jax.inference import averaging, instances, slices, sliding_window, window_defaults
from ssl_jax.inference.writing import cleaning
from ssl_jax.inference.writing.cleaning import Cleaning
from ssl_jax.io import nifti
from ssl_jax.types import PredictFn

COARSER = 2.0
"""Factor on the voxels' sides where a volume does not fit into memory (Gao et al. 2022)."""


class WindowSettings(NamedTuple):
  """How a volume goes through a network."""

  size: Sequence[int]  # voxels: z, y, x
  overlap: float = window_defaults.OVERLAP  # fraction of a window that neighbors share
  blend: str = 'constant'  # one of window_defaults.BLENDS
  batch: int = 1  # windows that are predicted together
  max_voxels: int = 0  # prepared voxels that fit into memory; 0: as many as do
  largest: bool = False  # whether only the largest connected component of each organ is kept
  instances: float | None = None  # of instances: the smallest, in prepared voxels; None: of classes
  probabilities: bool = False  # whether those of all classes are kept
  spread: bool = False  # whether predictions end with the mean entropy (averaging.average)


class Segmentation(NamedTuple):
  """Class ids on a volume's own grid, and whether it had to be predicted at coarser voxels."""

  ids: UInt8[np.ndarray, 'x y z']
  coarser: bool
  instances: Integer[np.ndarray, 'x y z'] | None = None  # of a network of instances: their ids
  # Of all classes, where they were asked for, on the prepared grid, and where that lies.
  probs: Float[np.ndarray, 'i j k channels'] | None = None
  placement: Placement | None = None


def segment_volume(
  predict_fn: PredictFn,
  volume: nifti.Volume,
  preprocessing: VolumePreprocessing,
  windows: WindowSettings,
) -> Segmentation:
  """Returns the class ids of a volume; with COARSER voxels where memory runs out.

  A network of two dimensions predicts the slices one by one and knows no windows.
  """
  try:
    return _segment_at(1.0, predict_fn, volume, preprocessing, windows)
  except (MemoryError, jax.errors.JaxRuntimeError) as error:
    # XLA reports every failure with this class; only lack of memory is worth another attempt.
    if isinstance(error, jax.errors.JaxRuntimeError) and 'RESOURCE_EXHAUSTED' not in str(error):
      raise
  # Outside of the except block, so that the failed attempt's arrays are released first.
  return _segment_at(COARSER, predict_fn, volume, preprocessing, windows)


def _segment_at(
  coarser: float,
  predict_fn: PredictFn,
  volume: nifti.Volume,
  preprocessing: VolumePreprocessing,
  windows: WindowSettings,
) -> Segmentation:
  """Class ids from voxels whose sides are `coarser` times as long as in training."""
  placement = preprocessing.placement(volume)
  image = preprocessing.image(volume, placement, coarser)
  # Raised before the network runs; the coarser attempt is not refused a second time. A few slices
  # at a time always fit into memory.
  too_large = windows.max_voxels and image[..., 0].size > windows.max_voxels and coarser == 1
  if too_large and not preprocessing.slices:
    raise MemoryError
  if windows.instances is not None or windows.probabilities:
    kept = _probabilities(predict_fn, image, preprocessing, windows)
    probs, _ = averaging.split(kept, windows.spread)
    # Nearest neighbors, as below.
    native = preprocessing.restore(probs.argmax(-1).astype(np.uint8), placement)
    separated = None
    if windows.instances is not None:
      # A voxel that is twice as long along each axis is eight.
      found = instances.separate(probs, windows.instances / coarser**3)
      separated = preprocessing.restore(found, placement)
    elif windows.largest:
      native = largest_components(native)
    if not windows.probabilities:
      return Segmentation(native, coarser > 1, separated)
    return Segmentation(native, coarser > 1, separated, kept, placement)
  if preprocessing.slices:
    [(_, ids, _)] = slices.predict_volumes(predict_fn, [image], preprocessing.size)
  else:
    ids = sliding_window.predict_volume(
      predict_fn, image, windows.size, windows.overlap, windows.blend, windows.batch
    )
  # Nearest neighbors: class ids cannot be interpolated.
  native = preprocessing.restore(ids, placement)
  return Segmentation(largest_components(native) if windows.largest else native, coarser > 1)


def _probabilities(
  predict_fn: PredictFn,
  image: Float[np.ndarray, 'z y x c'],
  preprocessing: VolumePreprocessing,
  windows: WindowSettings,
) -> Float[np.ndarray, 'z y x k']:
  if preprocessing.slices:
    # So that classes are the same whether their probabilities are kept or not.
    smooth = windows.instances is not None
    return slices.predict_probabilities(predict_fn, image, preprocessing.size, smooth)
  return sliding_window.predict_probabilities(
    predict_fn,
    image,
    windows.size,
    windows.overlap,
    windows.blend,
    windows.batch,
    more=int(windows.spread),
  )


def largest_components(ids: UInt8[np.ndarray, 'x y z']) -> UInt8[np.ndarray, 'x y z']:
  """Returns the ids with only the largest connected component of each class kept.

  Voxels are connected by their faces; of components of equal size the first is kept.
  """
  return cleaning.clean(ids, Cleaning(largest=True))
