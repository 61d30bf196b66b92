"""Image and mask files as records: the same channels, kind of numbers and class ids throughout."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ssl_jax.data.image_mask_pairs import Item
from ssl_jax.data.volume_source import Case
from ssl_jax.errors import UserError
from ssl_jax.io import images

CACHE_BYTES = 1 << 30  # decoded images kept in memory, all splits together
SAMPLED_IMAGES, SAMPLED_PIXELS = 64, 20_000  # what the intensity range is fitted on
PERCENTILES = 0.1, 99.9

ReadMask = Callable[[Path], UInt8[np.ndarray, 'h w']]
"""A mask file -> class ids."""

Roles = Mapping[str, Sequence[Item]]
"""Files of 'labeled', 'unlabeled', 'val' and 'test'."""


class Images:
  """A Source of images on disk, decoded when asked for and kept while memory allows."""

  def __init__(self, items: Sequence[Item], look: '_Look'):
    self._items, self._resample = items, look
    self._kept: dict[int, dict] = {}

  def __len__(self) -> int:
    return len(self._items)

  def __getitem__(self, index: int) -> dict:
    item = self._items[index]
    index = int(index) % len(self)
    if index not in self._kept:
      record = self._resample.record(item)
      size = sum(value.nbytes for value in record.values() if isinstance(value, np.ndarray))
      if not self._resample.keep(size):
        return record
      self._kept[index] = record
    return dict(self._kept[index])


class _Look:
  """How files become records."""

  def __init__(self, read_mask: ReadMask, channels: int, floats: bool):
    self.read_mask, self.channels, self.floats = read_mask, channels, floats
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
      record['label'] = self.read_mask(item.mask)
    for value in record.values():
      if isinstance(value, np.ndarray):
        value.flags.writeable = False  # one copy serves every epoch
    return record


def sources(
  roles: Roles, read_mask: ReadMask, percentiles: Sequence[float | int] = PERCENTILES
) -> tuple[dict[str, Any], list[str]]:
  """The fields of Splits that hold images and what they are made from, and notes on them.

  Images deeper than 8 bits are scaled by `percentiles` of the raw values of the training images
  (0, 100: their minimum and maximum). Unlabeled images carry no mask, so that a hidden truth cannot
  reach training; `truth` has it where there is one for each.
  """
  look, notes = _resample(roles, read_mask, percentiles)
  shown = {**roles, 'unlabeled': [item._replace(mask=None) for item in roles['unlabeled']]}
  if roles['unlabeled'] and all(item.mask for item in roles['unlabeled']):
    shown['truth'] = roles['unlabeled']
  found = {role: Images(items, look) if items else None for role, items in shown.items()}
  return found | {'intensity': look.intensity, 'digest': _digest(roles)}, notes


def drop_copies(roles: dict[str, Sequence[Item | Case]]) -> list[str]:
  """Takes copies (byte for byte) of test images out of val, and of both out of training."""
  notes = []
  judged = {'val': ['test'], 'labeled': ['test', 'val'], 'unlabeled': ['test', 'val']}
  for role, judges in judged.items():
    hashes = {item.sha256 for judge in judges for item in roles[judge]}
    copies = [item for item in roles[role] if item.sha256 in hashes]
    if copies:
      roles[role] = [item for item in roles[role] if item.sha256 not in hashes]
      notes.append(
        f'dropped from {role}, being copies of {" or ".join(judges)} images: {names_of(copies)}'
      )
  if not roles['labeled']:
    raise UserError('Every labeled image is a copy of a test or val image; add labeled images.')
  return notes


def hold_out(
  items: Sequence[Item], holdout: float | int, seed: int
) -> tuple[list[Item], list[Item], list[str]]:
  """The items that stay, those set aside for the test (a share drawn by `seed`), and notes."""
  if not 0 <= holdout < 1:
    raise UserError(f'holdout={holdout} must be at least 0 and below 1, a share of the images.')
  if holdout == 0:
    return [*items], [], ['no test images: nothing was held out (holdout=0)']
  if len(items) < 2:
    raise UserError(
      f'{items[0].image.parent} holds one labeled image, too few to set any aside for the test; '
      'add labeled images, give a test folder, or set holdout=0.'
    )
  count = min(max(1, round(holdout * len(items))), len(items) - 1)
  chosen = set(np.random.default_rng(seed).permutation(len(items))[:count].tolist())
  held = [item for i, item in enumerate(items) if i in chosen]
  kept = [item for i, item in enumerate(items) if i not in chosen]
  names = names_of(held)
  told = f'no test folder: {count} of {len(items)} labeled images held out as test ({names})'
  return kept, held, [told]


def names_of(items: Sequence[Item | Case]) -> str:
  """The names of files, for a person to read; at most ten."""
  more = f' and {len(items) - 10} more' if len(items) > 10 else ''
  return ', '.join(item.name for item in items[:10]) + more


def _digest(roles: Roles) -> str:
  digest = hashlib.sha256()
  for role, items in roles.items():
    for item in items:
      mask = images.read_bytes(item.mask) if item.mask else b''
      digest.update(f'{role} {item.name} {item.sha256} '.encode() + mask)
  return digest.hexdigest()


def _resample(
  roles: Roles, read_mask: ReadMask, percentiles: Sequence[float | int]
) -> tuple[_Look, list[str]]:
  items = [item for role in roles.values() for item in role]
  training = [*roles['labeled'], *roles['unlabeled']]
  kinds = {str(item.header.dtype) for item in items}
  channels = {item.header.channels for item in items}
  look = _Look(read_mask, max(channels), kinds != {'uint8'})
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
    look.intensity = _fit_range(deep, percentiles)
    low, high = look.intensity
    notes.append(f'raw intensities {low:g}..{high:g} of the training images became 0..1')
    if 'uint8' in kinds:
      notes.append('8-bit and deeper images are mixed: 8-bit ones were divided by 255')
  return look, notes


def _fit_range(items: Sequence[Item], percentiles: Sequence[float | int]) -> tuple[float, float]:
  """Low and high percentile of a bounded sample of raw pixels; of all for minimum and maximum."""
  if tuple(percentiles) == (0, 100):
    ends = [(pixels.min(), pixels.max()) for pixels in map(_pixels, items)]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
  else:
    chosen = np.linspace(0, len(items) - 1, min(len(items), SAMPLED_IMAGES)).astype(int)
    # An odd stride does not fall on the same column or channel every time.
    sample = [flat[:: max(1, len(flat) // SAMPLED_PIXELS) | 1]
              for flat in (_pixels(items[i]) for i in chosen)]  # fmt: skip
    low, high = np.percentile(np.concatenate(sample), percentiles)
  return float(low), float(high) if high > low else float(low) + 1


def _pixels(item: Item) -> np.ndarray:
  return images.read_image(item.image).reshape(-1)


def _first(items: Sequence[Item], kind: str) -> Path:
  return next(item.image for item in items if str(item.header.dtype) == kind)
