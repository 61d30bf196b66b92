"""The spacing that volumes are resampled to, where nobody names one, and notes on their grids."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.data.volume_source import Case, read_prepared
from ssl_jax.io.formats.nifti_geometry import Geometry, text_of

ANISOTROPIC = 3.0
"""An axis whose voxels are so many times as long as those of another is one of thick slices."""

DENSE = 10
"""Percentile of the spacings along an axis of thick slices, instead of the median (as nnU-Net)."""

SHOWN = 3
"""Volumes whose sizes before and after resampling are told."""


def median_spacing(geometries: Sequence[Geometry]) -> tuple[float, float, float]:
  """Returns the median spacing of volumes in mm along x, y and z, as nnU-Net chooses it.

  Along an axis of thick slices it is the 10th percentile: at the median of, say, 2 and 8 mm the
  slices of half the volumes would be blurred.
  """
  spacings = np.array([geometry.spacing for geometry in geometries])
  target = np.median(spacings, axis=0)
  axis = int(target.argmax())
  others = np.delete(target, axis)
  if target[axis] > ANISOTROPIC * others.min():
    # Never denser than the other axes.
    target[axis] = max(np.percentile(spacings[:, axis], DENSE), others.max())
  # Headers hold 32 bits, of which the last digits are noise.
  x, y, z = (float(f'{mm:.6g}') for mm in target)
  return x, y, z


def header_notes(geometries: Mapping[Path, Geometry]) -> list[str]:
  """Returns what the headers of volumes leave open, with the names of at most ten for each note."""
  files: dict[str, list[str]] = {}
  for path, geometry in geometries.items():
    for note in geometry.notes:
      files.setdefault(note, []).append(path.name)
  notes = []
  for note, names in files.items():
    more = f' and {len(names) - 10} more' if len(names) > 10 else ''
    notes.append(f'{", ".join(names[:10])}{more}: {note}')
  return notes


def size_note(
  cases: Sequence[Case], geometries: Mapping[Path, Geometry], preprocessing: VolumePreprocessing
) -> str:
  """Returns the sizes of the first prepared cases, before and after."""
  sizes = []
  for case in cases[:SHOWN]:
    before = geometries[case.image]
    # [z, y, x, C] -> x, y, z
    after = read_prepared(case, exclude=('label',))['image'].shape[:3][::-1]
    sizes.append(
      f'{case.name} {text_of(before.shape)} of {text_of(before.spacing)} mm -> {text_of(after)}'
    )
  how = 'as they are'
  if preprocessing.spacing is not None:
    how = f'resampled to {text_of(preprocessing.spacing)} mm'
  if preprocessing.foreground_threshold is not None:
    how = f'cropped and {how}'
  return f'voxels (x, y, z), {how}: {"; ".join(sizes)}'
