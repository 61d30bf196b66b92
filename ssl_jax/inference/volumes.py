"""Organs in whole volumes, on the volumes' own grids: found, measured, and what it cost."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import UInt8
from scipy import ndimage

from ssl_jax.data.volume_preprocessing import Preparation
from ssl_jax.inference import sliding_window
from ssl_jax.io import nifti
from ssl_jax.types import PredictFn

COARSER = 2.0
"""How many times longer voxels get where a volume does not fit into memory (Gao et al. 2022)."""


class Windows(NamedTuple):
  """How a volume goes through a network; `most` of its prepared voxels fit into memory (0: any).

  With `largest` only the largest connected piece of each organ is kept.
  """

  size: tuple[int, int, int]  # z, y, x
  overlap: float = sliding_window.OVERLAP
  blend: str = 'constant'
  batch: int = 1
  most: int = 0
  largest: bool = False


class Found(NamedTuple):
  """Class ids on a volume's own grid, and whether it had to be made coarser."""

  ids: UInt8[np.ndarray, 'x y z']
  coarser: bool


def segment(answer: PredictFn, volume: nifti.Volume, how: Preparation, windows: Windows) -> Found:
  """The class ids of a volume; once more with coarser voxels where memory runs out."""
  place = how.place(volume)

  def at(coarser: float) -> np.ndarray:
    image = how.image(volume, place, coarser)
    if windows.most and image.size > windows.most and coarser == 1:
      raise MemoryError
    knobs = windows.size, windows.overlap, windows.blend, windows.batch
    ids = how.back(sliding_window.slide(answer, image, *knobs), place)
    return largest_components(ids) if windows.largest else ids

  try:
    return Found(at(1.0), False)
  except (MemoryError, jax.errors.JaxRuntimeError) as error:
    if isinstance(error, jax.errors.JaxRuntimeError) and 'RESOURCE_EXHAUSTED' not in str(error):
      raise
  return Found(at(COARSER), True)


def largest_components(ids: UInt8[np.ndarray, 'x y z']) -> UInt8[np.ndarray, 'x y z']:
  """The ids with background in place of all but the largest piece of each class.

  Voxels of a piece share faces; of pieces of one size the first is kept.
  """
  kept = np.zeros_like(ids)
  for organ, box in enumerate(ndimage.find_objects(ids), start=1):
    if box is not None:
      pieces, count = ndimage.label(ids[box] == organ)
      sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
      kept[box][pieces == sizes.argmax() + 1] = organ
  return kept
