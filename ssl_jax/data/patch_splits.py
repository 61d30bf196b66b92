"""Marked cells as a data set of patches: a number of labeled ones, the others without labels."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ssl_jax.data import image_source
from ssl_jax.data import patches as _patches
from ssl_jax.data.image_mask_pairs import Item, singles
from ssl_jax.data.patches import Patches, Window
from ssl_jax.data.point_annotations import BACKGROUND, Scene, classes_of, named, read_folder
from ssl_jax.errors import UserError
from ssl_jax.types import CELLS, IGNORE, Source, Splits

ROLES = ('labeled', 'val', 'test')
BALANCE = ('none', 'labeled', 'all')


class Cutting(NamedTuple):
  """How patches are cut (see points.load)."""

  size: int
  jitter: int
  background: float
  clear: float
  balance: str

  def check(self) -> None:
    """Raises UserError for a knob that cannot be."""
    if self.size < 8 or not 0 <= self.jitter < self.size / 2:
      raise UserError(
        f'data.size={self.size} and data.jitter={self.jitter}: a patch has at least 8 pixels a '
        f'side, and its cell lies less than half of that beside the middle.'
      )
    if self.background < 0 or self.clear < 0:
      raise UserError('data.background and data.clear are at least 0.')
    if self.balance not in BALANCE:
      raise UserError(f'data.balance={self.balance!r} is not one of {", ".join(BALANCE)}.')


class WholeImages:
  """A Source of whole images with the 'points' [n, 2] (row, column) and 'classes' [n] in them."""

  def __init__(self, images: Source, scenes: Sequence[Scene]):
    self._images, self._scenes = images, scenes

  def __len__(self) -> int:
    return len(self._scenes)

  def __getitem__(self, index: int) -> dict:
    scene = self._scenes[index]
    return {**self._images[index], 'points': scene.at, 'classes': scene.classes}


def read(
  folders: Mapping[str, str | Path | None],
  unlabeled: str | Path | None,
  classes: Sequence[str] | None,
  *,
  labels: int | None,
  holdout: float | int,
  seed: int,
  cutting: Cutting,
  percentiles: Sequence[float | int],
) -> Splits:
  """Reads the folders of 'labeled' and perhaps 'val' and 'test' (see points.load).

  Of the patches of 'labeled', `labels` (None: all of known class) keep their label, equally many of
  each class; the others join the unlabeled ones. Everything drawn depends on `seed` alone.
  """
  cutting.check()
  given = {r: read_folder(folders[r], r) if folders.get(r) else [] for r in ROLES}
  names = tuple(classes) if classes else classes_of(given['labeled'])
  scenes = {role: named(folder, names) for role, folder in given.items()}
  roles = {role: [scene.item for scene in found] for role, found in scenes.items()}
  roles['unlabeled'] = singles(unlabeled) if unlabeled else []
  notes = []
  if not roles['test']:
    roles['labeled'], roles['test'], notes = image_source.hold_out(roles['labeled'], holdout, seed)
  notes += image_source.drop_copies(roles)
  every = {scene.item: scene for found in scenes.values() for scene in found}
  scenes = {role: [every[item] for item in roles[role]] for role in ROLES}
  plain = {role: [item._replace(mask=None) for item in items] for role, items in roles.items()}
  found, more = image_source.sources(plain, _no_masks, percentiles)
  cutter = _Cutter(cutting, found, scenes, roles, seed, len(names))
  shown, rest = cutter.training(labels)
  patches: dict[str, Any] = {r: cutter.held_out(r) if scenes[r] else None for r in ('val', 'test')}
  counts = np.bincount([w.label for w in shown.windows], minlength=len(names) + 1)
  labeled = dict(zip((BACKGROUND, *names), counts.tolist(), strict=True))
  if empty := [name for name, count in labeled.items() if not count]:
    raise UserError(f'No labeled patch is {empty[0]}; mark some cells, or ask for more labels.')
  drawn = ', '.join(f'{count} {name}' for name, count in labeled.items())
  notes += [f'labeled patches: {drawn}; without labels: {len(rest.windows) if rest else 0}', *more]
  if cutting.balance == 'all':
    notes.append('unlabeled patches were balanced by labels that a lab would not have')
  marks = [s.item.mask.read_bytes() for role in ROLES for s in scenes[role]]
  digest = f'{found["digest"]} {names} {labels} {seed} {cutting} {marks}'
  return Splits(
    labeled=shown,
    unlabeled=rest,
    truth=None if unlabeled or rest is None else cutter.with_labels(rest),
    **patches,
    classes=(BACKGROUND, *names),
    notes=tuple(notes),
    intensity=found['intensity'],
    digest=hashlib.sha256(digest.encode()).hexdigest(),
    task=CELLS,
    whole=WholeImages(found['test'], scenes['test']) if scenes['test'] else None,
  )


def _no_masks(path: Path) -> NoReturn:
  raise TypeError(f'{path}: points are no mask')


class _Cutter:
  """Draws and cuts the windows of each role."""

  def __init__(
    self,
    cutting: Cutting,
    images: Mapping[str, Source],
    scenes: Mapping[str, Sequence[Scene]],
    roles: Mapping[str, Sequence[Item]],
    seed: int,
    classes: int,
  ):
    self.cutting, self.images, self.scenes = cutting, images, scenes
    self.names = {role: [item.name for item in items] for role, items in roles.items()}
    self.seed, self.classes = seed, classes

  def _windows(self, role: str) -> list[Window]:
    """Windows of the cells and of the background, which may be moved by `jitter` on either axis."""
    knobs, rng = self.cutting, np.random.default_rng((self.seed, len(role)))
    cells = _patches.nuclei(self.scenes[role])
    named = sum(window.label != IGNORE for window in cells)
    count = round(knobs.background * named / self.classes)
    far = knobs.clear + math.sqrt(2) * knobs.jitter
    step = max(knobs.size // 4, 1)
    images, scenes = self.images[role], self.scenes[role]
    return cells + _patches.background(images, scenes, count, far, step, rng)

  def held_out(self, role: str) -> Patches:
    """Patches to judge by, which nothing balances; moved once, as views move those of training."""
    rng = np.random.default_rng((self.seed, 2))
    windows = [window for window in self._windows(role) if window.label != IGNORE]
    windows = _patches.moved(windows, self.cutting.jitter, rng)
    return Patches(self.images[role], windows, self.cutting.size, True, self.names[role])

  def training(self, labels: int | None) -> tuple[Patches, Patches | None]:
    """The labeled patches and those without labels, wider by what views move them."""
    knobs, rng = self.cutting, np.random.default_rng((self.seed, 1))
    windows = self._windows('labeled')
    if knobs.balance == 'all':
      windows = _patches.balanced(windows, rng)
    known = sum(window.label != IGNORE for window in windows)
    labels = known if labels is None else labels
    if not self.classes < labels <= known:
      raise UserError(f'{labels} labeled patches are asked for, and {known} have a class.')
    chosen = _patches.draw(windows, labels, rng)
    given = [windows[i] for i in chosen]
    if knobs.balance == 'labeled':
      given = _patches.balanced(given, rng)
    others = [window for i, window in enumerate(windows) if i not in set(chosen)]
    side = knobs.size + 2 * knobs.jitter
    rest, source = others, self.images['labeled']
    names = self.names['labeled']
    if self.names['unlabeled']:
      more = _patches.grid(self.images['unlabeled'], max(knobs.size // 2, 1))
      rest = [*others, *(w._replace(scene=w.scene + len(names)) for w in more)]
      source = _Joined(source, self.images['unlabeled'])
      names = [*names, *self.names['unlabeled']]
    labeled = Patches(self.images['labeled'], given, side, True, self.names['labeled'])
    return labeled, Patches(source, rest, side, False, names) if rest else None

  def with_labels(self, rest: Patches) -> Patches:
    """The same patches with what is known of them."""
    side = self.cutting.size + 2 * self.cutting.jitter
    return Patches(self.images['labeled'], rest.windows, side, True, self.names['labeled'])


class _Joined:
  """Two Sources, one after the other."""

  def __init__(self, first: Source, second: Source):
    self._first, self._second = first, second

  def __len__(self) -> int:
    return len(self._first) + len(self._second)

  def __getitem__(self, index: int) -> Mapping:
    here = index < len(self._first)
    return self._first[index] if here else self._second[index - len(self._first)]
