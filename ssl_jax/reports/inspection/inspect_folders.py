"""Looks at the images and masks of a person before anything is trained on them.

All that is wrong is collected, where training would stop at the first of it. Nothing is changed.
"""

import collections
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ssl_jax import registry
from ssl_jax.data.image_mask_pairs import check_no_masks, find_pairs, subfolder, unlabeled_folder
from ssl_jax.data.mask_encoding import Encoding, find_encoding
from ssl_jax.data.masks.mask_facts import MaskFacts, read_facts
from ssl_jax.data.selection.groups import group_reader, grouped_names_note
from ssl_jax.errors import UserError
from ssl_jax.io import images
from ssl_jax.io.folders import equal_files, file_names, listing
from ssl_jax.io.formats.stored_image import Header
from ssl_jax.reports.inspection import pixels_of_folders, points_of_folders, volumes_of_folders
from ssl_jax.reports.inspection.pixels_of_folders import (
  MOST_NAMED,
  NOTE,
  PROBLEM,
  WARNING,
  Finding,
  Sample,
  among,
  named,
)


class Inspection(NamedTuple):
  """What was found."""

  kind: str  # 'images', 'volumes' or 'points'
  findings: list[Finding]
  counts: dict[str, int]  # files by role
  sizes: dict[str, int]  # images by size, channels and type, the most frequent first
  classes: list[dict[str, Any]]  # name, share in percent, images that show it, objects, diameter
  samples: list[Sample]  # some labeled images
  outliers: list[Sample]
  alike: list[tuple[Sample, Sample]]
  encoding: Encoding | None = None

  def of_level(self, level: str) -> list[str]:
    """Returns the findings of one level."""
    return [finding.text for finding in self.findings if finding.level == level]


class Reading(NamedTuple):
  """How masks are to be read: the fields of a config's `data` of these names."""

  classes: int | Sequence[str] | None = None
  values: str | None = None
  instances: bool = False
  ignore_affine: bool = False

  def loader_fields(self, kind: str) -> dict[str, Any]:
    """Returns the fields that the loader of a kind has and that are given."""
    known = {'points': ('classes',), 'images': ('classes', 'values', 'instances')}
    fields = known.get(kind, self._fields)
    return {name: value for name, value in self._asdict().items() if name in fields and value}


AS_STORED = Reading()


def inspect(
  labeled: Path,
  unlabeled: Path | None = None,
  val: Path | None = None,
  test: Path | None = None,
  group: str = '',
  reading: Reading = AS_STORED,
) -> Inspection:
  """Inspects folders laid out as for training: images/ with masks/ or points/, or volumes.

  Raises:
    UserError: if `labeled` does not exist or has no images/ in it.
  """
  kind = kind_of(labeled)
  findings: list[Finding] = []
  roles = {'labeled': labeled, 'unlabeled': unlabeled, 'val': val, 'test': test}
  given = {role: path for role, path in roles.items() if path is not None}
  files = {role: list_role(role, path, kind, findings) for role, path in given.items()}
  counts = {role: len(paths) for role, paths in files.items()}
  copies = find_copies(files, findings)
  _find_groups(files, group, findings)
  result = Inspection(kind, findings, counts, {}, [], [], [], [])
  if kind == 'volumes':
    result = _inspect_volumes(given, files, reading, result)
  else:
    result = _inspect_pixels(given, files, copies, reading, result)
  _ask_loader(kind, given, {'group': group, **reading.loader_fields(kind)}, files, findings)
  return result


def kind_of(labeled: Path) -> str:
  """Returns what the labeled files of a folder are: 'images', 'volumes' or 'points'.

  Raises:
    UserError: if the folder does not exist or has no images/ in it.
  """
  folder = subfolder(labeled, 'images', 'labeled', 'put the labeled images in images/')
  if listing.read_folder(folder, listing.VOLUMES).paths:
    return 'volumes'
  if not _has(labeled, 'masks') and _has(labeled, 'points'):
    return 'points'
  return 'images'


def _has(folder: Path, name: str) -> bool:
  return any(path.is_dir() and path.name.lower() == name for path in folder.iterdir())


def list_role(role: str, folder: Path, kind: str, findings: list[Finding]) -> list[Path]:
  """Returns the image files of a role; what else its folder holds becomes findings."""
  try:
    if role == 'unlabeled':
      place = unlabeled_folder(folder)
    else:
      place = subfolder(folder, 'images', role, 'put the images in images/')
    listed = listing.read_folder(place, listing.VOLUMES if kind == 'volumes' else listing.IMAGES)
  except UserError as error:
    findings.append(Finding(PROBLEM, str(error)))
    return []
  if not listed.paths:
    findings.append(Finding(PROBLEM, f'{place} holds no {listed.kind.name}.'))
  if role == 'unlabeled':
    try:
      check_no_masks(listed.paths)
    except UserError as error:
      findings.append(Finding(PROBLEM, str(error)))
  findings.extend(
    Finding(PROBLEM, f'{path} {listing.NOT_FETCHED}.') for path in listed.missing[:MOST_NAMED]
  )
  if listed.others:
    findings.append(Finding(NOTE, listed._replace(missing=[]).note() + '.'))
  return listed.paths


def find_copies(
  files: Mapping[str, Sequence[Path]], findings: list[Finding]
) -> set[frozenset[Path]]:
  """Returns the pairs of files of one content, within a role and across them."""
  every = [(role, path) for role, paths in files.items() for path in paths]
  equal = equal_files.find([path for _, path in every])
  findings.extend(Finding(PROBLEM, sentence) for sentence in equal.unreadable)
  copies: dict[tuple[str, str], list[str]] = {}
  for first, *others in equal.groups:
    role, path = every[first]
    for index in others:
      other_role, other = every[index]
      copies.setdefault((role, other_role), []).append(f'{other.name} = {path.name}')
  for roles, pairs in copies.items():
    # A copy of a test image in training is dropped there, which changes the counts.
    level = NOTE if set(roles) == {'unlabeled'} else WARNING
    findings.append(Finding(level, f'exact copies {among(roles)}: {named(pairs)}.'))
  return {
    frozenset((every[one][1], every[other][1]))
    for group in equal.groups
    for one, other in itertools.combinations(group, 2)
  }


def _find_groups(files: Mapping[str, Sequence[Path]], group: str, findings: list[Finding]) -> None:
  """Names that look grouped, and groups on both sides of a split."""
  names = {role: [file_names.stem(path) for path in paths] for role, paths in files.items()}
  if not group:
    if note := grouped_names_note(names.get('labeled', [])):
      findings.append(Finding(WARNING, note + '.'))
    return
  try:
    read_group = group_reader(group)
    groups = {
      role: {read_group(name) for name in names.get(role, [])} for role in ('labeled', 'test')
    }
  except UserError as error:
    findings.append(Finding(PROBLEM, str(error)))
    return
  findings.append(Finding(NOTE, f'{len(groups["labeled"])} groups of labeled images.'))
  if both := sorted(groups['labeled'] & groups['test']):
    findings.append(
      Finding(WARNING, f'{len(both)} groups are among labeled and test images: {named(both)}.')
    )


def _inspect_volumes(
  given: Mapping[str, Path],
  files: Mapping[str, Sequence[Path]],
  reading: Reading,
  result: Inspection,
) -> Inspection:
  """Inspects volumes and their masks."""
  findings = result.findings
  sizes, broken = volumes_of_folders.count_sizes(files, findings)
  mask_paths = {
    role: list_masks(given[role], role, listing.VOLUMES, findings)
    for role in given
    if role != 'unlabeled'
  }
  names = {role: {file_names.stem(path) for path in paths} for role, paths in mask_paths.items()}
  cases = volumes_of_folders.group(files, names)
  mask_of: dict[Path, Path] = {}
  for role, paths in mask_paths.items():
    mask_of |= pair(role, [case[0] for case in cases[role]], paths, findings)
  facts = _read_facts(mask_of.values(), findings)
  encoding = _find_encoding(list(facts.values()), reading, findings)
  samples = volumes_of_folders.read_samples(
    volumes_of_folders.Volumes(cases, mask_of),
    broken | (set(mask_of.values()) - set(facts)),
    encoding,
    reading.ignore_affine,
    findings,
  )
  return result._replace(
    counts={role: len(of_role) for role, of_role in cases.items()},
    sizes=_most_frequent(sizes),
    classes=volumes_of_folders.class_table(list(facts.values()), encoding) if encoding else [],
    samples=samples,
    encoding=encoding,
  )


def _inspect_pixels(
  given: Mapping[str, Path],
  files: Mapping[str, Sequence[Path]],
  copies: Collection[frozenset[Path]],
  reading: Reading,
  result: Inspection,
) -> Inspection:
  """Inspects images, and their masks where the kind has some."""
  findings = result.findings
  headers: dict[Path, Header] = {}
  for path in (path for paths in files.values() for path in paths):
    try:
      headers[path] = images.read_header(path)
    except UserError as error:
      findings.append(Finding(PROBLEM, str(error)))
      continue
    findings.extend(Finding(NOTE, f'{path.name}: {change}.') for change in headers[path].changes)
  sizes = collections.Counter(form_of(header) for header in headers.values())
  mask_of: dict[Path, Path] = {}
  encoding = None
  if result.kind == 'images':
    for role in given:
      if role != 'unlabeled':
        mask_of |= find_masks(given[role], role, files[role], findings)
    facts = _read_facts(mask_of.values(), findings)
    encoding = _find_encoding(list(facts.values()), reading, findings)
    _check_sizes(mask_of, headers, facts, findings)
  for role in given:
    if result.kind == 'points' and role != 'unlabeled':
      points_of_folders.check(given[role], role, files[role], headers, findings)
  # A broken file was told by its header.
  readable = {role: [path for path in paths if path in headers] for role, paths in files.items()}
  samples = pixels_of_folders.read_samples(readable, mask_of, findings)
  classes = pixels_of_folders.class_table(samples, encoding, findings) if encoding else []
  pixels_of_folders.find_misplaced(samples, findings)
  comparable = pixels_of_folders.of_equal_channels(samples)
  outliers = pixels_of_folders.find_outliers(comparable, findings)
  pixels_of_folders.compare_unlabeled(comparable, findings)
  alike = pixels_of_folders.find_alike(samples, copies, findings)
  shown = [sample for sample in samples if sample.role == 'labeled']
  return result._replace(
    sizes=_most_frequent(sizes),
    classes=classes,
    samples=shown,
    outliers=outliers,
    alike=alike,
    encoding=encoding,
  )


def form_of(header: Header) -> str:
  """Returns size, channels and type of an image, as in '96 x 128, gray, uint8'."""
  channels = 'gray' if header.channels == 1 else f'{header.channels} channels'
  return f'{header.height} x {header.width}, {channels}, {header.dtype}'


def find_masks(
  folder: Path, role: str, image_paths: Sequence[Path], findings: list[Finding]
) -> dict[Path, Path]:
  """Returns the masks of a role's images; those without partners become findings."""
  masks = list_masks(folder, role, listing.IMAGES, findings)
  return pair(role, image_paths, masks, findings) if masks else {}


def list_masks(folder: Path, role: str, kind: listing.Kind, findings: list[Finding]) -> list[Path]:
  """Returns the mask files of a role; a folder that has none becomes a finding."""
  try:
    place = subfolder(folder, 'masks', role, 'put the masks in masks/')
    masks = listing.read_folder(place, kind).paths
  except UserError as error:
    findings.append(Finding(PROBLEM, str(error)))
    return []
  if not masks:
    findings.append(Finding(PROBLEM, f'{place} holds no masks.'))
  return masks


def pair(
  role: str, image_paths: Sequence[Path], masks: Sequence[Path], findings: list[Finding]
) -> dict[Path, Path]:
  """Returns the mask of each image; those without partners become findings."""
  pairs = find_pairs(image_paths, masks)
  for text, paths in (
    (f'{role} images without a mask', pairs.images_alone),
    (f'masks without a {role} image', pairs.masks_alone),
  ):
    if paths:
      findings.append(Finding(PROBLEM, f'{text}: {named([p.name for p in paths])}.'))
  findings.extend(Finding(PROBLEM, sentence) for sentence in pairs.unclear)
  return pairs.mask_of


def _read_facts(masks: Iterable[Path], findings: list[Finding]) -> dict[Path, MaskFacts]:
  """What is counted in each mask; those that cannot be read become findings."""
  facts = {}
  for mask in masks:
    try:
      facts[mask] = read_facts(mask)
    except UserError as error:
      findings.append(Finding(PROBLEM, str(error)))
  return facts


def _check_sizes(
  mask_of: Mapping[Path, Path],
  headers: Mapping[Path, Header],
  facts: Mapping[Path, MaskFacts],
  findings: list[Finding],
) -> None:
  """Finds masks of other sizes than their images."""
  for image, mask in mask_of.items():
    if image not in headers or mask not in facts:
      continue
    shape, header = facts[mask].shape, headers[image]
    # Turned by orientation tags they may fit all the same, which the loader decides.
    if sorted(shape) != sorted((header.height, header.width)):
      findings.append(
        Finding(
          PROBLEM,
          f'{mask.name} is {shape[0]} x {shape[1]} pixels but {image.name} is '
          f'{header.height} x {header.width}; save the mask at the size of its image.',
        )
      )


def _find_encoding(
  facts: Sequence[MaskFacts], reading: Reading, findings: list[Finding]
) -> Encoding | None:
  """What the values of the masks mean; None where nothing can be said, or they are objects."""
  if not facts or reading.instances:
    return None
  try:
    encoding = find_encoding(facts, reading.classes, reading.values)
  except UserError as error:
    findings.append(Finding(PROBLEM, str(error)))
    return None
  findings.extend(Finding(NOTE, f'{note}.') for note in encoding.notes)
  return encoding


def _ask_loader(
  kind: str,
  given: Mapping[str, Path],
  fields: Mapping[str, Any],
  files: Mapping[str, Sequence[Path]],
  findings: list[Finding],
) -> None:
  """What the loader of a training says, or why it would refuse."""
  name = {'images': 'folder', 'volumes': 'nifti', 'points': 'points'}[kind]
  load: Callable[..., Any] = registry.find('datasets', name).load
  try:
    splits = load(**{role: str(path) for role, path in given.items()}, **fields)
  except UserError as error:
    # It stops at the first problem, which mostly was found before: at the latest where it names a
    # file that another problem names as well.
    text = str(error)
    names = {path.name for paths in files.values() for path in paths if path.name in text}
    problems = [finding.text for finding in findings if finding.level == PROBLEM]
    if text in problems or any(name in problem for name in names for problem in problems):
      return
    findings.append(Finding(PROBLEM, f'A training would stop: {text}'))
    return
  told = {finding.text for finding in findings}
  findings.extend(Finding(NOTE, f'{note}.') for note in splits.notes if f'{note}.' not in told)


def _most_frequent(counts: Mapping[str, int]) -> dict[str, int]:
  return dict(sorted(counts.items(), key=lambda item: -item[1]))
