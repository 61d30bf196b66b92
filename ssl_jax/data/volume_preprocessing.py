"""How a volume becomes the image that a network sees, and how a prediction comes back.

The volume is cropped to its foreground and resampled, its values are scaled to 0..1, and its axes
are put in the order [z, y, x], so that views flip and turn its slices as they do images.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Integer, Num, UInt8

from ssl_jax.errors import UserError
from ssl_jax.io.formats.nifti_geometry import text_of
from ssl_jax.io.interpolation import interpolation_matrix
from ssl_jax.io.nifti import Volume

Box = tuple[slice, slice, slice]

FAINTEST = 1 / 255
"""Fraction of the window that the values of a volume have to span at least."""

FEWEST = 4
"""Voxels along an axis that a volume must keep when it is resampled, if it had as many."""

MOST = 2**31
"""Voxels that a volume may have when it is resampled."""


class Placement(NamedTuple):
  """Which part of a volume was preprocessed."""

  shape: tuple[int, int, int]  # of the volume, [x, y, z] in RAS+
  box: tuple[tuple[int, int], ...]  # first and last + 1 voxel of the part along each axis

  def slices(self) -> Box:
    """Returns the part as an index of the volume."""
    x, y, z = (slice(start, stop) for start, stop in self.box)
    return x, y, z


class VolumePreprocessing(NamedTuple):
  """Settings of the preprocessing, which a run keeps for prediction."""

  spacing: tuple[float, ...] | None = None  # mm along x, y and z; None: as each volume is
  # Raw values that become 0 and 1 (CT: Hounsfield units): of all channels, or a pair for each.
  window: tuple[float, ...] | tuple[tuple[float, ...], ...] | None = None
  clip: bool = False  # whether values outside become 0 or 1, the nearer one; else all become 0
  foreground_threshold: float | None = None  # values above are foreground; None: no cropping
  percentiles: tuple[float, ...] = (0.5, 99.5)  # of each volume's part, where there is no window
  # What follows changes no prepared array: slices are taken out of these (see slice_source.py).
  slices: bool = False  # whether a network of two dimensions sees the slices one by one
  size: Sequence[int] | None = None  # rows and columns that slices are resized to; None: as it is
  # Of masks alone, and so of no array of most runs (see of_arrays).
  ignore_affine: bool = False  # whether masks lie on their images whatever their headers say

  def check(self) -> None:
    """Checks the settings.

    Raises:
      UserError: naming the first that is wrong.
    """
    if self.spacing is not None and (len(self.spacing) != 3 or min(self.spacing) <= 0):
      raise UserError(f'data.spacing={self.spacing} is not three lengths in mm above 0.')
    windows = [('window', pair) for pair in self.window_pairs()]
    for name, pair in (*windows, ('percentiles', self.percentiles)):
      if len(pair) != 2 or pair[0] >= pair[1]:
        raise UserError(f'data.{name}={pair} is not a pair of numbers, the smaller one first.')
    if self.size is not None and not self.slices:
      raise UserError('data.size is the size of slices; set data.slices=True as well.')
    if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
      raise UserError(f'data.size={self.size} is not two numbers of pixels, rows and columns.')

  def window_pairs(self) -> list[tuple[float, ...]]:
    """Returns one pair for all channels, or one for each; none where there is no window."""
    if not self.window:
      return []
    first: Any = self.window[0]
    pairs: Any = self.window if isinstance(first, Sequence) else [self.window]
    return [tuple(pair) for pair in pairs]

  def misfits(self, volume: Volume) -> list[tuple[int, str]]:
    """Returns the channels that lie outside of their window, each with a phrase that says so."""
    found = []
    windows = self.window_pairs()
    for index, (low, high) in enumerate(windows):
      # With one window for all channels, all are looked at together.
      voxels = volume.voxels[..., index] if len(windows) > 1 else volume.voxels
      darkest, brightest = float(voxels.min()), float(voxels.max())
      if min(brightest, high) - max(darkest, low) < FAINTEST * (high - low):
        phrase = (
          f'its values {darkest:g} to {brightest:g} do not fit the window {low:g} to {high:g}'
        )
        found.append((index, phrase))
    return found

  def of_arrays(self) -> tuple:
    """Returns the settings that decide the prepared arrays, by which a cache knows them."""
    arrays = tuple(self)[: self._fields.index('slices')]
    return (*arrays, 'ignore_affine') if self.ignore_affine else arrays

  def to_dict(self) -> dict[str, Any]:
    """Returns the settings as a run keeps them; those that are off as before there were any."""
    fields = self._asdict()
    if not self.ignore_affine:
      del fields['ignore_affine']
    if not self.slices:
      del fields['slices'], fields['size']
    return fields

  def placement(self, volume: Volume) -> Placement:
    """Finds the part of a volume to preprocess: the box around its foreground, or all of it."""
    x, y, z = volume.voxels.shape[:3]
    box = ((0, x), (0, y), (0, z))
    if self.foreground_threshold is not None:
      # A voxel is foreground where any channel is.
      brightest = volume.voxels if volume.voxels.ndim == 3 else volume.voxels.max(-1)
      sides = foreground_box(brightest, self.foreground_threshold)
      box = tuple((side.start, side.stop) for side in sides)
    return Placement((x, y, z), box)

  def image(
    self, volume: Volume, placement: Placement, coarser: float = 1.0
  ) -> Float[np.ndarray, 'z y x c']:
    """Returns the preprocessed image.

    Args:
      volume: raw values.
      placement: the part of it.
      coarser: factor on the voxels' sides, above 1 where memory does not suffice.

    Raises:
      UserError: if there are windows for another number of channels, or the volume would become
        too small, or too large, at the spacing.
    """
    # Cropped first, so that percentiles are those of the body and not of the air around it.
    part = volume.voxels[placement.slices()]
    if coarser == 1:
      self._check_size(volume, part.shape[:3])
    size = self._size(part.shape[:3], volume.spacing, coarser)
    channels = [part[..., c] for c in range(part.shape[3])] if part.ndim == 4 else [part]
    windows = self.window_pairs()
    if len(windows) not in (0, 1, len(channels)):
      raise UserError(
        f'data.window has {len(windows)} pairs but the volumes have {len(channels)} channels; give '
        'one pair for all, or one for each.'
      )
    scaled = []
    # Channels differ in scale (T1, T2, CT and PET), so each has its own window or percentiles.
    for index, channel in enumerate(channels):
      if windows:
        low, high = windows[index % len(windows)]
      else:
        # Plain numbers: those of NumPy would make the volume float64.
        low, high = map(float, np.percentile(channel, self.percentiles))
      # A volume of one value would be divided by 0.
      high = max(high, low + 1e-6)
      scaled.append(scale_window(resample(channel, size), low, high, self.clip).T)
    # [x, y, z] of each channel -> [z, y, x, C]
    return np.ascontiguousarray(np.stack(scaled, -1))

  def slice_size(self, shape: Sequence[int], spacing: Sequence[float]) -> tuple[int, int] | None:
    """Returns the rows and columns of a volume's slices as a network sees them.

    Args:
      shape: voxels along x, y and z.
      spacing: mm.

    Returns:
      None where it depends on the pixels, because volumes are cut to their foreground.
    """
    if self.size is not None:
      return self.size[0], self.size[1]
    if self.foreground_threshold is not None:
      return None
    columns, rows, _ = self._size(shape[:3], spacing, 1.0)
    return rows, columns

  def labels(
    self, ids: Integer[np.ndarray, 'i j k'], volume: Volume, placement: Placement
  ) -> UInt8[np.ndarray, 'z y x']:
    """Returns the class ids of a volume on the grid of its preprocessed image."""
    return self.instances(ids, volume, placement).astype(np.uint8)

  def instances(
    self, ids: Integer[np.ndarray, 'i j k'], volume: Volume, placement: Placement
  ) -> Integer[np.ndarray, 'z y x']:
    """As `labels`, of ids that may be larger than 255."""
    # The same steps as in `image`, or labels would not lie on their voxels.
    part = ids[placement.slices()]
    size = self._size(part.shape, volume.spacing, 1.0)
    return np.ascontiguousarray(resample(part, size, nearest=True).T)

  def restore(
    self, ids: Integer[np.ndarray, 'z y x'], placement: Placement
  ) -> Integer[np.ndarray, 'i j k']:
    """Brings ids of a preprocessed image back to the volume's grid; 0 outside the part."""
    volume = np.zeros(placement.shape, ids.dtype)
    part = placement.slices()
    volume[part] = resample(ids.T, volume[part].shape, nearest=True)
    return volume

  def _check_size(self, volume: Volume, shape: Sequence[int]) -> None:
    """Raises UserError where nothing, or more than fits anywhere, would be left of a volume."""
    size = self._size(shape, volume.spacing, 1.0)
    few = any(new < min(FEWEST, old) for old, new in zip(shape, size, strict=True))
    if not few and np.prod(size, dtype=float) <= MOST:
      return
    own = ','.join(f'{mm:.4g}' for mm in volume.spacing)
    raise UserError(
      f'{volume.like.get_filename()}: {text_of(shape)} voxels of {text_of(volume.spacing)} mm '
      f'would become {text_of(size)} of {text_of(self.spacing or volume.spacing)} mm, too '
      f'{"few" if few else "many"}; if its header is right, choose a data.spacing for such volumes '
      f"(its own is --config.data.spacing='({own})'), or take it away."
    )

  def _size(self, shape: Sequence[int], spacing: Sequence[float], coarser: float) -> list[int]:
    wanted = [mm * coarser for mm in (self.spacing or spacing)]
    return resampled_size(shape, spacing, wanted)


def resampled_size(
  shape: Sequence[int], spacing: Sequence[float], wanted: Sequence[float]
) -> list[int]:
  """Returns the number of voxels along each axis at the spacing `wanted`, both in mm.

  It is n * spacing / wanted, halves rounded up, and at least 1.
  """
  size = []
  for n, mm, new_mm in zip(shape, spacing, wanted, strict=True):
    # Not `round`, which takes halves to the even number: 2.5 would become 2 and 3.5 become 4.
    size.append(max(int(np.floor(n * mm / new_mm + 0.5)), 1))
  return size


def resample(
  dense: Num[np.ndarray, 'x y z *c'], size: Sequence[int], nearest: bool = False
) -> Num[np.ndarray, 'i j k *c']:
  """Resamples the first three axes to `size` voxels over the same extent: linear, or nearest."""
  # `size` may be shorter than the shape: the channels are no axis of space.
  # Linear interpolation is separable, so the axes are resampled one after the other.
  for axis, (old, new) in enumerate(zip(dense.shape, size, strict=False)):
    if old == new:
      continue
    if nearest:
      # The old voxel in which the center of each new voxel lies.
      position = np.floor((np.arange(new) + 0.5) * (old / new)).astype(int)
      dense = np.take(dense, np.minimum(position, old - 1), axis)
    else:
      # [new, old]; tensordot puts the new axis first, and moveaxis brings it back.
      matrix = interpolation_matrix(old, new, align_corners=False)
      dense = np.moveaxis(np.tensordot(matrix, dense, (1, axis)), 0, axis)
  return dense


def foreground_box(
  voxels: Num[np.ndarray, 'x y z'], threshold: float | int = 0, margin: int = 0
) -> Box:
  """Returns the smallest box around all voxels above a threshold, `margin` voxels wider.

  It is the whole volume where no voxel is.
  """
  mask = voxels > threshold
  sides = []
  for axis, length in enumerate(voxels.shape):
    other_axes = tuple(other for other in range(3) if other != axis)
    # Positions along this axis where any voxel of the plane is foreground.
    occupied = np.flatnonzero(mask.any(other_axes))
    low, high = (int(occupied[0]), int(occupied[-1]) + 1) if len(occupied) else (0, length)
    sides.append(slice(max(low - margin, 0), min(high + margin, length)))
  x, y, z = sides
  return x, y, z


def scale_window(
  voxels: Num[np.ndarray, 'x y z'], low: float | int, high: float | int, clip: bool = False
) -> Float[np.ndarray, 'x y z']:
  """Scales low..high to 0..1; values outside become 0, or with `clip` the nearer end."""
  scaled = (voxels.astype(np.float32) - low) / (high - low)
  if clip:
    return np.clip(scaled, 0, 1)
  # The paper on FLARE22 says that values outside become 0.0. We set them to 0 after scaling, where
  # 0 is also what `low` becomes.
  inside = (scaled >= 0) & (scaled <= 1)
  return np.where(inside, scaled, np.float32(0))
