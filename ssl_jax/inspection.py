"""Looks at the images and masks of a person before anything is trained on them.

All that is wrong is collected, where training would stop at the first of it. Nothing is changed.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ssl_jax import inspection_pixels, registry
from ssl_jax.data.groups import group_reader, grouped_names_note
from ssl_jax.data.image_mask_pairs import find_pairs, subfolder, unlabeled_folder
from ssl_jax.data.mask_encoding import Encoding, find_encoding
from ssl_jax.data.mask_facts import MaskFacts, read_facts
from ssl_jax.errors import UserError
from ssl_jax.inspection_pixels import MOST_NAMED, NOTE, PROBLEM, WARNING, Finding, Sample, named
from ssl_jax.io import equal_files, file_names, images, listing, nifti_geometry
from ssl_jax.io.stored_image import Header


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


def inspect(
  labeled: Path,
  unlabeled: Path | None = None,
  val: Path | None = None,
  test: Path | None = None,
  group: str = '',
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
  find_copies(files, findings)
  _find_groups(files, group, findings)
  result = Inspection(kind, findings, counts, {}, [], [], [], [])
  if kind == 'volumes':
    result = result._replace(sizes=_volume_sizes(files, findings))
  else:
    result = _inspect_pixels(given, files, kind, result)
  _ask_loader(kind, given, group, findings)
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
  findings.extend(
    Finding(PROBLEM, f'{path} {listing.NOT_FETCHED}.') for path in listed.missing[:MOST_NAMED]
  )
  if listed.others:
    findings.append(Finding(NOTE, listed._replace(missing=[]).note() + '.'))
  return listed.paths


def find_copies(files: Mapping[str, Sequence[Path]], findings: list[Finding]) -> None:
  """Finds files of one content, within a role and across them."""
  every = [(role, path) for role, paths in files.items() for path in paths]
  equal = equal_files.find([path for _, path in every])
  findings.extend(Finding(PROBLEM, sentence) for sentence in equal.unreadable)
  copies: dict[tuple[str, str], list[str]] = {}
  for first, *others in equal.groups:
    role, path = every[first]
    for index in others:
      other_role, other = every[index]
      copies.setdefault((role, other_role), []).append(f'{other.name} = {path.name}')
  for (one, other), pairs in copies.items():
    where = f'within {one}' if one == other else f'of {one} and {other}'
    # A copy of a test image in training is dropped there, which changes the counts.
    level = NOTE if one == other == 'unlabeled' else WARNING
    findings.append(Finding(level, f'{len(pairs)} exact copies {where}: {named(pairs)}.'))


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


def _volume_sizes(files: Mapping[str, Sequence[Path]], findings: list[Finding]) -> dict[str, int]:
  """Volumes by shape and spacing; broken headers become findings."""
  sizes: dict[str, int] = {}
  for path in (path for paths in files.values() for path in paths):
    try:
      geometry = nifti_geometry.geometry_of(path)
    except UserError as error:
      findings.append(Finding(PROBLEM, str(error)))
      continue
    shape = nifti_geometry.text_of(geometry.shape)
    key = f'{shape} voxels of {nifti_geometry.text_of(geometry.spacing)} mm'
    sizes[key] = sizes.get(key, 0) + 1
    findings.extend(Finding(WARNING, f'{path.name}: {note}.') for note in geometry.notes)
  return _most_frequent(sizes)


def _inspect_pixels(
  given: Mapping[str, Path], files: Mapping[str, Sequence[Path]], kind: str, result: Inspection
) -> Inspection:
  """Inspects images, and their masks where the kind has some."""
  findings = result.findings
  sizes: dict[str, int] = {}
  for path in (path for paths in files.values() for path in paths):
    try:
      header = images.read_header(path)
    except UserError as error:
      findings.append(Finding(PROBLEM, str(error)))
      continue
    key = form_of(header)
    sizes[key] = sizes.get(key, 0) + 1
    findings.extend(Finding(NOTE, f'{path.name}: {change}.') for change in header.changes)
  mask_of: dict[Path, Path] = {}
  encoding = None
  if kind == 'images':
    for role in ('labeled', 'val', 'test'):
      if role in given:
        mask_of |= find_masks(given[role], role, files[role], findings)
    encoding = _find_encoding(mask_of, findings)
  samples = inspection_pixels.read_samples(files, mask_of, findings)
  classes = inspection_pixels.class_table(samples, encoding, findings) if encoding else []
  inspection_pixels.find_misplaced(samples, findings)
  outliers = inspection_pixels.find_outliers(samples, findings)
  inspection_pixels.compare_unlabeled(samples, findings)
  alike = inspection_pixels.find_alike(files, samples, findings)
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
  try:
    place = subfolder(folder, 'masks', role, 'put the masks in masks/')
    listed = listing.read_folder(place, listing.IMAGES)
  except UserError as error:
    findings.append(Finding(PROBLEM, str(error)))
    return {}
  pairs = find_pairs(image_paths, listed.paths)
  for text, paths in (
    (f'images of {role} have no mask', pairs.images_alone),
    (f'masks of {role} have no image', pairs.masks_alone),
  ):
    if paths:
      findings.append(Finding(PROBLEM, f'{len(paths)} {text}: {named([p.name for p in paths])}.'))
  findings.extend(Finding(PROBLEM, sentence) for sentence in pairs.unclear)
  return pairs.mask_of


def _find_encoding(mask_of: Mapping[Path, Path], findings: list[Finding]) -> Encoding | None:
  """What the values of the masks mean; None where nothing can be said."""
  facts: list[MaskFacts] = []
  for image, mask in mask_of.items():
    try:
      of_mask = read_facts(mask)
      header = images.read_header(image)
    except UserError as error:
      findings.append(Finding(PROBLEM, str(error)))
      continue
    # Turned by orientation tags they may fit all the same, which the loader decides.
    if sorted(of_mask.shape) != sorted((header.height, header.width)):
      findings.append(
        Finding(
          PROBLEM,
          f'{mask.name} is {of_mask.shape[0]} x {of_mask.shape[1]} pixels but {image.name} is '
          f'{header.height} x {header.width}.',
        )
      )
    facts.append(of_mask)
  if not facts:
    return None
  try:
    encoding = find_encoding(facts, None, None)
  except UserError as error:
    findings.append(Finding(PROBLEM, str(error)))
    return None
  findings.extend(Finding(NOTE, f'{note}.') for note in encoding.notes)
  return encoding


def _ask_loader(kind: str, given: Mapping[str, Path], group: str, findings: list[Finding]) -> None:
  """What the loader of a training says, or why it would refuse."""
  name = {'images': 'folder', 'volumes': 'nifti', 'points': 'points'}[kind]
  load: Callable[..., Any] = registry.find('datasets', name).load
  try:
    splits = load(**{role: str(path) for role, path in given.items()}, group=group)
  except UserError as error:
    known = any(str(error) == finding.text for finding in findings)
    if not known:
      findings.append(Finding(PROBLEM, f'A training would stop: {error}'))
    return
  told = {finding.text for finding in findings}
  findings.extend(Finding(NOTE, f'{note}.') for note in splits.notes if f'{note}.' not in told)


def _most_frequent(counts: Mapping[str, int]) -> dict[str, int]:
  return dict(sorted(counts.items(), key=lambda item: -item[1]))
