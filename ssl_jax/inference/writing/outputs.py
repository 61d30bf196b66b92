"""What predict writes for images, volumes and stacks: kinds of files, and what they are called."""

from typing import NamedTuple

from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.inference import instances
from ssl_jax.inference.writing import measurements
from ssl_jax.inference.writing.cleaning import Cleaning

MASK, OVERLAY = 'mask', 'overlay'
INSTANCES, OBJECTS = 'instances', 'objects'
PROBABILITIES, UNCERTAINTY = 'probabilities', 'uncertainty'
MEASUREMENTS, GEOJSON, ROIS = 'measurements', 'geojson', 'rois'
"""Kinds of files."""


class Wanted(NamedTuple):
  """What is written beside masks, and how masks are cleaned."""

  overlays: bool = True
  probabilities: bool = False
  uncertainty: bool = False
  spread: bool = False  # whether predictions end with the mean entropy (averaging.average)
  bits: int = 8  # of probabilities and uncertainty
  geojson: bool = False
  rois: bool = False
  cleaning: Cleaning = Cleaning()


FOR_IMAGES = Wanted()
FOR_VOLUMES = Wanted(overlays=False)
"""What is written by default."""


class Endings(NamedTuple):
  """Endings of the files of an input, which depend on what it is."""

  mask: str
  instances: str  # '' where ids of instances are written into the file of the mask
  maps: str  # of probabilities and uncertainty
  overlay: str


OF_IMAGES = Endings('.png', '.tif', '.ome.tif', '.png')
OF_VOLUMES = Endings('.nii.gz', '.nii.gz', '.nii.gz', '.png')


def templates(wanted: Wanted, stats: DatasetStats, endings: Endings) -> dict[str, str]:
  """Returns the files of an input by their kind, with {} for its name, in the order of writing."""
  files = {MASK: f'masks/{{}}{endings.mask}'}
  if stats.instances is not None:
    if endings.instances:
      files[INSTANCES] = f'{instances.FOLDER}/{{}}{endings.instances}'
    files[OBJECTS] = f'{instances.FOLDER}/{{}}.csv'
  else:
    files[MEASUREMENTS] = f'{measurements.FOLDER}/{{}}.csv'
  named = {
    PROBABILITIES: (wanted.probabilities, f'probabilities/{{}}{endings.maps}'),
    UNCERTAINTY: (wanted.uncertainty, f'uncertainty/{{}}{endings.maps}'),
    GEOJSON: (wanted.geojson, 'geojson/{}.geojson'),
    ROIS: (wanted.rois, 'rois/{}.zip'),
    OVERLAY: (wanted.overlays, f'overlays/{{}}{endings.overlay}'),
  }
  return files | {kind: file for kind, (asked, file) in named.items() if asked}
