"""Your own volumes: NIfTI files in images/ and masks/, and a folder of unlabeled ones."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssl_jax.data.image_mask_pairs import inside
from ssl_jax.data.image_source import drop_copies
from ssl_jax.data.volume_preprocessing import Preparation
from ssl_jax.data.volume_source import Case, Known, Prepared, default_cache, most_class, prepare
from ssl_jax.errors import UserError
from ssl_jax.io import nifti
from ssl_jax.types import Splits

HOW = 'put the volumes in images/ and their masks, under the same names, in masks/'


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
  in `cache`, so that it is done once, and goes on after a kill. Volumes that are byte for byte in
  val or test are dropped from training. Raises UserError naming the file that is missing, broken,
  or of another shape than its mask.
  """
  how = Preparation(
    spacing=None if spacing is None else tuple(map(float, spacing)),
    window=None if window is None else tuple(map(float, window)),
    clip=clip,
    above=None if above is None else float(above),
    percentiles=tuple(map(float, percentiles)),
  )
  how.check()
  with Known(Path(cache) if cache else default_cache()) as known:
    cases = _pairs(Path(labeled), 'labeled', known)
    given = (('val', val), ('test', test))
    roles = {role: _pairs(Path(path), role, known) if path else [] for role, path in given}
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
    roles['unlabeled'] = _all_of(hidden, _singles(Path(unlabeled), known) if unlabeled else [])
    notes += drop_copies(roles)
    done = {role: prepare(own, how, known, role) for role, own in roles.items()}
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


def _all_of(hidden: Sequence[Case], more: Sequence[Case]) -> list[Case]:
  """Unlabeled volumes of both kinds, a copy once; raises UserError where two have the same name."""
  known = {case.sha256 for case in hidden}
  cases = [*hidden, *(case for case in more if case.sha256 not in known)]
  named = {}
  for case in cases:
    if case.name in named:
      raise UserError(
        f'{case.image} and {named[case.name].image} have the same name; rename one of them.'
      )
    named[case.name] = case
  return cases


def _pairs(folder: Path, role: str, known: Known) -> list[Case]:
  found = {
    kind: nifti.list_volumes(inside(folder, kind, role, HOW)) for kind in ('images', 'masks')
  }
  masks = {nifti.name_of(path): path for path in found['masks']}
  cases = []
  for path in found['images']:
    name = nifti.name_of(path)
    if name not in masks:
      raise UserError(f'{path} has no mask in {found["masks"][0].parent}; {HOW}.')
    cases.append(Case(name, path, masks[name], known.sha256(path)))
  return cases


def _singles(folder: Path, known: Known) -> list[Case]:
  own = folder / 'images'
  paths = nifti.list_volumes(own if own.is_dir() else folder)
  return [Case(nifti.name_of(path), path, None, known.sha256(path)) for path in paths]


def _classes(asked: int | Sequence[str] | None, cases: Sequence[Case]) -> tuple[str, ...]:
  """The names of the classes; without any, as many as the masks hold."""
  if asked is not None and not isinstance(asked, int):
    return tuple(asked)
  most = most_class(cases)
  if asked is not None and asked <= most:
    raise UserError(f'data.classes={asked}, but a mask holds the class {most}.')
  return ('background', *(f'class {i}' for i in range(1, asked or most + 1)))
