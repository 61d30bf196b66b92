"""Three planes of a volume in one picture, as viewers of volumes lay them out."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ssl_jax.types import BACKGROUND, IGNORE

GAP = 4
"""Pixels between planes."""


class Place(NamedTuple):
  """The voxel that the planes go through, counted from 0."""

  z: int
  y: int
  x: int

  def text(self) -> str:
    """Where the planes lie, for a caption."""
    return f'planes z {self.z}, y {self.y}, x {self.x}'


def marked_place(mask: np.ndarray) -> Place:
  """Returns where the planes go through: along each axis where the mask [z, y, x] marks most."""
  marked = (mask != BACKGROUND) & (mask != IGNORE)
  if not marked.any():
    # Nothing to look for; the middle shows more than the first slice.
    return Place(*(side // 2 for side in mask.shape))
  return Place(
    int(marked.sum((1, 2)).argmax()),
    int(marked.sum((0, 2)).argmax()),
    int(marked.sum((0, 1)).argmax()),
  )


def montage(volume: Any, place: Place, spacing: Sequence[float] | None = None) -> np.ndarray:
  """Returns three planes of a volume in one image [H, W, ...].

  Above, from the front (coronal) and from the side (sagittal), both with the head upwards; below,
  from the feet (axial), in line with the first. The rest is as dark as the darkest pixel.

  Args:
    volume: values [z, y, x, ...], or class ids [z, y, x].
    place: the voxel that all planes go through.
    spacing: mm of a voxel along z, y and x; None: they are cubes.
  """
  along_z, along_y, along_x = _indices(volume.shape[:3], spacing)
  front = np.asarray(volume[:, place.y])[along_z[::-1]][:, along_x]
  side = np.asarray(volume[:, :, place.x])[along_z[::-1]][:, along_y]
  below = np.asarray(volume[place.z])[along_y][:, along_x]
  height, width = len(along_z), len(along_x)
  shape = (height + GAP + len(along_y), width + GAP + len(along_y), *front.shape[2:])
  canvas = np.full(shape, min(front.min(), side.min(), below.min()), front.dtype)
  canvas[:height, :width] = front
  canvas[:height, width + GAP :] = side
  canvas[height + GAP :, :width] = below
  return canvas


def _indices(shape: Sequence[int], spacing: Sequence[float] | None) -> list[np.ndarray]:
  """Along each axis the voxel of each pixel; pixels are as large as the smallest voxel side."""
  lengths = np.asarray(spacing or (1.0, 1.0, 1.0))
  indices = []
  for size, factor in zip(shape, lengths / lengths.min(), strict=True):
    # The middles of pixels, in voxels.
    middles = (np.arange(max(round(size * factor), 1)) + 0.5) / factor
    indices.append(np.minimum(middles.astype(int), size - 1))
  return indices
