"""Marked cells as a data set of patches: a number of labeled ones, the others without labels."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from ssl_jax.data import image_source, patches, stream
from ssl_jax.data.image_mask_pairs import ImageFile, list_unlabeled
from ssl_jax.data.masks import folder_notes, image_kind
from ssl_jax.data.patches import Patches, Window
from ssl_jax.data.point_annotations import (
  BACKGROUND_NAME,
  AnnotatedImage,
  classes_in,
  read_folder,
  to_class_ids,
)
from ssl_jax.data.selection import draws, groups, held_out
from ssl_jax.errors import UserError
from ssl_jax.io.folders import listing
from ssl_jax.types import CELLS, IGNORE, Draw, Record, Source, Splits

ROLES = ('labeled', 'val', 'test')
"""Roles of images whose cells are marked."""

BALANCE = ('none', 'labeled', 'all')


class PatchSettings(NamedTuple):
  """How patches are cut; datasets/points.py says more."""

  size: int  # pixels a side
  jitter: int  # pixels that a cell may lie beside the middle, on either axis
  background: float  # background patches for each patch of an average class
  min_distance: float  # pixels from the middle of a background patch to the nearest cell
  balance: str  # one of BALANCE: which patches are joined by turned copies of rarer classes

  def check(self) -> None:
    """Checks the settings.

    Raises:
      UserError: naming the first that is wrong.
    """
    if self.size < 8 or not 0 <= self.jitter < self.size / 2:
      raise UserError(
        f'data.size={self.size} and data.jitter={self.jitter}: a patch has at least 8 pixels a '
        f'side, and its cell lies less than half of that beside the middle.'
      )
    if self.background < 0 or self.min_distance < 0:
      raise UserError('data.background and data.min_distance are at least 0.')
    if self.balance not in BALANCE:
      raise UserError(f'data.balance={self.balance!r} is not one of {", ".join(BALANCE)}.')


class WholeImages:
  """A Source of whole images with the 'points' [n, 2] and 'classes' [n] of their cells."""

  def __init__(self, images: Source, annotated_images: Sequence[AnnotatedImage]):
    self._images = images
    self._annotated = annotated_images

  def __len__(self) -> int:
    return len(self._annotated)

  def __getitem__(self, index: int) -> Record:
    record = self._images[index].copy()
    # Rows and columns in pixels of the whole image.
    record['points'] = self._annotated[index].cells
    record['classes'] = self._annotated[index].classes
    return record


def make_splits(
  folders: Mapping[str, str | Path | None],
  unlabeled: str | Path | None,
  classes: Sequence[str] | None,
  *,
  num_labeled: int | None,
  test_fraction: float | int,
  seed: int,
  draw: int,
  group: str = '',
  settings: PatchSettings,
  percentiles: Sequence[float | int],
) -> Splits:
  """Makes a data set of patches from folders of images and points.

  Everything that is drawn depends on `seed` alone.

  Args:
    folders: of 'labeled', and perhaps of 'val' and 'test'.
    unlabeled: a folder of images in which nothing is marked.
    classes: names, without the background; None: those that the points name.
    num_labeled: how many patches keep their label, equally many of each class; None: all of known
      class. The others become unlabeled.
    test_fraction: of the images of 'labeled', where there is no 'test'.
    seed: of all draws.
    draw: number of the repetition.
    group: see groups.group_reader; groups are held out whole.
    settings: how patches are cut.
    percentiles: of raw values that become 0 and 1, where images have more than 8 bits.

  Raises:
    UserError: naming the file, the line of a CSV or the setting that is wrong.
  """
  settings.check()
  folders_read = {}
  for role in ROLES:
    path = folders.get(role)
    folders_read[role] = read_folder(path, role) if path else []
  # Class names come from the labeled folder; a class that only the test has is refused.
  names = tuple(classes) if classes else classes_in(folders_read['labeled'])
  annotated = {role: to_class_ids(folder, names) for role, folder in folders_read.items()}
  files = {role: [image.file for image in of_role] for role, of_role in annotated.items()}
  files['unlabeled'] = list_unlabeled(unlabeled) if unlabeled else []
  # Split by image, never by patch: patches of one image overlap and share its staining.
  kinds = {'images': listing.IMAGES, 'points': listing.TABLES}
  notes = folder_notes.left_out(folders.values(), unlabeled, kinds)
  of_tables = image_kind.FileNotes()
  for image in (image for folder in folders_read.values() for image in folder):
    for note in image.notes:
      of_tables.add(note, image.csv.name)
  notes += of_tables.sentences()
  if not group and (note := groups.grouped_names_note([file.name for file in files['labeled']])):
    notes.append(note)
  read_group = groups.group_reader(group)
  drawn = Draw(groups={file.name: read_group(file.name) for file in files['test']})
  if not files['test']:
    parts = held_out.hold_out(files['labeled'], test_fraction, seed, draw, group)
    files['labeled'] = parts.kept
    files['test'] = parts.test
    notes.append(parts.note)
    drawn = parts.draw
  notes += held_out.drop_groups(files, group)
  notes += held_out.drop_copies(files)
  # Images may have changed their role or been dropped; their annotations follow them.
  annotation_of = {image.file: image for of_role in annotated.values() for image in of_role}
  annotated = {role: [annotation_of[file] for file in files[role]] for role in ROLES}

  # Patches are cut from whole images, which the sources decode and keep.
  images = image_source.make_sources(files, _read_no_mask, percentiles)
  sources: dict[str, Source | None] = {
    'labeled': images.labeled,
    'unlabeled': images.unlabeled,
    'val': images.val,
    'test': images.test,
  }
  # Another repetition draws other patches, too, of which the first must not depend on `draw`.
  cutter_seed = stream.member_seed(seed, draw)
  cutter = _PatchCutter(settings, sources, annotated, files, cutter_seed, len(names))
  labeled, rest = cutter.training(num_labeled)
  if drawn.overlap is None and rest is not None and num_labeled is not None:
    drawn = drawn._replace(overlap=draws.pool_overlap(len(labeled), len(labeled) + len(rest)))
  notes += [_note_on_labels(labeled, rest, (BACKGROUND_NAME, *names)), *images.notes]
  if settings.balance == 'all':
    notes.append('unlabeled patches were balanced by labels that a lab would not have')
  # Correcting a point changes the data as much as changing an image does.
  tables = [image.csv.read_bytes() for role in ROLES for image in annotated[role]]
  digest = f'{images.digest} {names} {num_labeled} {cutter_seed} {settings} {tables}'
  return Splits(
    labeled=labeled,
    unlabeled=rest,
    val=cutter.held_out('val'),
    test=cutter.held_out('test'),
    # Nobody knows what is in images in which nothing is marked.
    truth=None if unlabeled or rest is None else cutter.with_labels(rest),
    classes=(BACKGROUND_NAME, *names),
    notes=tuple(notes),
    intensity=images.intensity,
    kind=images.kind,
    digest=hashlib.sha256(digest.encode()).hexdigest(),
    task=CELLS,
    draw=drawn,
    # Detection is scored on whole images, classification on patches.
    whole=WholeImages(images.test, annotated['test']) if images.test is not None else None,
  )


def _read_no_mask(path: Path) -> NoReturn:
  raise TypeError(f'{path} is no mask: marked cells have none')


def _note_on_labels(labeled: Patches, rest: Patches | None, names: Sequence[str]) -> str:
  """Says how many patches of each class are labeled."""
  labels = [window.label for window in labeled.windows]
  counts = dict(zip(names, np.bincount(labels, minlength=len(names)).tolist(), strict=True))
  for name, count in counts.items():
    if not count:
      raise UserError(
        f'No labeled patch is {name}; mark cells of this class in more images, increase '
        'data.num_labeled, or give test images of your own (data.test).'
      )
  of_classes = ', '.join(f'{count} {name}' for name, count in counts.items())
  return f'labeled patches: {of_classes}; without labels: {len(rest) if rest else 0}'


class _PatchCutter:
  """Draws and cuts the patches of each role.

  Args:
    settings: how.
    images: whole images of each role.
    annotated: the marked cells in those of ROLES.
    files: of the images.
    seed: of all draws.
    num_classes: without the background.
  """

  def __init__(
    self,
    settings: PatchSettings,
    images: Mapping[str, Source | None],
    annotated: Mapping[str, Sequence[AnnotatedImage]],
    files: Mapping[str, Sequence[ImageFile]],
    seed: int,
    num_classes: int,
  ):
    self._settings = settings
    self._images = images
    self._annotated = annotated
    self._names = {role: [file.name for file in of_role] for role, of_role in files.items()}
    self._seed = seed
    self._num_classes = num_classes
    # Views of training crop the patches, and with it move the cell by up to `jitter`.
    self._training_side = settings.size + 2 * settings.jitter

  def _source(self, role: str) -> Source:
    source = self._images[role]
    if source is None:
      raise ValueError(f'{role} has no images')
    return source

  def _windows(self, role: str) -> list[Window]:
    """Windows of the cells and of the background, which may still be moved by `jitter`."""
    settings = self._settings
    # Each role has a stream of its own; lengths 3, 4 and 7 of the names do not collide with the 1
    # and 2 below.
    rng = np.random.default_rng((self._seed, len(role)))
    cells = patches.cell_windows(self._annotated[role])
    # known / num_classes is the size of an average class.
    known = sum(window.label != IGNORE for window in cells)
    background = patches.background_windows(
      self._source(role),
      self._annotated[role],
      count=round(settings.background * known / self._num_classes),
      # Moved by `jitter` on both axes, a middle comes nearer to a cell by sqrt(2) * jitter at most.
      min_distance=settings.min_distance + math.sqrt(2) * settings.jitter,
      step=max(settings.size // 4, 1),
      rng=rng,
    )
    return cells + background

  def held_out(self, role: str) -> Patches | None:
    """Patches of val or test: not balanced, and moved once, as views move those of training."""
    if not self._annotated[role]:
      return None
    rng = np.random.default_rng((self._seed, 2))
    # Cells of unknown class cannot be scored.
    windows = [window for window in self._windows(role) if window.label != IGNORE]
    # Without it each cell would be in the exact middle, and a constant would predict all positions.
    windows = patches.jitter_windows(windows, self._settings.jitter, rng)
    source = self._source(role)
    return Patches(source, windows, self._settings.size, True, self._names[role])

  def training(self, num_labeled: int | None) -> tuple[Patches, Patches | None]:
    """The labeled patches and those without labels, wider by what views move them."""
    settings = self._settings
    rng = np.random.default_rng((self._seed, 1))
    windows = self._windows('labeled')
    if settings.balance == 'all':
      windows = patches.balance_windows(windows, rng)
    known = sum(window.label != IGNORE for window in windows)
    count = known if num_labeled is None else num_labeled
    if not self._num_classes < count <= known:
      raise UserError(
        f'data.num_labeled={count} is not in {self._num_classes + 1}..{known}: one patch of each '
        'class at least, and as many as have a class at most.'
      )
    drawn = patches.draw_windows(windows, count, rng)
    labeled = [windows[i] for i in drawn]
    # After the draw: copies are made of labeled patches alone and use no hidden label.
    if settings.balance == 'labeled':
      labeled = patches.balance_windows(labeled, rng)
    # A set, because looking up each of many windows in a list would be slow.
    drawn = set(drawn)
    rest = [window for i, window in enumerate(windows) if i not in drawn]
    source = self._source('labeled')
    names = self._names['labeled']
    return (
      Patches(source, labeled, self._training_side, True, names),
      self._unlabeled(rest),
    )

  def _unlabeled(self, rest: Sequence[Window]) -> Patches | None:
    """Patches without labels: the rest of the marked images, and a grid on the unmarked ones."""
    source = self._source('labeled')
    names = self._names['labeled']
    windows = [*rest]
    if self._names['unlabeled']:
      unmarked = self._source('unlabeled')
      grid = patches.grid_windows(unmarked, max(self._settings.size // 2, 1))
      # Indices of the unmarked images go on after those of the marked ones, as in `_JoinedSources`.
      windows += [window._replace(image=window.image + len(names)) for window in grid]
      source = _JoinedSources(source, unmarked)
      names = [*names, *self._names['unlabeled']]
    return Patches(source, windows, self._training_side, False, names) if windows else None

  def with_labels(self, rest: Patches) -> Patches:
    """The patches without labels of marked images, with what is known of them."""
    source = self._source('labeled')
    return Patches(source, rest.windows, self._training_side, True, self._names['labeled'])


class _JoinedSources:
  """Two Sources, one after the other."""

  def __init__(self, first: Source, second: Source):
    self._first = first
    self._second = second

  def __len__(self) -> int:
    return len(self._first) + len(self._second)

  def __getitem__(self, index: int) -> Record:
    if index < len(self._first):
      return self._first[index]
    return self._second[index - len(self._first)]
