"""The slices of a NIfTI volume, for networks of two dimensions that were trained on image files.

A slice is what lies along the third axis of the file, with rows along its second and columns along
its first, as SimpleITK, ITK-SNAP and FSL number them.
"""

from pathlib import Path

import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.io import nifti
from ssl_jax.io.formats.stored_image import CHANNELS, GRAY, RGB, Header
from ssl_jax.io.stacks import planes
from ssl_jax.io.stacks.planes import NIFTI, Planes


def open_planes(path: Path) -> Planes:
  """Reads a volume; a fourth axis is channels.

  Raises:
    UserError: if the file is broken, or has another number of axes.
  """
  image, raw = nifti.load(path)
  layout = GRAY
  if raw.dtype.names:  # colors: records of R, G and B
    raw, layout = np.stack([raw[name] for name in raw.dtype.names[:3]], -1), RGB
  while raw.ndim > 3 and raw.shape[-1] == 1:  # many tools write a fourth axis of length 1
    raw = raw[..., 0]
  if raw.ndim not in (3, 4) or min(raw.shape) < 1:
    raise UserError(
      f'{path} has the shape {raw.shape}, and a volume has three axes, or four with channels; '
      'split it.'
    )
  voxels = raw if raw.ndim == 4 else raw[..., None]
  width, height, count, channels = voxels.shape
  if channels > 1 and layout == GRAY:
    layout = CHANNELS
  # As image files are read: of whole numbers up to 16 bits nothing is lost.
  dtype = np.dtype({'uint8': 'uint8', 'uint16': 'uint16'}.get(raw.dtype.name, 'float32'))

  def read(plane: int, rows: slice, columns: slice) -> np.ndarray:
    part = voxels[columns, rows, plane].swapaxes(0, 1)
    return planes.as_samples(part.astype(dtype, copy=False), str(path))

  header = Header(height, width, channels, dtype, layout)
  return Planes(str(path), header, 'Z', (count,), read, NIFTI, {'like': image})
