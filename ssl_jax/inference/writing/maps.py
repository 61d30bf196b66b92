"""Maps of class probabilities and of uncertainty, as files of 8 or 16 bits.

0 is stored as 0 and 1 as the largest number, 255 or 65535. Entropy and disagreement are fractions
of the largest possible entropy, that of equal probabilities.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import tifffile
from jaxtyping import Float, Num, UInt
from nibabel import orientations

from ssl_jax.inference.averaging import disagreement, entropy
from ssl_jax.io import atomic, nifti
from ssl_jax.io.formats.pixel_size import PixelSize

UNCERTAINTIES = 'entropy', 'disagreement'
"""Channels of maps of uncertainty; the second one of several predictions only."""

KINDS = {8: np.uint8, 16: np.uint16}
"""Kinds of numbers, by bits."""


def quantize(values: Float[np.ndarray, '*shape'], bits: int) -> UInt[np.ndarray, '*shape']:
  """Returns values of 0 to 1 as whole numbers, rounded to the nearest."""
  top = 2**bits - 1
  return (np.clip(values, 0, 1) * np.float32(top) + np.float32(0.5)).astype(KINDS[bits])


def uncertainty(
  probs: Float[np.ndarray, '*space k'], mean_entropy: Float[np.ndarray, '*space'] | None
) -> tuple[Float[np.ndarray, '*space channels'], list[str]]:
  """Returns maps of uncertainty and their names: entropy and, of several networks, disagreement.

  Args:
    probs: class probabilities.
    mean_entropy: of the single predictions; None where there was one.
  """
  maps = [entropy(probs)]
  if mean_entropy is not None:
    maps.append(disagreement(probs, mean_entropy))
  return np.stack(maps, -1), list(UNCERTAINTIES[: len(maps)])


def write_image(
  path: Path, maps: Num[np.ndarray, 'h w channels'], names: Sequence[str], pixel: PixelSize | None
) -> None:
  """Writes maps of an image as an OME-TIFF with a named channel for each."""
  metadata: dict[str, Any] = {'axes': 'CYX', 'Channel': {'Name': list(names)}}
  if pixel is not None:
    metadata |= {'PhysicalSizeX': pixel.x, 'PhysicalSizeXUnit': 'µm'}
    metadata |= {'PhysicalSizeY': pixel.y, 'PhysicalSizeYUnit': 'µm'}
  planes = np.ascontiguousarray(np.moveaxis(maps, -1, 0))
  with atomic.replacing(path) as temporary:
    tifffile.imwrite(
      temporary, planes, ome=True, photometric='minisblack', compression='zlib', metadata=metadata
    )


def write_volume(
  path: Path, maps: UInt[np.ndarray, 'x y z channels'], names: Sequence[str], like: Any
) -> None:
  """Writes maps of a volume, in RAS+, as NIfTI with four axes on the grid of the image `like`.

  Viewers show 0 to 1, by the slope in the header. The names are in `descrip` as far as they fit (80
  bytes), and in full in an extension that holds a JSON comment.
  """
  from_ras = orientations.ornt_transform(nifti.RAS, orientations.io_orientation(like.affine))
  write_stored_volume(path, orientations.apply_orientation(maps, from_ras), names, like)


def write_stored_volume(
  path: Path, native: UInt[np.ndarray, 'i j k channels'], names: Sequence[str], like: Any
) -> None:
  """As write_volume, for maps in the order of axes of the image `like`."""
  header = like.header.copy()
  header.set_data_dtype(native.dtype)
  # The display range of the image means nothing here.
  header['cal_min'] = 0
  header['cal_max'] = 1
  header['descrip'] = ', '.join(names).encode()[:79]
  image = nibabel.Nifti1Image(native, like.affine, header)
  comment = json.dumps({'channels': list(names)}).encode()
  image.header.extensions.append(nibabel.nifti1.Nifti1Extension('comment', comment))
  image.header.set_slope_inter(1 / np.iinfo(native.dtype).max, 0)
  with atomic.replacing(path) as temporary:
    nibabel.save(image, temporary)
