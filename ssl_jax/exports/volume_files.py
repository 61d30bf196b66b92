"""What lies beside an exported network of volumes: how a volume must be prepared, and a loader."""

from typing import Any

import numpy as np

from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.inference.window_defaults import OVERLAP
from ssl_jax.settings import Settings

FILE = 'volume.json'

LOADER_TEXT = '''\
"""Class probabilities and masks of volumes without ssl_jax: pip install jax flatbuffers.

volume.json says how a volume must be prepared. `python load.py VOLUME.npy MASK.npy` takes an array
[z, y, x] or [z, y, x, C] of such a volume.
"""

import itertools
import json
import sys
from pathlib import Path

import jax
import numpy as np
from jax import export

HERE = Path(__file__).parent
WEIGHTS = dict(np.load(HERE / 'weights.npz'))
ABOUT = json.loads((HERE / 'volume.json').read_text())
PROGRAM = jax.jit(export.deserialize((HERE / 'program_float32.stablehlo').read_bytes()).call)


def predict(windows):
  """Windows [B, z, y, x, C] as large as in training -> probabilities [..., classes], masks."""
  return PROGRAM(WEIGHTS, np.asarray(windows, np.float32))


def starts(length, window, overlap):
  """The first voxels of windows that cover an axis evenly."""
  if length <= window:
    return [0]
  count = int(np.ceil((length - window) / (window * (1 - overlap)))) + 1
  return np.linspace(0, length - window, count).round().astype(int).tolist()


def predict_volume(volume, overlap=ABOUT['overlap']):
  """A prepared volume [z, y, x, C] of any size -> probabilities [z, y, x, classes] and mask.

  Windows overlap by a fraction of their size, and the probabilities of each voxel are averaged.
  """
  size = ABOUT['size']
  margins = [(0, max(w - n, 0)) for w, n in zip(size, volume.shape)]
  # What is added behind a small volume is 0 after scaling.
  channels = np.moveaxis(np.asarray(volume, np.float32), -1, 0)
  pairs = zip(channels, ABOUT['padding'], strict=True)
  padded = np.stack([np.pad(x, margins, constant_values=low) for x, low in pairs], -1)
  total = np.zeros((*padded.shape[:3], len(ABOUT['classes'])), np.float32)
  count = np.zeros((*padded.shape[:3], 1), np.float32)
  corners = [starts(n, w, overlap) for n, w in zip(padded.shape, size)]
  for corner in itertools.product(*corners):
    place = tuple(slice(first, first + side) for first, side in zip(corner, size))
    total[place] += np.asarray(predict(padded[place][None])[0][0])
    count[place] += 1
  probabilities = (total / count)[tuple(slice(n) for n in volume.shape[:3])]
  return probabilities, probabilities.argmax(-1).astype(np.uint8)


if __name__ == '__main__':
  voxels = np.load(sys.argv[1])
  np.save(sys.argv[2], predict_volume(voxels if voxels.ndim == 4 else voxels[..., None])[1])
'''


def about(settings: Settings, stats: DatasetStats) -> dict[str, Any]:
  """Returns what a program must know to prepare a volume, for JSON."""
  preprocessing = VolumePreprocessing(**(stats.preprocessing or {}))
  pairs = preprocessing.window_pairs()
  values = 'raw; the program scales them'
  if not pairs:
    low, high = preprocessing.percentiles
    values = f'0 to 1: percentiles {low:g} and {high:g} of each channel become 0 and 1, '
    values += 'values outside the nearer one' if preprocessing.clip else 'values outside 0'
  lows = [low for low, _ in pairs] or [0.0]
  return {
    'axes': ['z', 'y', 'x', 'channel'],
    'directions': 'x to the right, y to the front, z to the head of the patient (RAS+)',
    'spacing_mm': None if preprocessing.spacing is None else list(preprocessing.spacing[::-1]),
    'crop_to_values_above': preprocessing.foreground_threshold,
    'values': values,
    'padding': np.broadcast_to(lows, stats.channels).tolist(),
    'size': list(settings.crop_size),
    'overlap': OVERLAP,
    'classes': list(stats.classes),
  }
