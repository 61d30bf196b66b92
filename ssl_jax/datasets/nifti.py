"""Your own volumes: NIfTI files in images/ and masks/, and a folder of unlabeled ones."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from ssl_jax.data import draws
from ssl_jax.data.held_out import drop_copies
from ssl_jax.data.image_mask_pairs import subfolder
from ssl_jax.data.mask_encoding import numbered_classes
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.data.volume_source import (
  Case,
  FileDigests,
  VolumeSource,
  default_cache,
  largest_class,
  prepare_cases,
)
from ssl_jax.errors import UserError
from ssl_jax.io import nifti
from ssl_jax.types import Draw, Splits

HOW = 'put the volumes in images/ and their masks, under the same names, in masks/'


def load(
  *,
  labeled: str | Path,
  unlabeled: str | Path | None = None,
  val: str | Path | None = None,
  test: str | Path | None = None,
  classes: int | Sequence[str] | None = None,
  num_labeled: int | None = None,
  test_fraction: float | int = 0.25,
  seed: int = 0,
  draw: int = 0,
  group: str = '',
  spacing: Sequence[float | int] | None = None,
  window: Sequence[float | int] | None = None,
  clip: bool = False,
  foreground_threshold: float | int | None = None,
  percentiles: Sequence[float | int] = (0.5, 99.5),
  cache: str | Path | None = None,
) -> Splits:
  """Loads volumes, which are preprocessed once and kept in a cache.

  Training volumes that are, byte for byte, in val or test are dropped.

  Args:
    labeled: a folder with images/ and masks/ in it.
    unlabeled: a folder of volumes only.
    val: as `labeled`.
    test: as `labeled`; None: `test_fraction` of the labeled volumes are the test.
    classes: a number or names, the background first; needed if no mask holds the last of them.
    num_labeled: how many of the labeled volumes keep their masks; None: all. The others become
      unlabeled, and their masks only judge pseudo-labels.
    test_fraction: of the labeled volumes, set aside for the test where there is no folder for it;
      0: no test.
    draw: number of the repetition; without a test folder repetitions are a cross-validation, with
      `num_labeled` each has other labeled volumes.
    group: regular expression whose first group, or match, in a file's name is the patient, so that
      no patient is in training and test; empty: volumes are independent.
    seed: of the draws.
    spacing: mm of a voxel along x, y and z; None: as it is in each file.
    window: raw values that become 0 and 1 (of CT: Hounsfield units); None: percentiles of each
      volume.
    clip: whether values outside of these become 0 and 1; otherwise all of them become 0.
    foreground_threshold: voxels above it are foreground, to which a volume is cropped; None: no
      cropping.
    percentiles: of the values of each volume that become 0 and 1, where there is no window.
    cache: the folder that keeps what is preprocessed; None: ~/.cache/ssl_jax/volumes.

  Raises:
    UserError: naming the file that is missing, broken, or of another shape than its mask.
  """
  preprocessing = VolumePreprocessing(
    spacing=None if spacing is None else _floats(spacing),
    window=None if window is None else _floats(window),
    clip=clip,
    foreground_threshold=None if foreground_threshold is None else float(foreground_threshold),
    percentiles=_floats(percentiles),
  )
  preprocessing.check()
  # Hashes are saved when the block ends, also after an error.
  with FileDigests(Path(cache) if cache else default_cache()) as digests:
    listed = _list_pairs(Path(labeled), 'labeled', digests)
    cases: dict[str, list[Case]] = {
      'val': _list_pairs(Path(val), 'val', digests) if val else [],
      'test': _list_pairs(Path(test), 'test', digests) if test else [],
    }
    # One order for all draws: the test comes first, then the labeled, then the rest. The volumes of
    # a smaller num_labeled are among those of a larger one, and the test is the same for both.
    training = [listed[i] for i in draws.draw_order(len(listed), seed, draw)]
    read_group = draws.group_reader(group)
    drawn = Draw(groups={case.name: read_group(case.name) for case in cases['test']})
    notes = []
    # Whole volumes are drawn: slices of one volume are nearly equal.
    if not test and test_fraction:
      groups = list(dict.fromkeys(read_group(case.name) for case in listed))
      _check_fraction(test_fraction, len(groups))
      chosen = {groups[i] for i in draws.fold_of_draw(len(groups), test_fraction, seed, draw)}
      cases['test'] = [case for case in training if read_group(case.name) in chosen]
      training = [case for case in training if read_group(case.name) not in chosen]
      names = [case.name for case in cases['test']]
      drawn = draws.folds_draw(groups, [read_group(name) for name in names], names)
      count = len(names)
      notes.append(f'no test folder: {count} of {len(listed)} labeled volumes held out as test')
    if num_labeled is None:
      num_labeled = len(training)
    elif not 0 < num_labeled <= len(training):
      raise UserError(
        f'data.num_labeled={num_labeled} is not in 1..{len(training)}, the volumes with masks to '
        'learn from.'
      )
    cases['labeled'] = training[:num_labeled]
    if not drawn.own_test:
      drawn = drawn._replace(overlap=draws.pool_overlap(num_labeled, len(training)))
    # Their masks are known but not used for training.
    hidden = training[num_labeled:]
    more = _list_unlabeled(Path(unlabeled), digests) if unlabeled else []
    cases['unlabeled'] = _join(hidden, more)
    # Before the preprocessing, so that no time is spent on volumes that are dropped.
    notes += drop_copies(cases)
    cases = {
      role: prepare_cases(of_role, preprocessing, digests, role) for role, of_role in cases.items()
    }

  def source(role: str, labels: bool = True) -> VolumeSource | None:
    return VolumeSource(cases[role], labels) if cases[role] else None

  # Without `hidden`, whose masks must not influence the training.
  with_masks = [*cases['labeled'], *cases['val'], *cases['test']]
  folders = {role: [_folder_name(case) for case in of_role] for role, of_role in cases.items()}
  return Splits(
    labeled=VolumeSource(cases['labeled']),
    unlabeled=source('unlabeled', labels=False),
    val=source('val'),
    test=source('test'),
    # Index i of `truth` must be index i of `unlabeled`, so there is none if other volumes were
    # added.
    truth=source('unlabeled') if hidden and not unlabeled else None,
    classes=_class_names(classes, with_masks),
    notes=tuple(notes),
    # The names of the cache folders contain a hash of files and settings.
    digest=hashlib.sha256(json.dumps(folders).encode()).hexdigest(),
    preprocessing=preprocessing._asdict(),
    draw=drawn,
  )


def _floats(values: Sequence[float | int]) -> tuple[float, ...]:
  return tuple(float(value) for value in values)


def _check_fraction(test_fraction: float | int, total: int) -> None:
  """Raises UserError where no volume would be left to learn from."""
  if not 0 < test_fraction < 1 or total < 2:
    raise UserError(
      f'data.test_fraction={test_fraction} leaves none of {total} volumes to learn from; give a '
      'fraction of 0 to 1, more labeled volumes, or a test folder.'
    )


def _folder_name(case: Case) -> str:
  """The name of a prepared case's folder in the cache, in which a content hash is."""
  return '' if case.prepared is None else case.prepared.name


def _join(hidden: Sequence[Case], more: Sequence[Case]) -> list[Case]:
  """Unlabeled volumes of both kinds, without copies.

  Two volumes of the same name are refused, because their pseudo-labels would be one file.
  """
  # A volume that lies in both folders is taken once, with its hidden mask.
  known = {case.sha256 for case in hidden}
  cases = [*hidden, *(case for case in more if case.sha256 not in known)]
  case_of: dict[str, Case] = {}
  for case in cases:
    if case.name in case_of:
      raise UserError(
        f'{case.image} and {case_of[case.name].image} have the same name; rename one of them.'
      )
    case_of[case.name] = case
  return cases


def _list_pairs(folder: Path, role: str, digests: FileDigests) -> list[Case]:
  """Volumes and their masks, in folders images/ and masks/."""
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


def _list_unlabeled(folder: Path, digests: FileDigests) -> list[Case]:
  """Volumes of a folder, or of the images/ in it."""
  # A folder with images/ and masks/ may be given as well; its masks are not read.
  inner = folder / 'images'
  paths = nifti.list_volumes(inner if inner.is_dir() else folder)
  return [Case(nifti.name_of(path), path, None, digests.sha256(path)) for path in paths]


def _class_names(classes: int | Sequence[str] | None, cases: Sequence[Case]) -> tuple[str, ...]:
  """The names of the classes; by default as many as the masks hold."""
  if classes is not None and not isinstance(classes, int):
    return tuple(classes)
  largest = largest_class(cases)
  # Ids above the given number would have no output channel.
  if classes is not None and classes <= largest:
    raise UserError(f'data.classes={classes}, but a mask holds the class {largest}; increase it.')
  return numbered_classes(classes or largest + 1)
