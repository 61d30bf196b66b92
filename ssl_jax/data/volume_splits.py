"""What data sets of volumes share: pairs of files, and the splits of prepared volumes or slices."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ssl_jax.data.held_out import drop_copies
from ssl_jax.data.image_mask_pairs import subfolder
from ssl_jax.data.instance_masks import InstanceMasks
from ssl_jax.data.mask_encoding import numbered_classes
from ssl_jax.data.slice_source import SlicedVolumes, SliceSource
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.data.volume_source import (
  Case,
  FileDigests,
  VolumeSource,
  largest_class,
  prepare_cases,
)
from ssl_jax.errors import UserError
from ssl_jax.io import nifti
from ssl_jax.types import Draw, Source, Splits

HOW = 'put the volumes in images/ and their masks, under the same names, in masks/'


def list_pairs(folder: Path, role: str, digests: FileDigests) -> list[Case]:
  """Returns volumes and their masks, in folders images/ and masks/.

  Raises:
    UserError: if a folder or a mask is missing.
  """
  image_paths = nifti.list_volumes(subfolder(folder, 'images', role, HOW))
  mask_folder = subfolder(folder, 'masks', role, HOW)
  # The mask of NAME.nii.gz may be NAME.nii.
  masks = {nifti.name_of(path): path for path in nifti.list_volumes(mask_folder)}
  cases = []
  for path in image_paths:
    name = nifti.name_of(path)
    if name not in masks:
      raise UserError(f'{path} has no mask in {mask_folder}; {HOW}.')
    cases.append(Case(name, path, masks[name], digests.sha256(path)))
  return cases


def prepare_roles(
  cases: Mapping[str, list[Case]],
  preprocessing: VolumePreprocessing,
  digests: FileDigests,
  masks: InstanceMasks | None = None,
) -> tuple[dict[str, list[Case]], list[str]]:
  """Returns the prepared cases of 'labeled', 'unlabeled', 'val' and 'test', and notes on them.

  Training volumes that are, byte for byte, in val or test are dropped. `masks` says how masks
  of instances are read.

  Raises:
    UserError: naming the file that is broken or does not fit its image.
  """
  kept = dict(cases)
  # Before the preprocessing, so that no time is spent on volumes that are dropped.
  notes = drop_copies(kept)
  prepared = {
    role: prepare_cases(of_role, preprocessing, digests, role, masks)
    for role, of_role in kept.items()
  }
  return prepared, notes


def make_splits(
  cases: Mapping[str, Sequence[Case]],
  preprocessing: VolumePreprocessing,
  classes: int | Sequence[str] | None,
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
    classes: a number or names, the background first; None: as many as the masks hold.
    judged: whether all unlabeled volumes have hidden masks, which judge pseudo-labels.
    notes: what the user should know.
    draw: how the labeled and the test volumes were drawn.

  Raises:
    UserError: if a mask holds more than that number of classes.
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
    # Without the hidden masks, which must not influence the training.
    classes=_class_names(classes, [*cases['labeled'], *cases['val'], *cases['test']]),
    notes=tuple(notes),
    digest=hashlib.sha256(json.dumps(seen).encode()).hexdigest(),
    preprocessing=preprocessing.to_dict(),
    draw=draw or Draw(),
  )


def _folder_name(case: Case) -> str:
  """The name of a prepared case's folder in the cache, in which a content hash is."""
  return '' if case.prepared is None else case.prepared.name


def _class_names(classes: int | Sequence[str] | None, cases: Sequence[Case]) -> tuple[str, ...]:
  """The names of the classes; by default as many as the masks hold."""
  if classes is not None and not isinstance(classes, int):
    return tuple(classes)
  largest = largest_class(cases)
  # Ids above the given number would have no output channel.
  if classes is not None and classes <= largest:
    raise UserError(f'data.classes={classes}, but a mask holds the class {largest}; increase it.')
  return numbered_classes(classes or largest + 1)
