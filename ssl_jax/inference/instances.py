"""Instances from the probabilities of background, body and border: by watershed from the bodies."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from jaxtyping import Float, Int32, Integer, Num, UInt8
from scipy import ndimage
from skimage import measure, segmentation

from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.data.masks.instances import BODY, neighbors
from ssl_jax.inference import slices
from ssl_jax.inference.images import predict_many
from ssl_jax.io import atomic, images, nifti
from ssl_jax.io.formats import nifti_geometry
from ssl_jax.io.run_log import replace_text
from ssl_jax.types import BACKGROUND, PredictFn

FOLDER = 'instances'
"""In the folder of predictions: NAME.tif and NAME.csv, or NAME.nii.gz and NAME.csv of volumes."""

COUNTS = 'counts.csv'


SURE = 0.8
"""Probability above which a body is sure. Chosen on training images of BBBC039, 5 of them labeled:
AP at an IoU of 0.5 was 82 from all of each body, 86 from what is sure."""


class Prediction(NamedTuple):
  """What is predicted of an image or a volume."""

  ids: UInt8[np.ndarray, '*space']  # class ids
  confidence: Float[np.ndarray, '*space']  # probability of that class
  instances: Int32[np.ndarray, '*space']


def separate(
  probs: Float[np.ndarray, '*space 3'], min_size: float | int = 1
) -> Int32[np.ndarray, '*space']:
  """Returns the instances of an image or a volume: 1, 2, ..., and 0 where there is none.

  Where a body is SURE, each connected part of it is the marker of an instance; a body that is sure
  nowhere is one as a whole. Markers grow over body and border by a watershed, from where a body is
  sure to where it is not. A border without a body is no instance.

  Args:
    probs: of background, body and border.
    min_size: pixels or voxels; smaller instances are dropped.
  """
  ids = probs.argmax(-1)
  body = probs[..., BODY]
  bodies, count = ndimage.label(ids == BODY, neighbors(ids.ndim))
  sure = (ids == BODY) & (body > SURE)
  has_sure = np.zeros(count + 1, bool)
  has_sure[bodies[sure]] = True
  # A bridge of unsure pixels between two objects is no marker, a faint object is.
  markers, _ = ndimage.label(sure | ((bodies > 0) & ~has_sure[bodies]), neighbors(ids.ndim))
  grown = segmentation.watershed(-body, markers, mask=ids != BACKGROUND)
  counts = np.bincount(grown.ravel())
  kept = counts >= min_size
  kept[0] = False
  # Numbers without gaps, in the order of the markers.
  return np.where(kept, np.cumsum(kept), 0).astype(np.int32)[grown]


def predict(
  predict_fn: PredictFn,
  inputs: Iterable[np.ndarray],
  min_size: float | int,
  slice_size: Sequence[int] | None = None,
  sliced: bool = False,
) -> Iterator[tuple[int, Prediction]]:
  """Yields (index, prediction) of images or volumes, not always in order.

  Args:
    predict_fn: gives the class probabilities of a batch.
    inputs: images [H, W, C] or volumes [z, y, x, C], in [0, 1].
    min_size: pixels or voxels; smaller instances are dropped.
    slice_size: rows and columns at which the network sees a slice; None: as it is.
    sliced: whether volumes are predicted slice by slice, by a network of two dimensions.
  """
  if sliced:
    predictions: Iterator[tuple[int, np.ndarray]] = (
      (index, slices.predict_probabilities(predict_fn, volume, slice_size))
      for index, volume in enumerate(inputs)
    )
  else:
    predictions = predict_many(predict_fn, inputs)
  for index, probs in predictions:
    ids = probs.argmax(-1).astype(np.uint8)
    confidence = np.asarray(probs.max(-1), np.float32)
    yield index, Prediction(ids, confidence, separate(probs, min_size))


def native_min_size(stats: DatasetStats) -> float:
  """Returns the smallest instance in pixels of an image file; `data.scale` made images smaller."""
  assert stats.instances is not None
  return stats.instances['min_size'] / stats.scale**2


def with_min_size(stats: DatasetStats, min_size: float | int | None) -> DatasetStats:
  """Returns statistics by which instances of another smallest size are predicted.

  Args:
    stats: of the training data.
    min_size: pixels of an image file, or voxels of the training's spacing; None: that of the run.
  """
  if min_size is None or stats.instances is None:
    return stats
  return stats._replace(instances={'min_size': min_size * stats.scale**2})


def write_labels(path: Path, ids: Integer[np.ndarray, 'h w']) -> None:
  """Writes the ids of an image's instances as a TIFF of 16 bits, or of 32 where they are many."""
  with atomic.replacing(path) as temporary:
    tifffile.imwrite(temporary, ids.astype(label_dtype(ids)), compression='zlib')


def write_table(
  path: Path,
  ids: Integer[np.ndarray, 'h w'],
  image: Num[np.ndarray, 'h w c'],
  pixel_area: float | int | None = None,
) -> None:
  """Writes a CSV with a row for each instance of an image.

  It has the id, area in pixels, x and y of the centroid (column and row from 0, the center of the
  first pixel), the mean raw intensity by channel, and the area in square micrometers where that of
  a pixel is given.
  """
  columns = {'label': 'id', 'area': 'area', 'centroid-1': 'x', 'centroid-0': 'y'}
  rows = _measure(ids, image, columns)
  if pixel_area is not None:
    for row in rows:
      row['area_um2'] = row['area'] * pixel_area
  _write_rows(path, rows)


def as_colors(ids: Integer[np.ndarray, 'h w']) -> UInt8[np.ndarray, 'h w']:
  """Returns numbers of 1 to 13 in place of ids, by which an overlay can color them."""
  colors = len(images.PALETTE) - 1
  return np.where(ids > 0, (ids - 1) % colors + 1, 0).astype(np.uint8)


def write_volume_labels(
  path: Path, ids: Integer[np.ndarray, 'x y z'], volume: nifti.Volume
) -> None:
  """Writes the ids of a volume's instances, in RAS+, as NIfTI on the volume's own grid."""
  nifti.write_labels(path, ids, volume.like, label_dtype(ids))


def write_volume_table(path: Path, ids: Integer[np.ndarray, 'x y z'], volume: nifti.Volume) -> None:
  """Writes a CSV with a row for each instance of a volume.

  It has the id, voxels, mm3, the position of the centroid in mm as viewers show it (x to the right,
  y to the front, z up), and the mean intensity by channel.
  """
  columns = {'label': 'id', 'area': 'voxels'}
  columns |= {f'centroid-{axis}': f'{letter}_mm' for axis, letter in enumerate('xyz')}
  voxels = volume.voxels
  rows = _measure(ids, voxels if voxels.ndim == 4 else voxels[..., None], columns)
  # From indices in RAS+ to positions.
  geometry = nifti_geometry.read_geometry(volume.like, volume.like.get_filename())
  affine = nifti_geometry.in_ras(geometry)
  for row in rows:
    index = [row[f'{letter}_mm'] for letter in 'xyz']
    position = affine[:3, :3] @ index + affine[:3, 3]
    row |= {f'{letter}_mm': value for letter, value in zip('xyz', position, strict=True)}
    row['mm3'] = row['voxels'] * float(np.prod(volume.spacing))
  _write_rows(path, rows)


def label_dtype(found: Integer[np.ndarray, '*space']) -> type:
  """Returns the kind of numbers that ids are written as: 16 bits, or 32 where they are too many."""
  return np.uint16 if found.max(initial=0) < 2**16 else np.uint32


def _measure(
  found: np.ndarray, image: np.ndarray, columns: dict[str, str]
) -> list[dict[str, float | int]]:
  """A row for each instance; `columns` are the names of what scikit-image measures."""
  channels = image.shape[-1]
  # Of a single channel there is no number in the name.
  means = {f'intensity_mean-{c}': f'mean_intensity_{c + 1}' for c in range(channels)}
  if channels == 1:
    means = {'intensity_mean-0': 'mean_intensity'}
  properties = ('label', 'area', 'centroid', 'intensity_mean')
  table = measure.regionprops_table(found, image.astype(np.float32), properties=properties)
  names = columns | means
  values = [table[key].tolist() for key in names]
  return [dict(zip(names.values(), row, strict=True)) for row in zip(*values, strict=True)]


def _write_rows(path: Path, rows: Sequence[Mapping[str, float | int]]) -> None:
  text = io.StringIO()
  # An image without instances has a table without columns but the first.
  table = csv.DictWriter(text, list(rows[0]) if rows else ['id'])
  table.writeheader()
  for row in rows:
    table.writerow({key: f'{value:g}' if key != 'id' else value for key, value in row.items()})
  replace_text(path, text.getvalue())


def write_counts(out: Path) -> None:
  """Writes out/counts.csv: of each table in out/instances the name and the number of instances."""
  text = io.StringIO()
  table = csv.writer(text)
  table.writerow(['name', 'instances', 'mean_size'])
  # From the tables, so that images of an earlier call (--resume) are counted too.
  for path in sorted((out / FOLDER).glob('*.csv')):
    # Row by row: the table of a slide may have millions.
    count, total = 0, 0.0
    with path.open() as file:
      for row in csv.DictReader(file):
        count += 1
        total += float(row.get('area') or row['voxels'])
    table.writerow([path.stem, count, f'{total / count:g}' if count else ''])
  replace_text(out / COUNTS, text.getvalue())
