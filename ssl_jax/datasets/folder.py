"""Your own images: a folder with images/ and masks/ in it, and a folder of unlabeled images."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssl_jax import images
from ssl_jax.datasets._encoding import Encoding, find_encoding, pieces
from ssl_jax.datasets._pairs import Item, pairs, singles
from ssl_jax.types import Splits, UserError

CACHE_BYTES = 1 << 30  # decoded images kept in memory, all splits together
SAMPLED_IMAGES, SAMPLED_PIXELS = 64, 20_000  # what the intensity range is fitted on
PERCENTILES = 0.1, 99.9
PIECED_IDS = 1000  # enough to tell instances from classes


class Images:
  """A Source of images on disk, decoded when asked for and kept while memory allows."""

  def __init__(self, items: Sequence[Item], look: '_Look'):
    self._items, self._look = items, look
    self._kept: dict[int, dict] = {}

  def __len__(self) -> int:
    return len(self._items)

  def __getitem__(self, index: int) -> dict:
    item = self._items[index]
    index = int(index) % len(self)
    if index not in self._kept:
      record = self._look.record(item)
      size = sum(value.nbytes for value in record.values() if isinstance(value, np.ndarray))
      if not self._look.keep(size):
        return record
      self._kept[index] = record
    return dict(self._kept[index])


class _Look:
  """How files become records: the same channels, kind of numbers and class ids throughout."""

  def __init__(self, encoding: Encoding, channels: int, floats: bool):
    self.encoding, self.channels, self.floats = encoding, channels, floats
    self.intensity: tuple[float, float] | None = None
    self._room = CACHE_BYTES

  def keep(self, size: int) -> bool:
    if size > self._room:
      return False
    self._room -= size
    return True

  def record(self, item: Item) -> dict:
    image = images.to_channels(images.read_image(item.image), self.channels)
    if self.floats:
      image = images.rescale(image, self.intensity, str(item.image))
    record = {'image': image, 'name': item.name}
    if item.mask is not None:
      record['label'] = self.encoding(images.read_mask(item.mask))
    for value in record.values():
      if isinstance(value, np.ndarray):
        value.flags.writeable = False  # one copy serves every epoch
    return record


def load(
  *,
  labeled: str | Path,
  unlabeled: str | Path | None = None,
  val: str | Path | None = None,
  test: str | Path | None = None,
  classes: int | Sequence[str] | None = None,
  holdout: float | int = 0.25,
  seed: int = 0,
) -> Splits:
  """Loads your own images; `labeled`, `val` and `test` each hold images/ and masks/.

  `unlabeled` is a folder of images only. Without `test`, the share `holdout` of the labeled images
  is set aside for it (0: no test). `classes` is a number or names, needed only where the masks
  leave it open. Images that are byte for byte in val or test are dropped from training. Raises
  UserError naming the file that is missing, broken or unclear.
  """
  splits = {role: [] for role in ('labeled', 'unlabeled', 'val', 'test')}
  given = {'labeled': labeled, 'val': val, 'test': test}
  splits |= {role: pairs(path, role) for role, path in given.items() if path}
  if unlabeled:
    splits['unlabeled'] = singles(unlabeled)
  encoding = find_encoding(*_values(splits), classes)
  notes = [encoding.note]
  if not test:
    notes += _hold_out(splits, holdout, seed)
  notes += _drop_copies(splits)
  look, more = _look(splits, encoding)
  sources = {role: Images(items, look) if items else None for role, items in splits.items()}
  return Splits(
    **sources,
    classes=encoding.classes,
    notes=(*notes, *more),
    intensity=look.intensity,
    digest=_digest(splits),
  )


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


def _digest(splits: dict[str, list[Item]]) -> str:
  digest = hashlib.sha256()
  for role, items in splits.items():
    for item in items:
      mask = images.read_bytes(item.mask) if item.mask else b''
      digest.update(f'{role} {item.name} {item.sha256} '.encode() + mask)
  return digest.hexdigest()


def _hold_out(splits: dict[str, list[Item]], holdout: float | int, seed: int) -> list[str]:
  items = splits['labeled']
  if not 0 <= holdout < 1:
    raise UserError(f'holdout={holdout} must be at least 0 and below 1, a share of the images.')
  if holdout == 0:
    return ['no test images: nothing was held out (holdout=0)']
  if len(items) < 2:
    raise UserError(
      f'{items[0].image.parent} holds one labeled image, too few to set any aside for the test; '
      'add labeled images, give a test folder, or set holdout=0.'
    )
  count = min(max(1, round(holdout * len(items))), len(items) - 1)
  chosen = set(np.random.default_rng(seed).permutation(len(items))[:count].tolist())
  splits['test'] = [item for i, item in enumerate(items) if i in chosen]
  splits['labeled'] = [item for i, item in enumerate(items) if i not in chosen]
  names = _names(splits['test'])
  return [f'no test folder: {count} of {len(items)} labeled images held out as test ({names})']


def _drop_copies(splits: dict[str, list[Item]]) -> list[str]:
  """Takes copies of test images out of val, and of both out of training."""
  notes = []
  judged = {'val': ['test'], 'labeled': ['test', 'val'], 'unlabeled': ['test', 'val']}
  for role, judges in judged.items():
    hashes = {item.sha256 for judge in judges for item in splits[judge]}
    copies = [item for item in splits[role] if item.sha256 in hashes]
    if copies:
      splits[role] = [item for item in splits[role] if item.sha256 not in hashes]
      notes.append(
        f'dropped from {role}, being copies of {" or ".join(judges)} images: {_names(copies)}'
      )
  if not splits['labeled']:
    raise UserError('Every labeled image is a copy of a test or val image; add labeled images.')
  return notes


def _look(splits: dict[str, list[Item]], encoding: Encoding) -> tuple[_Look, list[str]]:
  items = [item for split in splits.values() for item in split]
  training = splits['labeled'] + splits['unlabeled']
  kinds = {str(item.header.dtype) for item in items}
  channels = {item.header.channels for item in items}
  look = _Look(encoding, max(channels), kinds != {'uint8'})
  notes = ['grey and RGB images are mixed: grey ones are repeated to RGB'] * (len(channels) > 1)
  if {'uint16', 'float32'} <= kinds:
    raise UserError(
      f'{_first(items, "uint16")} is 16-bit and {_first(items, "float32")} is floating point, '
      'whose ranges cannot be compared; convert them to one kind.'
    )
  if look.floats:
    deep = [item for item in training if item.header.dtype != np.uint8]
    if not deep:
      odd = next(item.image for item in items if item.header.dtype != np.uint8)
      raise UserError(f'{odd} is not 8-bit but the training images are; convert it to 8-bit.')
    look.intensity = _fit_range(deep)
    low, high = look.intensity
    notes.append(f'raw intensities {low:g}..{high:g} of the training images became 0..1')
    if 'uint8' in kinds:
      notes.append('8-bit and deeper images are mixed: 8-bit ones were divided by 255')
  return look, notes


def _fit_range(items: Sequence[Item]) -> tuple[float, float]:
  """Low and high percentile of a bounded sample of raw pixels."""
  chosen = np.linspace(0, len(items) - 1, min(len(items), SAMPLED_IMAGES)).astype(int)
  pixels = []
  for i in chosen:
    flat = images.read_image(items[i].image).reshape(-1)
    # An odd stride does not fall on the same column or channel every time.
    pixels.append(flat[:: max(1, len(flat) // SAMPLED_PIXELS) | 1])
  low, high = np.percentile(np.concatenate(pixels), PERCENTILES)
  return float(low), float(high) if high > low else float(low) + 1


def _first(items: Sequence[Item], kind: str) -> Path:
  return next(item.image for item in items if str(item.header.dtype) == kind)


def _names(items: Sequence[Item]) -> str:
  more = f' and {len(items) - 10} more' if len(items) > 10 else ''
  return ', '.join(item.name for item in items[:10]) + more
