"""White blood cells: Zheng 1, Zheng 2 and the LISC crops, with the paper's splits."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8

from ssl_jax.errors import UserError
from ssl_jax.io import images
from ssl_jax.types import IGNORE, Splits

CLASSES = ('background', 'cytoplasm', 'nucleus')
SETS = ('zheng1', 'zheng2', 'lisc')
SHIFT = 4  # LISC masks lie so many pixels up and left of their images

# Training images that show a val image again: the same bytes, or a shift-tolerant colour
# correlation of at least 0.979 at 40 x 40 pixels. {set: {training image: val image}}
TWINS = {
  'zheng1': {'139': '112', '171': '166', '157': '158'},
  'zheng2': {},
  'lisc': {
    '254_cell1': '260_cell1',
    '262_cell1': '252_cell1',
    '37_cell1': '160_cell1',
    '58_cell1': '59_cell1',
    '57_cell1': '59_cell1',
    '259_cell1': '265_cell1',
  },
}

Mask = Integer[np.ndarray, 'h w']
Read = Callable[[str], tuple[np.ndarray, Mask]]


class Found(NamedTuple):
  """A set as it lies on disk."""

  read: Read  # a cell's name -> its image, and class ids at the mask's own size
  splits: Mapping[str, Sequence[str]]  # names in 'labeled', 'unlabeled' and 'val', in order
  digest: str = ''  # of the files, where they are not those of the published hashes


class Cells:
  """A Source of cells, decoded when first asked for and kept (a whole set is below 30 MB)."""

  def __init__(
    self, names: Sequence[str], read: Read, shift: int, resize: int | None, with_label: bool
  ):
    self._names, self._read, self._shift, self._with_label = names, read, shift, with_label
    self._resize = resize
    self._kept: dict[str, dict] = {}

  def __len__(self) -> int:
    return len(self._names)

  def __getitem__(self, index: int) -> dict:
    name = self._names[index]
    if name not in self._kept:
      image, mask = self._read(name)
      image = images.to_channels(image, 3)
      label = place(mask, image.shape[:2], self._shift)
      if self._resize:
        image = images.resized(image, self._resize, smooth=True)
        label = images.resized(label, self._resize, smooth=False)
      record = {'image': image, 'name': name}
      if self._with_label:
        record['label'] = label
      self._kept[name] = record
    return dict(self._kept[name])


def load(
  *,
  set: str = 'lisc',
  masks: str = 'aligned',
  root: str | Path | None = None,
  labeled: int | None = None,
  unlabeled: int | None = None,
  val: int | str = 0,
  test: int | None = None,
  duplicates: str = 'drop',
  resize: int | None = None,
) -> Splits:
  """Loads one of zheng1, zheng2 and lisc; the test is the paper's val list.

  `masks` matters for lisc: 'aligned' shifts them onto their images, 'authors' leaves them as
  published. `root` is a folder with SET/images, SET/masks and split lists, a copy of the authors'
  repository, or a TFDS data directory; None downloads to the default one. `labeled`, `unlabeled`
  and `test` take only the first so many names of their list (None: all), `val` the last so many of
  the labeled ones away from training; 'test' validates on the test images, as the paper did.
  `resize` makes all images squares of so many pixels. `duplicates` 'drop' leaves out training
  images that show a test image again, 'keep' trains on them as the paper did. Raises UserError for
  a wrong choice, a missing file, a wrong hash, or no network.
  """
  _check(set=(set, SETS), masks=(masks, ('aligned', 'authors')))
  _check(duplicates=(duplicates, ('drop', 'keep')))
  found = _find(set, root)
  names = {split: list(found.splits[split]) for split in ('labeled', 'unlabeled', 'val')}
  notes = _faults(set, masks)
  if duplicates == 'drop':
    notes += _drop_twins(names, set)
  else:
    notes.append('training images that show a test image again were kept (duplicates=keep)')
  names['test'] = _first(names['val'], test, 'test')
  names['labeled'] = _first(names['labeled'], labeled, 'labeled')
  names['unlabeled'] = _first(names['unlabeled'], unlabeled, 'unlabeled')
  names['val'] = []
  if val == 'test':
    names['val'] = names['test']
    notes.append('val is the test again (val=test): whatever is chosen on it flatters the test')
  elif isinstance(val, int) and 0 <= val < len(names['labeled']):
    cut = len(names['labeled']) - val
    names['labeled'], names['val'] = names['labeled'][:cut], names['labeled'][cut:]
  else:
    count = len(names['labeled'])
    raise UserError(f"val={val} must leave at least 1 of the {count} labeled images, or be 'test'.")
  shift = SHIFT if set == 'lisc' and masks == 'aligned' else 0
  # Unlabeled records carry no mask, so that the hidden truth cannot reach training.
  sources = {
    split: Cells(chosen, found.read, shift, resize, split != 'unlabeled') if chosen else None
    for split, chosen in names.items()
  }
  hidden = names['unlabeled']
  truth = Cells(hidden, found.read, shift, resize, True) if hidden else None
  digest = f'{set} {masks} {resize} {names} {found.digest}'
  return Splits(**sources, classes=CLASSES, notes=tuple(notes), truth=truth, digest=digest)


def place(mask: Mask, shape: tuple[int, int], shift: int) -> UInt8[np.ndarray, 'height width']:
  """Lays a mask on its image's canvas, `shift` pixels down and right; IGNORE where it is not.

  Twelve LISC masks are 8 pixels smaller than their image, with or without the shift.
  """
  canvas = np.full(shape, IGNORE, np.uint8)
  seen = canvas[shift : shift + mask.shape[0], shift : shift + mask.shape[1]]
  seen[:] = mask[: seen.shape[0], : seen.shape[1]]
  return canvas


def _check(**choices: tuple[str, Sequence[str]]) -> None:
  for knob, (chosen, known) in choices.items():
    if chosen not in known:
      raise UserError(f'{knob}={chosen!r} is not known; choose one of {", ".join(known)}.')


def _first(names: list[str], count: int | None, split: str) -> list[str]:
  least = 0 if split == 'unlabeled' else 1
  if count is not None and not least <= count <= len(names):
    raise UserError(f'{split}={count} must lie in {least}..{len(names)}, the images there are.')
  return names[:count]


def _drop_twins(names: dict[str, list[str]], set: str) -> list[str]:
  shown = {name for name, twin in TWINS[set].items() if twin in names['val']}
  dropped = [name for split in ('labeled', 'unlabeled') for name in names[split] if name in shown]
  for split in ('labeled', 'unlabeled'):
    names[split] = [name for name in names[split] if name not in shown]
  pairs = ', '.join(f'{name} (test {TWINS[set][name]})' for name in dropped)
  return [f'dropped from training, showing a test image again: {pairs}'] if dropped else []


def _faults(set: str, masks: str) -> list[str]:
  if set != 'lisc':
    return []
  nuclei = '62 of the 277 LISC masks have no nucleus (the cell is drawn as one region)'
  if masks == 'aligned':
    return [f'LISC masks moved {SHIFT} pixels down and right onto their images', nuclei]
  as_published = (
    'LISC masks as published: about 4 pixels up and left of their images, and 12 of them 8 pixels '
    'smaller, which are laid at the top left and ignored beyond; never compare with aligned ones'
  )
  return [as_published, nuclei]


def _find(set: str, root: str | Path | None) -> Found:
  if root is not None:
    root = Path(root)
    if not root.is_dir():
      raise UserError(f'The folder {root} (data.root) does not exist; check the path.')
    folders = [f for f in (root / set, root / 'wbc' / set, root) if (f / 'images').is_dir()]
    for folder in folders:
      if (folder / 'labeled.txt').is_file():
        return _folder(folder, set)
  from ssl_jax.datasets import wbc_builder as builder

  splits = builder.splits(set)
  if root is not None:
    # Asked after the lists: some disks do not tell the repository's lisc/Images from lisc/images.
    if (root / builder.raw_paths(set, splits['val'][0])['mask']).is_file():
      return Found(_repository_reader(root, set, builder), splits)
    if folders:
      return _folder(folders[0], set)
  cells = builder.prepared(set, root)
  return Found(lambda name: _decode(name, cells[name]), splits)


def _folder(folder: Path, set: str) -> Found:
  """A folder with images/NAME.bmp, masks/NAME.png (class ids) and three lists of names."""
  if folder.name in SETS and folder.name != set:
    raise UserError(f'{folder} holds {folder.name}, not {set}; set the set to it or change root.')
  splits = {split: _names(folder / f'{split}.txt') for split in ('labeled', 'unlabeled', 'val')}
  digest = hashlib.sha256()
  for name in (name for names in splits.values() for name in names):
    for path in (folder / 'images' / f'{name}.bmp', folder / 'masks' / f'{name}.png'):
      if not path.is_file():
        raise UserError(f'{path} is missing though a list names it; restore it.')
      digest.update(images.read_bytes(path))

  def read(name: str) -> tuple[np.ndarray, Mask]:
    mask = images.read_mask(folder / 'masks' / f'{name}.png')
    if not np.isin(mask, (0, 1, 2, IGNORE)).all():
      raise UserError(f'{folder}/masks/{name}.png holds {mask.max()}; class ids are 0, 1 and 2.')
    return images.read_image(folder / 'images' / f'{name}.bmp'), mask

  return Found(read, splits, digest.hexdigest())


def _names(path: Path) -> list[str]:
  return images.read_bytes(path).decode().split()


def _repository_reader(root: Path, set: str, builder) -> Read:
  """Reads a copy of the authors' repository, each file checked against its published hash."""
  files = builder.raw_files(set)

  def read(name: str) -> tuple[np.ndarray, Mask]:
    parts = {}
    for part, path in builder.raw_paths(set, name).items():
      parts[part] = images.read_bytes(root / path)
      if hashlib.sha256(parts[part]).hexdigest() != files[path].sha256:
        raise UserError(
          f'{root / path} is not the published file (its SHA-256 differs); replace it.'
        )
    return _decode(name, parts)

  return read


def _decode(name: str, parts: Mapping[str, bytes]) -> tuple[np.ndarray, Mask]:
  """Decodes raw bytes; the authors write cytoplasm as 128 and nucleus as 255."""
  source = images.decode_image(parts['mask'], f'the mask of {name}')[..., 0]
  # Five zheng2 masks hold a few stray values between, which nobody vouches to be a cell.
  ids = np.where(source == 128, 1, np.where(source == 255, 2, 0)).astype(np.uint8)
  return images.decode_image(parts['image'], name), ids
