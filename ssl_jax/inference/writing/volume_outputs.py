"""What predict writes for a volume: masks, instances, maps, measurements, and a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, Num, UInt8
from PIL import Image

from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.errors import UserError
from ssl_jax.inference import averaging, instances
from ssl_jax.inference.volumes import Segmentation
from ssl_jax.inference.writing import cleaning, maps, measurements, outputs
from ssl_jax.inference.writing.outputs import (
  INSTANCES,
  MASK,
  MEASUREMENTS,
  OBJECTS,
  OVERLAY,
  PROBABILITIES,
  UNCERTAINTY,
  Wanted,
)
from ssl_jax.io import images, nifti
from ssl_jax.types import BACKGROUND


class VolumePrediction(NamedTuple):
  """What is predicted of a volume."""

  volume: nifti.Volume
  stats: DatasetStats
  segmentation: Segmentation
  mask: Integer[np.ndarray, 'x y z']  # cleaned class ids, on the volume's own grid
  ids: Integer[np.ndarray, 'x y z'] | None  # of instances


def templates(wanted: Wanted, stats: DatasetStats) -> dict[str, str]:
  """Returns the files of a volume by their kind, with {} for its name, in the order of writing.

  Raises:
    UserError: if outlines are wanted, which are of images.
  """
  if wanted.geojson or wanted.rois:
    name = '--geojson' if wanted.geojson else '--rois'
    raise UserError(f'{name} writes outlines of images, and this network predicts volumes.')
  return outputs.templates(wanted, stats, outputs.OF_VOLUMES)


def decide(
  volume: nifti.Volume, segmentation: Segmentation, stats: DatasetStats, wanted: Wanted
) -> VolumePrediction:
  """Returns the mask and the instances of a volume, cleaned as wanted."""
  mask, ids = cleaning.clean_predicted(segmentation.ids, segmentation.instances, wanted.cleaning)
  return VolumePrediction(volume, stats, segmentation, mask, ids)


def write(kind: str, path: Path, prediction: VolumePrediction, wanted: Wanted) -> None:
  """Writes one file; with the header of the volume, so that viewers lay it onto it."""
  volume, mask, ids = prediction.volume, prediction.mask, prediction.ids
  if kind == MASK:
    nifti.write_labels(path, mask, volume.like)
  elif kind == INSTANCES and ids is not None:
    instances.write_volume_labels(path, ids, volume)
  elif kind == OBJECTS and ids is not None:
    instances.write_volume_table(path, ids, volume)
  elif kind == MEASUREMENTS:
    voxels = volume.voxels if volume.voxels.ndim == 4 else volume.voxels[..., None]
    cubic_mm = float(np.prod(volume.spacing))
    measurements.write_table(path, mask, voxels, prediction.stats.classes, cubic_mm)
  elif kind in (PROBABILITIES, UNCERTAINTY):
    _write_maps(kind, path, prediction, wanted)
  elif kind == OVERLAY:
    shown = mask if ids is None else instances.as_colors(ids)
    images.write_image(path, three_planes(volume, shown))


def _write_maps(kind: str, path: Path, prediction: VolumePrediction, wanted: Wanted) -> None:
  """Maps of probabilities or of uncertainty, brought back to the volume's own grid as masks are."""
  segmentation, stats = prediction.segmentation, prediction.stats
  assert segmentation.probs is not None
  assert segmentation.placement is not None
  assert stats.preprocessing is not None
  preprocessing = VolumePreprocessing(**stats.preprocessing)
  probs, mean_entropy = averaging.split(segmentation.probs, wanted.spread)
  values, names = probs, list(stats.classes)
  if kind == UNCERTAINTY:
    values, names = maps.uncertainty(probs, mean_entropy)
  channels = np.moveaxis(maps.quantize(values, wanted.bits), -1, 0)
  native = [preprocessing.restore(channel, segmentation.placement) for channel in channels]
  if kind == PROBABILITIES:
    # Outside of the part that the network saw all is background.
    outside = np.ones(segmentation.placement.shape, bool)
    outside[segmentation.placement.slices()] = False
    native[BACKGROUND][outside] = 2**wanted.bits - 1
  maps.write_volume(path, np.stack(native, -1), names, prediction.volume.like)


def three_planes(
  volume: nifti.Volume, mask: Integer[np.ndarray, 'x y z'], height: int = 384
) -> UInt8[np.ndarray, 'h w 3']:
  """Returns the axial, coronal and sagittal planes through the middle of what is marked, in a row.

  The patient's right is on the right side, front (of the axial plane) and head are up.
  """
  voxels = volume.voxels if volume.voxels.ndim == 4 else volume.voxels[..., None]
  marked = np.nonzero(mask)
  shape = mask.shape
  x, y, z = (int(np.median(i)) if len(i) else n // 2 for i, n in zip(marked, shape, strict=True))
  mm_x, mm_y, mm_z = volume.spacing
  planes = (
    (voxels[:, :, z], mask[:, :, z], (mm_x, mm_y)),
    (voxels[:, y], mask[:, y], (mm_x, mm_z)),
    (voxels[x], mask[x], (mm_y, mm_z)),
  )
  # Stretched alike, by the values of the whole volume.
  low, high = map(float, np.percentile(volume.voxels, (0.5, 99.5)))
  return np.concatenate([_plane(*plane, height, low, high) for plane in planes], 1)


def _plane(
  pixels: Num[np.ndarray, 'i j c'],
  mask: Integer[np.ndarray, 'i j'],
  spacing: Sequence[float],
  height: int,
  low: float,
  high: float,
) -> UInt8[np.ndarray, 'h w 3']:
  """A plane with its mask, with square pixels, so many rows high; the second axis points up."""
  image = images.to_uint8(np.swapaxes(pixels, 0, 1)[::-1], low, high)
  upright = np.swapaxes(mask, 0, 1)[::-1]
  rows, columns = upright.shape
  width = max(round(height * columns * spacing[0] / (rows * spacing[1])), 1)
  shown = images.resize(images.to_rgb(image), (height, width), smooth=True)
  layer = Image.fromarray(np.ascontiguousarray(upright).astype(np.uint8))
  layer = layer.resize((width, height), Image.Resampling.NEAREST)
  return images.overlay(shown, np.asarray(layer))
