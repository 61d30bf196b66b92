"""Volumes of several channels: a file with a fourth axis, or files NAME_0000, NAME_0001, ...

The names are those of nnU-Net: four digits number the channels of a case, whose mask is NAME.
"""

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.data.volume_source import Case, FileDigests, read_prepared
from ssl_jax.errors import UserError
from ssl_jax.io import nifti
from ssl_jax.io.nifti import Volume

CHANNEL = re.compile(r'(.+)_(\d{4})')
"""A case's name, and the number of a channel."""


def group_files(
  paths: Sequence[Path], mask_names: Collection[str] = ()
) -> dict[Path, tuple[Path, ...]]:
  """Groups the channels of cases: a case's first file -> all its files, in order.

  A file whose own name (NAME_0001) has a mask is a case by itself: its digits number cases.

  Args:
    paths: volumes.
    mask_names: names of the masks that there are, without endings.
  """
  channels: dict[str, dict[int, Path]] = {}
  for path in paths:
    match = CHANNEL.fullmatch(nifti.name_of(path))
    own_mask = any(name.startswith(nifti.name_of(path)) for name in mask_names)
    if match and not own_mask:
      channels.setdefault(str(path.parent / match[1]), {})[int(match[2])] = path
  groups: dict[Path, tuple[Path, ...]] = {path: (path,) for path in paths}
  for files in channels.values():
    if len(files) == 1:
      continue
    first, *others = (files[number] for number in sorted(files))
    groups[first] = (first, *others)
    for path in others:
      del groups[path]
  return groups


def case_name(files: Sequence[Path]) -> str:
  """Returns the name of a case: of several files what stands before the channel's number."""
  name = nifti.name_of(files[0])
  match = CHANNEL.fullmatch(name)
  return match[1] if match and len(files) > 1 else name


def check_numbers(files: Sequence[Path]) -> None:
  """Checks that the files of a case are numbered from 0000 without a gap.

  Raises:
    UserError: naming the channel that is missing.
  """
  if len(files) == 1:
    return
  numbers = [int(nifti.name_of(path)[-4:]) for path in files]
  for expected, number in enumerate(numbers):
    if number != expected:
      raise UserError(
        f'{files[0].parent / case_name(files)}_{expected:04d} is missing beside {files[-1].name}: '
        'the files of a case are numbered from 0000, one for each channel.'
      )


def with_channels(case: Case, files: Sequence[Path], digests: FileDigests) -> Case:
  """Returns the case with all its files, and a content hash of them all.

  Raises:
    UserError: naming a channel that is missing.
  """
  if len(files) == 1:
    return case
  check_numbers(files)
  hashes = ' '.join(digests.sha256(path) for path in files)
  digest = hashlib.sha256(hashes.encode()).hexdigest()
  return case._replace(more=tuple(files[1:]), sha256=digest)


def files_per_case(cases: Sequence[Case]) -> int:
  """Returns how many files a labeled case has at most: 1, unless channels are files."""
  return max((1 + len(case.more) for case in cases), default=1)


def group_unlabeled(paths: Sequence[Path], channels: int) -> dict[Path, tuple[Path, ...]]:
  """Groups the files of cases without masks, whose names alone do not say what digits mean.

  With one channel (of the labeled cases) each file is a case; else as `group_files`.
  """
  return group_files(paths) if channels > 1 else {path: (path,) for path in paths}


def check_channels(cases: Mapping[str, Sequence[Case]]) -> list[str]:
  """Returns a note on the channels of all prepared cases, where they have several.

  Raises:
    UserError: naming two files, if their numbers differ.
  """
  first: dict[int, Case] = {}
  for of_role in cases.values():
    for case in of_role:
      first.setdefault(int(read_prepared(case)['image'].shape[-1]), case)
  if len(first) > 1:
    (few, one), (many, other) = min(first.items()), max(first.items())
    raise UserError(
      f'{one.image} has {few} channel{"s" * (few > 1)} and {other.image} has {many}; all volumes '
      'of a data set need the same channels, in the same order.'
    )
  [(channels, case)] = first.items()
  if channels == 1:
    return []
  where = 'files NAME_0000, NAME_0001, ...' if case.more else 'the fourth axis of their files'
  return [f'volumes have {channels} channels ({where}); if these are moments in time, split them']


def read_new_volume(files: Sequence[Path], stats: DatasetStats) -> tuple[Volume, list[str]]:
  """Reads a volume to predict; returns it, and sentences on what is doubtful.

  Raises:
    UserError: if it cannot be read, or has other channels than those of the training.
  """
  check_numbers(files)
  volume = nifti.read_channels(files)
  if volume.channels() != stats.channels:
    advice = 'NAME_0000, NAME_0001, ... or a fourth axis, with the same channels in the same order'
    if stats.channels == 1:
      advice = 'a file of three axes for each channel, or moment in time'
    raise UserError(
      f'{files[0]} has {volume.channels()} channel{"s" * (volume.channels() > 1)} '
      f'({len(files)} file{"s" * (len(files) > 1)}) but the run learned from {stats.channels}; '
      f'give {advice}.'
    )
  preprocessing = VolumePreprocessing(**(stats.preprocessing or {}))
  doubts = [
    f'{files[min(channel, len(files) - 1)]}: {phrase} from which the run learned: do not trust its '
    'prediction'
    for channel, phrase in preprocessing.misfits(volume)
  ]
  return volume, doubts
