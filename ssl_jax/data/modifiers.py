"""What a page may do to any data set before it is used: smaller images, masks with gaps."""

import abc
import functools
from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from ssl_jax.errors import UserError
from ssl_jax.io import images
from ssl_jax.types import IGNORE, MASKS, Source, Splits

KEPT = 512
"""Images that a source keeps as it has made them, the last that were asked for."""
TOUCHING = np.ones((3, 3), int)


class _Derived(abc.ABC):
  """A source whose records are made of another's, and the last of them kept."""

  def __init__(self, source: Source):
    self._source = source
    self._at = functools.lru_cache(KEPT)(self._make)

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> dict:
    return dict(self._at(int(index) % len(self)))

  @abc.abstractmethod
  def _make(self, index: int) -> Mapping:
    """What the record of an index becomes."""


class Downscaled(_Derived):
  """Images and masks made smaller: areas are averaged, class ids picked."""

  def __init__(self, source: Source, scale: float | int):
    super().__init__(source)
    self._scale = scale

  def _make(self, index: int) -> dict:
    record = self._source[index]
    size = [max(round(n * self._scale), 1) for n in record['image'].shape[:2]]
    made = {'image': images.resized(record['image'], size, smooth=True)}
    if 'label' in record:
      made['label'] = images.resized(record['label'], size, smooth=False)
    return {**record, **made}


class InstancesDropped(_Derived):
  """Masks from which some instances are gone, as if nobody had drawn them; always the same ones.

  Instances are the connected pieces of a class. With `truth` the masks are whole, and 'removed'
  [H, W] holds the number (1, 2, ...) of each instance that is gone elsewhere, 0 where none is.
  """

  def __init__(
    self, source: Source, share: float | int, seed: int, least: int, truth: bool = False
  ):
    super().__init__(source)
    self._draw, self._truth = (share, seed, least), truth

  def _make(self, index: int) -> dict:
    record, (share, seed, least) = self._source[index], self._draw
    gone = dropped_instances(record['label'], share, np.random.default_rng([seed, index]), least)
    if self._truth:
      return {**record, 'removed': gone}
    return {**record, 'label': np.where(gone > 0, 0, record['label']).astype(np.uint8)}


def dropped_instances(
  mask: np.ndarray, share: float | int, rng: np.random.Generator, least: int
) -> np.ndarray:
  """Numbers [H, W] of the instances to remove, 0 elsewhere; each goes with probability `share`.

  Pieces of fewer than `least` pixels stay; no piece is drawn because of its size beyond that.
  """
  gone = np.zeros(mask.shape, np.int32)
  for value in np.unique(mask):
    if value in (0, IGNORE):
      continue
    pieces, count = ndimage.label(mask == value, TOUCHING)
    drawn = rng.random(count + 1) < share
    large = np.bincount(pieces.ravel(), minlength=count + 1) >= least
    chosen = drawn & large
    chosen[0] = False
    number = np.where(chosen, np.cumsum(chosen) + gone.max(), 0)
    gone += number[pieces]
  return gone


def downscale(splits: Splits, scale: float | int) -> Splits:
  """The data set with all images and masks made smaller by `scale` in 0..1 (1: as they are)."""
  if not 0 < scale <= 1:
    raise UserError(f'data.scale={scale} is not above 0 and at most 1.')
  if splits.task != MASKS:
    raise UserError('data.scale is for masks; of cells the patches are cut at native size.')
  parts = {n: getattr(splits, n) for n in ('labeled', 'unlabeled', 'val', 'test', 'truth')}
  made = {name: Downscaled(source, scale) for name, source in parts.items() if source is not None}
  return splits._replace(**made, scale=float(scale), digest=f'{splits.digest} scale {scale}')


def drop_instances(
  splits: Splits, share: float | int = 0.0, seed: int = 0, least: int | float = 16
) -> Splits:
  """The data set with a `share` of the instances gone from its labeled masks; `complete` has all.

  Which ones is drawn by `seed`. Pieces of fewer than `least` pixels stay. Val and test keep theirs.
  """
  if not 0 <= share < 1:
    raise UserError(f'data.missing.share={share} is not in 0..1 (and below 1).')
  if splits.task != MASKS:
    raise UserError('data.missing takes instances out of masks, and these data have points.')
  knobs = share, seed, int(least)
  labeled, complete = (
    InstancesDropped(splits.labeled, *knobs, truth=truth) for truth in (False, True)
  )
  told = f'{share:.0%} of the instances in labeled masks were taken away (data.missing)'
  return splits._replace(
    labeled=labeled,
    complete=complete,
    notes=(*splits.notes, told),
    digest=f'{splits.digest} missing {knobs}',
  )
