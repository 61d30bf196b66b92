"""Volumes as a network sees them: preprocessed once, kept on disk, read where they are cropped."""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer
from tqdm import tqdm

from ssl_jax import parallel
from ssl_jax.data.mask_encoding import Encoding
from ssl_jax.data.masks import instances
from ssl_jax.data.masks.instance_masks import InstanceMasks
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.errors import UserError
from ssl_jax.io import atomic, masks, memmap_arrays, nifti
from ssl_jax.io.folders import user_cache
from ssl_jax.io.formats import nifti_geometry
from ssl_jax.io.formats.nifti_geometry import text_of
from ssl_jax.types import BACKGROUND, IGNORE, Record

VERSION = 3
"""Version of what is in the cache; increase it when preprocessing changes."""

LONGEST_NAME = 150
"""Bytes of a volume's name in the cache, where a hash follows it; files may have longer ones."""

DIGESTS = 'known.json'
"""File of the cache with content hashes, so that a volume is not read again to be recognized."""


MASK_ARRAYS = ('label', 'instances', memmap_arrays.FOREGROUND)
"""The arrays of a case that are made from its mask."""


class Case(NamedTuple):
  """A volume's files, its mask's, and the folder of both as preprocessed arrays."""

  name: str
  image: Path
  mask: Path | None
  sha256: str  # of the image's file, or of its files
  prepared: Path | None = None  # None until prepare_cases has run
  more: tuple[Path, ...] = ()  # files of further channels
  encoding: Encoding | None = None  # how its mask is read; None until then

  def files(self) -> str | tuple[str, ...]:
    """Returns the image's file, or its files, one for each channel."""
    return (str(self.image), *map(str, self.more)) if self.more else str(self.image)


class VolumeSource:
  """A Source of preprocessed volumes: 'image' [z, y, x, C], 'label' [z, y, x], and their files.

  The arrays are mapped into memory: only what is cropped out of them is read.
  """

  def __init__(self, cases: Sequence[Case], labels: bool = True):
    self._cases = cases
    self._labels = labels

  def __len__(self) -> int:
    return len(self._cases)

  def __getitem__(self, index: int) -> Record:
    case = self._cases[int(index) % len(self)]
    # Without masks for the unlabeled role, so that a hidden truth cannot reach training.
    if not self._labels or case.mask is None:
      arrays = read_prepared(case, exclude=MASK_ARRAYS)
      return Record(name=case.name, file=case.files(), image=arrays['image'])
    arrays = read_prepared(case)
    record = Record(
      name=case.name,
      file=case.files(),
      mask_file=str(case.mask),
      read_mask=case.encoding.read if case.encoding else masks.read_mask,
      image=arrays['image'],
      label=arrays['label'],
      foreground=arrays[memmap_arrays.FOREGROUND],
    )
    if 'instances' in arrays:
      record['instances'] = arrays['instances']
    return record


class FileDigests:
  """Content hashes of files, kept in the cache: `with FileDigests(cache) as digests: ...`.

  A file is read again only if its path, size or time of change is new.
  """

  def __init__(self, cache: Path):
    self.cache = cache
    self._path = cache / DIGESTS
    self._changed = False
    self._sha256: dict[str, str] = {}
    if self._path.exists():
      # It only saves time: a damaged one is computed anew.
      with contextlib.suppress(ValueError):
        self._sha256 = dict(json.loads(self._path.read_bytes()))

  def __enter__(self) -> 'FileDigests':
    return self

  def __exit__(self, *error: Any) -> None:
    # Also after an error: hashes of large files take long and stay valid.
    if self._changed:
      self.cache.mkdir(parents=True, exist_ok=True)
      with atomic.replacing(self._path) as temporary:
        temporary.write_text(json.dumps(self._sha256))

  def sha256(self, path: Path) -> str:
    """Returns the SHA-256 of a file's content."""
    # As in rsync, a file with the same path, size and time counts as unchanged.
    status = path.stat()
    key = f'{path.resolve()} {status.st_size} {status.st_mtime_ns}'
    if key not in self._sha256:
      with path.open('rb') as file:
        self._sha256[key] = hashlib.file_digest(file, 'sha256').hexdigest()
      self._changed = True
    return self._sha256[key]


def prepare_cases(
  cases: Sequence[Case],
  preprocessing: VolumePreprocessing,
  digests: FileDigests,
  role: str,
  encoding: Encoding,
  instance_masks: InstanceMasks | None = None,
) -> list[Case]:
  """Preprocesses the volumes that are not in the cache yet; returns the cases with their folders.

  A folder of the cache is named after the case and a hash of the files and the settings, so that
  it is found again, after a kill as well, and never if anything has changed. With `masks`
  of instances the arrays are 'instances' as well as the 'label' that is made from them.

  Raises:
    UserError: naming the file that is broken or does not fit its image.
  """
  prepared = []
  silent = not cases or not parallel.is_main()
  for case in tqdm(cases, unit=' volumes', desc=f'prepare {role}', disable=silent, delay=1):
    # All that decides the arrays: the code's version, the settings, the image and its mask.
    digest = hashlib.sha256(repr((VERSION, preprocessing.of_arrays())).encode())
    digest.update(case.sha256.encode())
    if case.mask is not None:
      digest.update(digests.sha256(case.mask).encode())
      # Masks of class ids are what they are, whatever others hold.
      if not encoding.is_plain:
        digest.update(repr(encoding.ids).encode())
      if instance_masks is not None:
        digest.update(repr((instances.VERSION, instance_masks.regions)).encode())
    # The name in front is for people; 20 hex digits (80 bits) never collide in practice.
    name = case.name.encode()[:LONGEST_NAME].decode(errors='ignore')
    folder = digests.cache / f'{name}-{digest.hexdigest()[:20]}'
    # Complete if it exists, because `write_arrays` writes all arrays or none.
    if not folder.exists():
      arrays = _preprocess(case, preprocessing, encoding, instance_masks)
      memmap_arrays.write_arrays(folder, arrays)
    prepared.append(case._replace(prepared=folder, encoding=encoding))
  return prepared


def _preprocess(
  case: Case,
  preprocessing: VolumePreprocessing,
  encoding: Encoding,
  instance_masks: InstanceMasks | None,
) -> dict[str, np.ndarray]:
  """The arrays of a case: its image, and where it has a mask, its label and foreground."""
  volume = nifti.read_channels(case.files())
  files = (case.image, *case.more)
  for channel, phrase in preprocessing.misfits(volume):
    raise UserError(
      f'{files[min(channel, len(files) - 1)]}: {phrase} (data.window), so that a network would see '
      'an empty volume; correct the window, or take the volume away.'
    )
  # The image decides on the box; the mask is cropped alike.
  placement = preprocessing.placement(volume)
  arrays: dict[str, np.ndarray] = {'image': preprocessing.image(volume, placement)}
  if case.mask is None:
    return arrays
  if instance_masks is None:
    mask = masks.read_stored(case.mask)
    ids = encoding(mask, case.mask)
    header = mask.like
  else:
    ids = instance_masks.read(case.mask)
    header = nifti_geometry.load_header(case.mask)
  # Both are in RAS+ now, so files that store their axes in different orders still fit. Of the same
  # shape, at another place: training would go wrong without any error.
  ids = nifti_geometry.on_grid_of(
    ids, (header, case.mask), (volume.like, case.image), preprocessing.ignore_affine
  )
  if instance_masks is None:
    label = preprocessing.labels(ids, volume, placement)
    _check_classes(case.mask, ids, ids[placement.slices()], label, preprocessing)
  else:
    arrays['instances'] = preprocessing.instances(ids, volume, placement)
    label = instances.to_classes(arrays['instances'])
  return arrays | memmap_arrays.with_foreground(label)


def _check_classes(
  mask: Path,
  ids: Integer[np.ndarray, 'x y z'],
  part: Integer[np.ndarray, 'i j k'],
  label: Integer[np.ndarray, 'c b a'],
  preprocessing: VolumePreprocessing,
) -> None:
  """Checks that no class of a mask is lost on the way to its prepared label.

  Raises:
    UserError: naming the first that is.
  """
  left = np.unique(label)
  for class_id in np.unique(ids):
    if class_id in (BACKGROUND, IGNORE) or class_id in left:
      continue
    voxels = int((ids == class_id).sum())
    if not (part == class_id).any():
      raise UserError(
        f'{mask}: class {class_id} ({voxels} voxels) lies outside of what is brighter than '
        f'data.foreground_threshold={preprocessing.foreground_threshold}; lower it or leave it out.'
      )
    raise UserError(
      f'{mask}: class {class_id} ({voxels} voxels) is lost when the volume is resampled from '
      f'{text_of(part.shape)} to {text_of(label.shape[::-1])} voxels; choose a smaller '
      f'data.spacing, or take these voxels out of the mask.'
    )


def read_prepared(case: Case, exclude: Sequence[str] = ()) -> dict[str, np.ndarray]:
  """Returns the preprocessed arrays of a case by name, mapped into memory, but for `exclude`."""
  # An error of the program, not of the user.
  if case.prepared is None:
    raise ValueError(f'{case.name} has not been preprocessed')
  return memmap_arrays.read_arrays(case.prepared, exclude)


def default_cache() -> Path:
  """Returns the folder where preprocessed volumes are kept by default."""
  return user_cache.folder() / 'volumes'
