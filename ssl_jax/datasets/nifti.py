"""Your own volumes: NIfTI files in images/ and masks/, and a folder of unlabeled ones."""

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ssl_jax import parallel, volumes
from ssl_jax.datasets._pairs import inside
from ssl_jax.preparation import Preparation
from ssl_jax.types import Splits, UserError

KEPT = 64
"""Prepared volumes that a source keeps in memory, the last that were asked for."""
HOW = 'put the volumes in images/ and their masks, under the same names, in masks/'
VERSION = 1
"""Of what is in the cache: another one wherever preparation gives something else."""


class Case(NamedTuple):
  """A volume's file, its mask's, and the file of both prepared."""

  name: str
  image: Path
  mask: Path | None
  prepared: Path | None = None


class Prepared:
  """A Source of prepared volumes: 'image' [z, y, x, 1], 'label' [z, y, x], and their files."""

  def __init__(self, cases: Sequence[Case], labels: bool = True):
    self._cases, self._labels = cases, labels
    self._at = functools.lru_cache(KEPT)(self._read)

  def __len__(self) -> int:
    return len(self._cases)

  def __getitem__(self, index: int) -> dict:
    return dict(self._at(int(index) % len(self)))

  def _read(self, index: int) -> dict:
    case = self._cases[index]
    with np.load(case.prepared) as file:
      record = {'image': file['image'], 'name': case.name, 'file': str(case.image)}
      if self._labels and case.mask is not None:
        record |= {'label': file['label'], 'mask_file': str(case.mask)}
    return record


def load(
  *,
  labeled: str | Path,
  unlabeled: str | Path | None = None,
  val: str | Path | None = None,
  test: str | Path | None = None,
  classes: int | Sequence[str] | None = None,
  labels: int | None = None,
  holdout: float | int = 0.25,
  seed: int = 0,
  spacing: Sequence[float | int] | None = None,
  window: Sequence[float | int] | None = None,
  clip: bool = False,
  above: float | int | None = None,
  percentiles: Sequence[float | int] = (0.5, 99.5),
  cache: str | Path | None = None,
) -> Splits:
  """Loads volumes; `labeled`, `val` and `test` hold images/ and masks/, `unlabeled` volumes alone.

  Without `test` the share `holdout` of the labeled volumes, drawn by `seed`, is the test. `labels`
  is how many of the others keep their masks; the rest join the unlabeled ones, and their masks only
  judge. `classes` is a number or names, needed where no mask holds the last of them. `spacing`,
  `window`, `clip`, `above` and `percentiles` are as Preparation has them. What is prepared is kept
  in `cache`, so that it is done once, and goes on after a kill. Raises UserError naming the file
  that is missing, broken, or of another shape than its mask.
  """
  how = Preparation(
    spacing=None if spacing is None else tuple(map(float, spacing)),
    window=None if window is None else tuple(map(float, window)),
    clip=clip,
    above=None if above is None else float(above),
    percentiles=tuple(map(float, percentiles)),
  )
  how.check()
  cases = _pairs(Path(labeled), 'labeled')
  roles = {
    name: _pairs(Path(path), name) if path else [] for name, path in (('val', val), ('test', test))
  }
  notes = []
  order = [cases[i] for i in np.random.default_rng(seed).permutation(len(cases))]
  if not test and holdout:
    count = min(max(1, round(holdout * len(order))), len(order) - 1)
    if not 0 < holdout < 1 or count < 1:
      raise UserError(
        f'data.holdout={holdout} leaves nothing of {len(order)} volumes to learn from.'
      )
    roles['test'], order = order[:count], order[count:]
    notes.append(f'no test folder: {count} of {len(cases)} labeled volumes held out as test')
  if labels is not None and not 0 < labels <= len(order):
    raise UserError(f'data.labels={labels}: {len(order)} volumes have masks to learn from.')
  roles['labeled'], hidden = order[:labels], order[labels:] if labels else []
  roles['unlabeled'] = [*hidden, *(_singles(Path(unlabeled)) if unlabeled else [])]
  folder = Path(cache) if cache else _cache()
  done = {role: _prepare(own, how, folder, role) for role, own in roles.items()}
  shown = {role: Prepared(own, role != 'unlabeled') for role, own in done.items() if own}
  if hidden and not unlabeled:
    shown['truth'] = Prepared(done['unlabeled'])
  names = _classes(classes, [case for role in ('labeled', 'val', 'test') for case in done[role]])
  files = json.dumps({role: [case.prepared.name for case in own] for role, own in done.items()})
  sources = {role: shown.get(role) for role in ('labeled', 'unlabeled', 'val', 'test', 'truth')}
  return Splits(
    **sources,
    classes=names,
    notes=tuple(notes),
    digest=hashlib.sha256(files.encode()).hexdigest(),
    preparation=how._asdict(),
  )


def _cache() -> Path:
  return Path(os.environ.get('XDG_CACHE_HOME', Path.home() / '.cache')) / 'ssl_jax' / 'volumes'


def _pairs(folder: Path, role: str) -> list[Case]:
  found = {
    kind: volumes.list_volumes(inside(folder, kind, role, HOW)) for kind in ('images', 'masks')
  }
  masks = {volumes.name_of(path): path for path in found['masks']}
  cases = []
  for path in found['images']:
    name = volumes.name_of(path)
    if name not in masks:
      raise UserError(f'{path} has no mask in {found["masks"][0].parent}; {HOW}.')
    cases.append(Case(name, path, masks[name]))
  return cases


def _singles(folder: Path) -> list[Case]:
  own = folder / 'images'
  paths = volumes.list_volumes(own if own.is_dir() else folder)
  return [Case(volumes.name_of(path), path, None) for path in paths]


def _prepare(cases: Sequence[Case], how: Preparation, cache: Path, role: str) -> list[Case]:
  """The cases with the files of their prepared volumes, made where there is none yet."""
  found = []
  silent = not cases or not parallel.is_main()
  for case in tqdm(cases, unit=' volumes', desc=f'prepare {role}', disable=silent):
    digest = hashlib.sha256(repr((VERSION, how)).encode())
    for path in (case.image, case.mask):
      digest.update(path.read_bytes() if path else b'')
    path = cache / f'{case.name}-{digest.hexdigest()[:20]}.npz'
    if not path.exists():
      _write(path, _made(case, how))
    found.append(case._replace(prepared=path))
  return found


def _made(case: Case, how: Preparation) -> dict[str, np.ndarray]:
  volume = volumes.read_volume(case.image)
  place = how.place(volume)
  made = {'image': how.image(volume, place)}
  if case.mask is not None:
    ids, mask = volumes.read_labels(case.mask)
    if ids.shape != volume.voxels.shape:
      raise UserError(
        f'{case.mask} has {ids.shape} voxels but {case.image.name} has {volume.voxels.shape}.'
      )
    if not np.allclose(mask.like.affine, volume.like.affine, atol=1e-2):
      raise UserError(
        f'{case.mask} does not lie where {case.image.name} does; their headers differ.'
      )
    made['label'] = how.labels(ids, volume, place)
  return made


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_name(f'{path.stem}.{os.getpid()}.part.npz')
  np.savez_compressed(part, **arrays)
  os.replace(part, path)


def _classes(asked: int | Sequence[str] | None, cases: Sequence[Case]) -> tuple[str, ...]:
  """The names of the classes; without any, as many as the masks hold."""
  if asked is not None and not isinstance(asked, int):
    return tuple(asked)
  most = 0
  for case in cases:
    with np.load(case.prepared) as file:
      most = max(most, int(file['label'].max()))
  if asked is not None and asked <= most:
    raise UserError(f'data.classes={asked}, but a mask holds the class {most}.')
  return ('background', *(f'class {i}' for i in range(1, asked or most + 1)))
