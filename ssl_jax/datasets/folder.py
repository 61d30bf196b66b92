"""Your own images: a folder with images/ and masks/ in it, and a folder of unlabeled images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssl_jax.data import image_source
from ssl_jax.data.image_mask_pairs import Item, pairs, singles
from ssl_jax.data.mask_encoding import find_encoding, pieces
from ssl_jax.errors import UserError
from ssl_jax.io import images
from ssl_jax.types import Splits

PIECED_IDS = 1000  # enough to tell instances from classes


def load(
  *,
  labeled: str | Path,
  unlabeled: str | Path | None = None,
  val: str | Path | None = None,
  test: str | Path | None = None,
  classes: int | Sequence[str] | None = None,
  holdout: float | int = 0.25,
  seed: int = 0,
  percentiles: Sequence[float | int] = image_source.PERCENTILES,
) -> Splits:
  """Loads your own images; `labeled`, `val` and `test` each hold images/ and masks/.

  `unlabeled` is a folder of images only. Without `test`, the share `holdout` of the labeled images
  is set aside for it (0: no test). `classes` is a number or names, needed only where the masks
  leave it open. `percentiles` of the raw values of training images deeper than 8 bits become 0 and
  1. Images that are byte for byte in val or test are dropped from training. Raises UserError naming
  the file that is missing, broken or unclear.
  """
  splits = {role: [] for role in ('labeled', 'unlabeled', 'val', 'test')}
  given = {'labeled': labeled, 'val': val, 'test': test}
  splits |= {role: pairs(path, role) for role, path in given.items() if path}
  if unlabeled:
    splits['unlabeled'] = singles(unlabeled)
  encoding = find_encoding(*_values(splits), classes)
  notes = [encoding.note]
  if not test:
    splits['labeled'], splits['test'], more = image_source.hold_out(
      splits['labeled'], holdout, seed
    )
    notes += more
  notes += image_source.drop_copies(splits)
  found, more = image_source.sources(
    splits, lambda path: encoding(images.read_mask(path)), percentiles
  )
  return Splits(**found, classes=encoding.classes, notes=(*notes, *more))


def _values(splits: dict[str, list[Item]]) -> tuple[dict[tuple[int, ...], Path], float]:
  """Reads every mask once and checks its size.

  Returns each combination of values that a mask holds, with a file that does, and the share of
  ids that are one connected piece, as instances are.
  """
  seen: dict[tuple[int, ...], Path] = {}
  ids = whole = 0
  for item in (i for items in splits.values() for i in items if i.mask):
    mask = images.read_mask(item.mask)
    if mask.shape != item.header[:2]:
      raise UserError(
        f'{item.mask} is {mask.shape[0]} x {mask.shape[1]} pixels but its image '
        f'{item.image.name} is {item.header.height} x {item.header.width}; make the sizes equal.'
      )
    seen.setdefault(tuple(np.unique(mask).tolist()), item.mask)
    if ids < PIECED_IDS:
      more, single = pieces(mask)
      ids, whole = ids + more, whole + single
  return seen, whole / max(ids, 1)
