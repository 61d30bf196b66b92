"""Volumes as a network sees them, made once and kept."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from ssl_jax import parallel
from ssl_jax.data.volume_preprocessing import Preparation
from ssl_jax.errors import UserError
from ssl_jax.io import atomic, memmap_arrays, nifti

VERSION = 2
"""Of what is in the cache: another one wherever preparation gives something else."""
KNOWN = 'known.json'
"""Digests of files by place, size and time of change, so that none is read again to be known."""


class Case(NamedTuple):
  """A volume's file, its mask's, and the folder of both prepared."""

  name: str
  image: Path
  mask: Path | None
  sha256: str  # of the image's file
  prepared: Path | None = None


class Prepared:
  """A Source of prepared volumes: 'image' [z, y, x, 1], 'label' [z, y, x], and their files.

  The arrays stay on the disk; what is cut out of them is read.
  """

  def __init__(self, cases: Sequence[Case], labels: bool = True):
    self._cases, self._labels = cases, labels

  def __len__(self) -> int:
    return len(self._cases)

  def __getitem__(self, index: int) -> dict:
    case = self._cases[int(index) % len(self)]
    record = {'name': case.name, 'file': str(case.image)}
    if self._labels and case.mask is not None:
      return record | memmap_arrays.read(case.prepared) | {'mask_file': str(case.mask)}
    return record | memmap_arrays.read(case.prepared, 'label', memmap_arrays.MARKED)


class Known:
  """What is known of files that were read before: `with Known(cache) as known: ...`."""

  def __init__(self, cache: Path):
    self.cache, self._path, self._new = cache, cache / KNOWN, False
    self._digests = json.loads(self._path.read_text()) if self._path.exists() else {}

  def __enter__(self) -> 'Known':
    return self

  def __exit__(self, *error: Any) -> None:
    if self._new:
      self.cache.mkdir(parents=True, exist_ok=True)
      with atomic.whole(self._path) as part:
        part.write_text(json.dumps(self._digests))

  def sha256(self, path: Path) -> str:
    """Of the content of a file."""
    status = path.stat()
    key = f'{path.resolve()} {status.st_size} {status.st_mtime_ns}'
    if key not in self._digests:
      with path.open('rb') as file:
        self._digests[key] = hashlib.file_digest(file, 'sha256').hexdigest()
      self._new = True
    return self._digests[key]


def prepare(cases: Sequence[Case], how: Preparation, known: Known, role: str) -> list[Case]:
  """The cases with the folders of their prepared volumes, made where there is none yet."""
  found, silent = [], not cases or not parallel.is_main()
  for case in tqdm(cases, unit=' volumes', desc=f'prepare {role}', disable=silent):
    digest = hashlib.sha256(repr((VERSION, how)).encode())
    for sha256 in (case.sha256, known.sha256(case.mask) if case.mask else ''):
      digest.update(sha256.encode())
    folder = known.cache / f'{case.name}-{digest.hexdigest()[:20]}'
    if not folder.exists():
      memmap_arrays.write(folder, _made(case, how))
    found.append(case._replace(prepared=folder))
  return found


def _made(case: Case, how: Preparation) -> dict[str, np.ndarray]:
  volume = nifti.read_volume(case.image)
  place = how.place(volume)
  made = {'image': how.image(volume, place)}
  if case.mask is not None:
    ids, mask = nifti.read_labels(case.mask)
    if ids.shape != volume.voxels.shape:
      raise UserError(
        f'{case.mask} has {ids.shape} voxels but {case.image.name} has {volume.voxels.shape}.'
      )
    if not np.allclose(mask.like.affine, volume.like.affine, atol=1e-2):
      raise UserError(
        f'{case.mask} does not lie where {case.image.name} does; their headers differ.'
      )
    made |= memmap_arrays.labelled(how.labels(ids, volume, place))
  return made


def default_cache() -> Path:
  """Where prepared volumes are kept if nobody says where."""
  return Path(os.environ.get('XDG_CACHE_HOME', Path.home() / '.cache')) / 'ssl_jax' / 'volumes'


def most_class(cases: Sequence[Case]) -> int:
  """The largest class id of prepared masks."""
  return max((int(memmap_arrays.read(case.prepared)['label'].max()) for case in cases), default=0)
