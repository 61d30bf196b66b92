"""What volumes and their masks tell before a training: see inspect_folders.py."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Integer, Num

from ssl_jax.data.mask_encoding import Encoding
from ssl_jax.data.masks.mask_facts import MaskFacts
from ssl_jax.data.selection import unlike
from ssl_jax.data.volumes import volume_channels
from ssl_jax.errors import UserError
from ssl_jax.evaluation.figures import marked_slice
from ssl_jax.io import masks, nifti
from ssl_jax.io.formats import nifti_geometry
from ssl_jax.io.formats.nifti_geometry import text_of
from ssl_jax.io.nifti import Volume
from ssl_jax.reports.inspection.pixels_of_folders import (
  PROBLEM,
  SAMPLED,
  WARNING,
  Finding,
  Sample,
  class_row,
  named,
  spread,
)

SHOWN_PERCENTILES = (0.5, 99.5)
"""Of the values of a volume: they are shown as black and white."""


class Volumes(NamedTuple):
  """The volumes of a data set."""

  cases: dict[str, list[tuple[Path, ...]]]  # by role: the files of each volume, one for a channel
  mask_of: dict[Path, Path]  # of the first file of a volume


def group(
  files: Mapping[str, Sequence[Path]], mask_names: Mapping[str, Collection[str]]
) -> dict[str, list[tuple[Path, ...]]]:
  """Returns the files of each volume by role: NAME_0000, NAME_0001, ... are one.

  Args:
    files: by role.
    mask_names: names of the masks of the roles that have some, without endings.
  """
  cases = {}
  for role, names in mask_names.items():
    cases[role] = list(volume_channels.group_files(files[role], names).values())
  channels = max((len(case) for case in cases.get('labeled', [])), default=1)
  for role, paths in files.items():
    if role not in cases:
      cases[role] = list(volume_channels.group_unlabeled(paths, channels).values())
  return {role: cases[role] for role in files}


def count_sizes(
  files: Mapping[str, Sequence[Path]], findings: list[Finding]
) -> tuple[dict[str, int], set[Path]]:
  """Returns volumes by shape and spacing, and the files whose headers are broken (findings)."""
  sizes: dict[str, int] = {}
  broken = set()
  for path in (path for paths in files.values() for path in paths):
    try:
      geometry = nifti_geometry.geometry_of(path)
    except UserError as error:
      findings.append(Finding(PROBLEM, str(error)))
      broken.add(path)
      continue
    key = f'{text_of(geometry.shape)} voxels of {text_of(geometry.spacing)} mm'
    sizes[key] = sizes.get(key, 0) + 1
    findings.extend(Finding(WARNING, f'{path.name}: {note}.') for note in geometry.notes)
  return sizes, broken


def read_samples(
  volumes: Volumes,
  broken: Collection[Path],
  encoding: Encoding | None,
  ignore_affine: bool,
  findings: list[Finding],
) -> list[Sample]:
  """Reads some volumes of each role, to their ends; returns the most marked slice of labeled ones.

  Files that cannot be read, masks that do not fit, and other numbers of channels become findings.
  """
  samples = []
  of_channels: dict[int, list[str]] = {}
  for role, cases in volumes.cases.items():
    files_of = {case[0]: case for case in cases if not broken.intersection(case)}
    for first in spread(list(files_of), SAMPLED):
      try:
        volume_channels.check_numbers(files_of[first])
        volume = nifti.read_channels(files_of[first])
      except UserError as error:
        findings.append(Finding(PROBLEM, str(error)))
        continue
      of_channels.setdefault(volume.channels(), []).append(first.name)
      mask = volumes.mask_of.get(first)
      if mask is None or mask in broken:
        continue
      ids = _read_mask(mask, (volume.like, first), encoding, ignore_affine, findings)
      if role == 'labeled' and ids is not None:
        samples.append(_slice_of(volume, first, mask, ids))
  if len(of_channels) > 1:
    counts = sorted(of_channels, key=lambda count: -len(of_channels[count]))
    listed = '; '.join(f'{count}: {named(of_channels[count])}' for count in counts[1:])
    findings.append(
      Finding(
        PROBLEM,
        f'most volumes have {counts[0]} channel{"s" * (counts[0] > 1)}, others {listed}; all need '
        'the same channels: split those with an axis of time, or remove them.',
      )
    )
  return samples


def _read_mask(
  path: Path,
  image: tuple[Any, Path],
  encoding: Encoding | None,
  ignore_affine: bool,
  findings: list[Finding],
) -> Integer[np.ndarray, 'x y z'] | None:
  """The class ids of a mask, on the grid of its image; None if it does not fit or is unclear."""
  try:
    stored = masks.read_stored(path)
    ids = stored.values if encoding is None else encoding(stored, path)
    fitted = nifti_geometry.on_grid_of(ids, (stored.like, path), image, ignore_affine)
  except UserError as error:
    findings.append(Finding(PROBLEM, str(error)))
    return None
  return None if encoding is None else fitted


def _slice_of(volume: Volume, path: Path, mask: Path, ids: Integer[np.ndarray, 'x y z']) -> Sample:
  """The slice of which the mask marks most, to look at: the front is up, the right to the right."""
  voxels = volume.voxels.reshape(*volume.voxels.shape[:3], -1)
  z = marked_slice(np.moveaxis(voxels, 2, 0), np.moveaxis(ids, 2, 0))
  pixels = _upright(_in_unit_range(voxels)[:, :, z])
  return Sample(path, 'labeled', pixels, unlike.features(pixels), mask, _upright(ids[:, :, z]))


def _upright(plane: Num[np.ndarray, 'x y *c']) -> Num[np.ndarray, 'y x *c']:
  """A slice of a volume in RAS+ as rows from front to back."""
  return np.swapaxes(plane, 0, 1)[::-1]


def _in_unit_range(voxels: Float[np.ndarray, 'x y z c']) -> Float[np.ndarray, 'x y z c']:
  low, high = np.percentile(voxels, SHOWN_PERCENTILES, axis=(0, 1, 2))
  scaled = (voxels - low) / np.maximum(high - low, 1e-6)
  return np.clip(scaled, 0, 1).astype(np.float32)


def class_table(facts: Sequence[MaskFacts], encoding: Encoding) -> list[dict[str, Any]]:
  """Returns the share and the volumes of each class, over all masks."""
  class_id_of = dict(encoding.ids)
  counts = np.zeros(len(encoding.classes))
  showing = np.zeros(len(encoding.classes), int)
  for mask in facts:
    of_mask = np.zeros(len(counts))
    for value, count in mask.counts.items():
      if class_id_of[value] < len(counts):
        of_mask[class_id_of[value]] += count
    counts += of_mask
    showing += of_mask > 0
  share = 100 * counts / max(counts.sum(), 1)
  return [
    class_row(name, float(share[class_id]), int(showing[class_id]), len(facts))
    for class_id, name in enumerate(encoding.classes)
  ]
