"""Your own volumes, or their slices: NIfTI files in images/ and masks/, and unlabeled ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_jax.data.image_mask_pairs import check_names, check_no_masks, unlabeled_folder
from ssl_jax.data.mask_encoding import class_ids, find_encoding
from ssl_jax.data.masks import folder_notes, instance_masks
from ssl_jax.data.masks.mask_facts import MaskFacts
from ssl_jax.data.selection import draws, held_out
from ssl_jax.data.selection.groups import group_reader, grouped_names_note
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.data.volume_source import Case, FileDigests, VolumeSource, default_cache
from ssl_jax.data.volumes import volume_channels
from ssl_jax.data.volumes.volume_spacing import header_notes, median_spacing, size_note
from ssl_jax.data.volumes.volume_splits import (
  list_pairs,
  make_splits,
  prepare_roles,
  read_mask_facts,
)
from ssl_jax.errors import UserError
from ssl_jax.io.folders import listing
from ssl_jax.io.formats import nifti_geometry
from ssl_jax.io.formats.nifti_geometry import text_of
from ssl_jax.types import Draw, Splits


def load(
  *,
  labeled: str | Path,
  unlabeled: str | Path | None = None,
  val: str | Path | None = None,
  test: str | Path | None = None,
  classes: int | Sequence[str] | None = None,
  values: str | Mapping[Any, Any] | None = None,
  num_labeled: float | int | None = None,
  test_fraction: float | int = 0.25,
  seed: int = 0,
  draw: int = 0,
  group: str = '',
  spacing: Sequence[float | int] | None = None,
  window: Sequence[float | int] | Sequence[Sequence[float | int]] | None = None,
  clip: bool | None = None,
  foreground_threshold: float | int | None = None,
  percentiles: Sequence[float | int] = (0.5, 99.5),
  cache: str | Path | None = None,
  slices: bool = False,
  size: Sequence[int] | None = None,
  ignore_affine: bool = False,
  instances: bool = False,
  min_size: int | None = None,
) -> Splits:
  """Loads volumes, which are preprocessed once and kept in a cache.

  Training volumes that are, byte for byte, in val or test are dropped, and those of a group that
  is.

  Args:
    labeled: a folder with images/ and masks/ in it.
    unlabeled: a folder of volumes only.
    val: as `labeled`.
    test: as `labeled`; None: `test_fraction` of the labeled volumes are the test.
    classes: a number or names, the background first; needed if no mask holds the last of them, or
      the masks leave them open.
    values: class ids (or names) of the values of masks, as in '205:1, 420:2'; 255 means ignore;
      needed only if the masks leave it open.
    num_labeled: how many of the labeled volumes (with `group`, of the patients) keep their masks,
      or below 1 which fraction of them; None: all. The others become unlabeled, and their masks
      only judge pseudo-labels.
    test_fraction: of the labeled volumes, set aside for the test where there is no folder for it;
      0: no test.
    draw: number of the repetition; without a test folder repetitions are a cross-validation, with
      `num_labeled` each has other labeled volumes.
    group: regular expression whose first group, or match, in a file's name is the patient, or a
      CSV file (name, group), so that no patient is in training and test; empty: volumes are
      independent.
    seed: of the draws.
    spacing: mm of a voxel along x, y and z; None: the median of the volumes in `labeled` and
      `unlabeled`, of slices as it is in each file; (): as it is in each file.
    window: raw values that become 0 and 1 (of CT: Hounsfield units), or such a pair for each
      channel; None: percentiles of each volume, and of each of its channels.
    clip: whether values outside of these become 0 and 1; otherwise all of them become 0. None:
      where there is no window, since the values above a percentile are the brightest of each
      volume.
    foreground_threshold: voxels above it are foreground, to which a volume is cropped; None: no
      cropping.
    percentiles: of the values of each volume that become 0 and 1, where there is no window.
    cache: the folder that keeps what is preprocessed; None: ~/.cache/ssl_jax/volumes.
    slices: whether a network of two dimensions learns from the slices (along z). Volumes of val and
      test are predicted slice by slice and scored whole.
    size: rows and columns that each slice is resized to for the network; None: as it is.
    ignore_affine: whether a mask lies on its image voxel by voxel, whatever its header says.
    instances: whether masks hold an id for each object: the network learns background, body and
      border of objects, and predicts each object apart.
    min_size: of instances: voxels (of `spacing`) of the smallest that is predicted; None: a quarter
      of the size that 5 % of the labeled instances fall below.

  Raises:
    UserError: naming the file that is missing, broken, or of another shape than its mask.
  """
  preprocessing = VolumePreprocessing(
    spacing=_floats(spacing) if spacing else None,
    window=_window(window),
    clip=not window if clip is None else clip,
    foreground_threshold=None if foreground_threshold is None else float(foreground_threshold),
    percentiles=_floats(percentiles),
    slices=slices,
    size=None if size is None else tuple(size),
    ignore_affine=ignore_affine,
  )
  preprocessing.check()
  # Hashes are saved when the block ends, also after an error.
  with FileDigests(Path(cache) if cache else default_cache()) as digests:
    listed = list_pairs(Path(labeled), 'labeled', digests)
    cases: dict[str, list[Case]] = {
      'val': list_pairs(Path(val), 'val', digests) if val else [],
      'test': list_pairs(Path(test), 'test', digests) if test else [],
    }
    # One order for all draws: the test comes first, then the labeled, then the rest. The volumes of
    # a smaller num_labeled are among those of a larger one, and the test is the same for both.
    training = [listed[i] for i in draws.draw_order(len(listed), seed, draw)]
    read_group = group_reader(group)
    drawn = Draw(groups={case.name: read_group(case.name) for case in cases['test']})
    kinds = {'images': listing.VOLUMES, 'masks': listing.VOLUMES}
    notes = folder_notes.left_out((labeled, val, test), unlabeled, kinds)
    with_masks = [*listed, *cases['val'], *cases['test']]
    masks = None
    facts: list[MaskFacts] = []
    if instances:
      # Masks of instances become classes of their own.
      paths = [case.mask for case in with_masks]
      masks = instance_masks.look_through_volumes(paths, classes, values=values)
      encoding = class_ids(masks.classes)
      notes += masks.notes
    else:
      # What values mean follows from all masks.
      facts = read_mask_facts(with_masks, digests)
      encoding = find_encoding(facts, classes, values)
      notes += encoding.notes
    if not group and (note := grouped_names_note([case.name for case in listed])):
      notes.append(note)
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
    # In the drawn order, so that the patients of fewer labels are among those of more.
    patients = list(dict.fromkeys(read_group(case.name) for case in training))
    units = 'groups' if group else 'volumes'
    count = draws.labeled_count(num_labeled, len(patients), units)
    chosen = set(patients[:count])
    cases['labeled'] = [case for case in training if read_group(case.name) in chosen]
    if not drawn.own_test:
      drawn = drawn._replace(overlap=draws.pool_overlap(count, len(patients)))
    # Their masks are known but not used for training.
    hidden = [case for case in training if read_group(case.name) not in chosen]
    channels = volume_channels.files_per_case(listed)
    more = _list_unlabeled(Path(unlabeled), digests, channels) if unlabeled else []
    cases['unlabeled'] = _join(hidden, more)
    notes += held_out.drop_groups(cases, group)
    if masks is None and classes is None and values is None:
      # Hidden masks must not influence the training, not even its number of classes.
      shown = {case.mask for role in ('labeled', 'val', 'test') for case in cases[role]}
      encoding = encoding.limited_to([mask for mask in facts if mask.path in shown])
    geometries = {
      case.image: nifti_geometry.geometry_of(case.image)
      for case in [*listed, *more, *cases['val'], *cases['test']]
    }
    if spacing is None and not slices:
      # Of all volumes of these folders, so that it is the same for every draw.
      chosen_spacing = median_spacing([geometries[case.image] for case in [*listed, *more]])
      preprocessing = preprocessing._replace(spacing=chosen_spacing)
      notes.append(
        f'data.spacing is {text_of(chosen_spacing)} mm, the median of {len(listed) + len(more)} '
        f'volumes'
      )
    prepared, dropped = prepare_roles(cases, preprocessing, digests, encoding, masks)
    notes += header_notes(geometries)
    notes.append(size_note(prepared['labeled'], geometries, preprocessing))
  splits = make_splits(
    prepared,
    preprocessing,
    encoding.classes,
    # Index i of `truth` must be index i of `unlabeled`, so there is none if other volumes were
    # added.
    judged=bool(hidden) and not unlabeled,
    notes=[*notes, *dropped],
    draw=drawn,
  )
  if masks is None:
    return splits
  return instance_masks.mark(splits, min_size, VolumeSource(prepared['labeled']))


def _window(window: Any) -> Any:
  """One pair of floats, or one for each channel; None stays."""
  if window is None:
    return None
  if any(isinstance(pair, Sequence) for pair in window):
    return tuple(_floats(pair) for pair in window)
  return _floats(window)


def _floats(values: Sequence[float | int]) -> tuple[float, ...]:
  return tuple(float(value) for value in values)


def _check_fraction(test_fraction: float | int, total: int) -> None:
  """Raises UserError where no volume would be left to learn from."""
  if not 0 < test_fraction < 1 or total < 2:
    raise UserError(
      f'data.test_fraction={test_fraction} leaves none of {total} volumes to learn from; give a '
      'fraction of 0 to 1, more labeled volumes, or a test folder.'
    )


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


def _list_unlabeled(folder: Path, digests: FileDigests, channels: int) -> list[Case]:
  """Volumes of a folder, or of the images/ in it, of so many files each."""
  # A folder with images/ and masks/ may be given as well; its masks are not read.
  paths = listing.list_volumes(unlabeled_folder(folder), partial=True)
  check_no_masks(paths)
  files_of = volume_channels.group_unlabeled(paths, channels)
  check_names(list(files_of))
  cases = []
  for path, files in files_of.items():
    case = Case(volume_channels.case_name(files), path, None, digests.sha256(path))
    cases.append(volume_channels.with_channels(case, files, digests))
  return cases
