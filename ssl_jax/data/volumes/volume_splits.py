"""What data sets of volumes share: pairs of files, and the splits of prepared volumes or slices."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from ssl_jax import parallel
from ssl_jax.data.image_mask_pairs import check_names, match_masks, subfolder
from ssl_jax.data.mask_encoding import Encoding
from ssl_jax.data.masks.instance_masks import InstanceMasks
from ssl_jax.data.masks.mask_facts import MaskFacts, read_facts
from ssl_jax.data.selection.held_out import drop_copies
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.data.volume_source import (
  Case,
  FileDigests,
  VolumeSource,
  prepare_cases,
)
from ssl_jax.data.volumes import volume_channels
from ssl_jax.data.volumes.slice_source import SlicedVolumes, SliceSource
from ssl_jax.io import nifti
from ssl_jax.io.folders import listing
from ssl_jax.types import Draw, Source, Splits

HOW = 'put the volumes in images/ and their masks, under the same names, in masks/'

MASK_FACTS = 'mask-facts'
"""Folder of the cache with what was counted in masks, so that none is read a second time."""


def list_pairs(folder: Path, role: str, digests: FileDigests) -> list[Case]:
  """Returns volumes and their masks, in folders images/ and masks/.

  Files NAME_0000, NAME_0001, ... are channels of one volume.

  Raises:
    UserError: if a folder is missing, or a volume or a mask has no partner.
  """
  image_paths = listing.list_volumes(subfolder(folder, 'images', role, HOW))
  mask_folder = subfolder(folder, 'masks', role, HOW)
  mask_paths = listing.list_volumes(mask_folder)
  files_of = volume_channels.group_files(image_paths, {nifti.name_of(path) for path in mask_paths})
  # The first file of a case stands for it.
  first_files = list(files_of)
  check_names(first_files)
  masks = match_masks(first_files, mask_paths, mask_folder)
  cases = []
  for path, mask in zip(first_files, masks, strict=True):
    case = Case(volume_channels.case_name(files_of[path]), path, mask, digests.sha256(path))
    cases.append(volume_channels.with_channels(case, files_of[path], digests))
  return cases


def read_mask_facts(cases: Sequence[Case], digests: FileDigests) -> list[MaskFacts]:
  """Returns what is counted in the masks of volumes, once for files of one content.

  Raises:
    UserError: naming the mask that cannot be read or holds fractions.
  """
  masks = [case.mask for case in cases if case.mask is not None]
  silent = not masks or not parallel.is_main()
  progress = tqdm(masks, unit=' masks', desc='check', disable=silent, delay=1)
  folder = digests.cache / MASK_FACTS
  return [read_facts(path, digests.sha256(path), folder) for path in progress]


def prepare_roles(
  cases: Mapping[str, list[Case]],
  preprocessing: VolumePreprocessing,
  digests: FileDigests,
  encoding: Encoding,
  instance_masks: InstanceMasks | None = None,
) -> tuple[dict[str, list[Case]], list[str]]:
  """Returns the prepared cases of 'labeled', 'unlabeled', 'val' and 'test', and notes on them.

  Training volumes that are, byte for byte, in val or test are dropped. `encoding` is how masks
  are read, and `instance_masks` those of instances.

  Raises:
    UserError: naming the file that is broken, does not fit its image, or has other channels.
  """
  kept = dict(cases)
  # Before the preprocessing, so that no time is spent on volumes that are dropped.
  notes = drop_copies(kept)
  prepared = {
    role: prepare_cases(of_role, preprocessing, digests, role, encoding, instance_masks)
    for role, of_role in kept.items()
  }
  return prepared, [*notes, *volume_channels.check_channels(prepared)]


def make_splits(
  cases: Mapping[str, Sequence[Case]],
  preprocessing: VolumePreprocessing,
  classes: Sequence[str],
  *,
  judged: bool,
  notes: Sequence[str] = (),
  draw: Draw | None = None,
) -> Splits:
  """Makes a data set of prepared cases: of volumes, or of slices to learn from.

  With slices, val and test stay volumes, which say that they are predicted slice by slice.

  Args:
    cases: of 'labeled', 'unlabeled', 'val' and 'test'.
    preprocessing: as which they were prepared.
    classes: names, the background first.
    judged: whether all unlabeled volumes have hidden masks, which judge pseudo-labels.
    notes: what the user should know.
    draw: how the labeled and the test volumes were drawn.
  """

  def training(role: str, labels: bool) -> Source | None:
    if not cases[role]:
      return None
    volumes = VolumeSource(cases[role], labels)
    return SliceSource(volumes, preprocessing.size) if preprocessing.slices else volumes

  def scored(role: str) -> Source | None:
    if not cases[role]:
      return None
    volumes = VolumeSource(cases[role])
    return SlicedVolumes(volumes, preprocessing.size) if preprocessing.slices else volumes

  labeled = training('labeled', labels=True)
  assert labeled is not None  # drop_copies refuses to leave none
  # The names of the cache folders contain a hash of files and settings.
  known = {role: [_folder_name(case) for case in of_role] for role, of_role in cases.items()}
  seen = [known, preprocessing.size] if preprocessing.slices else known
  return Splits(
    labeled=labeled,
    unlabeled=training('unlabeled', labels=False),
    val=scored('val'),
    test=scored('test'),
    truth=training('unlabeled', labels=True) if judged else None,
    classes=tuple(classes),
    notes=tuple(notes),
    digest=hashlib.sha256(json.dumps(seen).encode()).hexdigest(),
    preprocessing=preprocessing.to_dict(),
    draw=draw or Draw(),
  )


def _folder_name(case: Case) -> str:
  """The name of a prepared case's folder in the cache, in which a content hash is."""
  return '' if case.prepared is None else case.prepared.name
