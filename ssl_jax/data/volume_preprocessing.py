"""How a volume becomes what a network sees, and how its answer comes back to the volume's own grid.

Cropped to the foreground, resampled, values scaled to 0..1, axes in the order [z, y, x] (so that
views flip and turn slices as they do images).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer, UInt8

from ssl_jax.errors import UserError
from ssl_jax.io import nifti


class Placement(NamedTuple):
  """Where in a volume its prepared part came from."""

  shape: tuple[int, int, int]  # of the volume, [x, y, z] in RAS+
  box: tuple[tuple[int, int], ...]  # first and last + 1 voxel of the part along each axis


class Preparation(NamedTuple):
  """The knobs: mm of a voxel (None: as it is), values that become 0 and 1, what is no background.

  `window` are raw values (of CT: Hounsfield units), or None, where `percentiles` of each volume's
  own foreground take their place. Values outside become 0, or (`clip`) the nearer end. `above` is
  the value above which a voxel is foreground; None keeps the whole volume.
  """

  spacing: tuple[float, float, float] | None = None
  window: tuple[float, float] | None = None
  clip: bool = False
  above: float | None = None
  percentiles: tuple[float, float] = (0.5, 99.5)

  def check(self) -> None:
    """Raises UserError for a knob that cannot be."""
    if self.spacing is not None and (len(self.spacing) != 3 or min(self.spacing) <= 0):
      raise UserError(f'data.spacing={self.spacing} is not three lengths in mm above 0.')
    for knob in ('window', 'percentiles'):
      value = getattr(self, knob)
      if value is not None and (len(value) != 2 or value[0] >= value[1]):
        raise UserError(f'data.{knob}={value} is not a pair of numbers, the smaller one first.')

  def place(self, volume: nifti.Volume) -> Placement:
    """The part of a volume that is prepared."""
    box = [(0, n) for n in volume.voxels.shape]
    if self.above is not None:
      box = [(side.start, side.stop) for side in nifti.foreground(volume.voxels, self.above)]
    return Placement(volume.voxels.shape, tuple(box))

  def image(
    self, volume: nifti.Volume, place: Placement, coarser: float = 1.0
  ) -> Float[np.ndarray, 'z y x 1']:
    """The prepared image; voxels are `coarser` times as long where memory asks for it."""
    part = volume.voxels[_slices(place)]
    low, high = self.window or np.percentile(part, self.percentiles)
    resampled = nifti.resample(part, self._size(part.shape, volume.spacing, coarser))
    high = max(high, low + 1e-6)
    return np.ascontiguousarray(nifti.window(resampled, low, high, self.clip).T)[..., None]

  def labels(
    self, ids: Integer[np.ndarray, 'i j k'], volume: nifti.Volume, place: Placement
  ) -> UInt8[np.ndarray, 'z y x']:
    """The class ids of a volume on the grid of its prepared image."""
    part = ids[_slices(place)]
    size = self._size(part.shape, volume.spacing, 1.0)
    return np.ascontiguousarray(nifti.resample(part, size, nearest=True).T.astype(np.uint8))

  def back(self, ids: Integer[np.ndarray, 'z y x'], place: Placement) -> UInt8[np.ndarray, 'i j k']:
    """Class ids of a prepared image on the volume's own grid; 0 outside the part."""
    whole, here = np.zeros(place.shape, np.uint8), _slices(place)
    whole[here] = nifti.resample(ids.T, whole[here].shape, nearest=True)
    return whole

  def _size(self, shape: Sequence[int], spacing: Sequence[float], coarser: float) -> list[int]:
    wanted = [mm * coarser for mm in (self.spacing or spacing)]
    return nifti.grid(shape, spacing, wanted)


def _slices(place: Placement) -> nifti.Box:
  return tuple(slice(*side) for side in place.box)
