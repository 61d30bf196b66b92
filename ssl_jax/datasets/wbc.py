"""White blood cells: Zheng 1, Zheng 2 and the LISC crops, with the paper's splits."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8

from ssl_jax.data.selection.draws import draw_order, pool_overlap
from ssl_jax.datasets import microscopy
from ssl_jax.errors import UserError
from ssl_jax.io import images, masks
from ssl_jax.types import IGNORE, Draw, Record, Splits

CLASSES = ('background', 'cytoplasm', 'nucleus')
SETS = ('zheng1', 'zheng2', 'lisc')
SHIFT = 4
"""LISC masks lie this many pixels up and left of their images."""

# Training images that show a val image again: the same bytes, or a shift-tolerant color
# correlation of at least 0.979 at 40 x 40 pixels. {set: {training image: val image}}
DUPLICATES = {
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
ReadCell = Callable[[str], tuple[np.ndarray, Mask]]
"""A cell's name -> its image, and class ids at the mask's own size."""


class WbcFiles(NamedTuple):
  """A set as it lies on disk."""

  read: ReadCell
  splits: Mapping[str, Sequence[str]]  # names in 'labeled', 'unlabeled' and 'val', in order
  digest: str = ''  # content hash, if the files are not those of the published hashes


class Cells:
  """A Source of cells, decoded when first asked for and kept (a whole set is below 30 MB)."""

  def __init__(
    self, names: Sequence[str], read: ReadCell, shift: int, resize: int | None, with_label: bool
  ):
    self._names = names
    self._read = read
    self._shift = shift
    self._resize = resize
    self._with_label = with_label
    self._decoded: dict[str, Record] = {}

  def __len__(self) -> int:
    return len(self._names)

  def __getitem__(self, index: int) -> Record:
    name = self._names[index]
    if name not in self._decoded:
      self._decoded[name] = self._decode(name)
    return self._decoded[name].copy()

  def _decode(self, name: str) -> Record:
    image, mask = self._read(name)
    image = images.to_channels(image, 3)
    height, width = image.shape[:2]
    # [H, W] at the size of the image, which the mask may not have.
    label = place_mask(mask, (height, width), self._shift)
    # After the shift, which is in pixels of the original.
    if self._resize:
      image = images.resize(image, self._resize, smooth=True)
      label = images.resize(label, self._resize, smooth=False)
    record = Record(image=image, name=name)
    if self._with_label:
      record['label'] = label
    return record


def load(
  *,
  set: str = 'lisc',
  masks: str = 'aligned',
  root: str | Path | None = None,
  labeled: float | int | None = None,
  unlabeled: int | None = None,
  val: int | str = 0,
  test: int | None = None,
  duplicates: str = 'drop',
  resize: int | None = None,
  seed: int | None = None,
  draw: int = 0,
) -> Splits:
  """Loads one of the three sets; the test is the paper's val list.

  Args:
    set: 'zheng1', 'zheng2' or 'lisc'.
    masks: of lisc: 'aligned' shifts them onto their images, 'authors' leaves them as published.
    root: a folder with SET/images, SET/masks and lists of names, or a copy of the authors'
      repository, or a TFDS data directory; None downloads to the default one.
    labeled: takes the first N names of its list, or of those drawn (`seed`), or a fraction of them;
      None: all of the list, or as many.
    unlabeled: the same of its list.
    val: takes the last N labeled images away from training; 'test' validates on the test
      images, as the paper did.
    test: as `labeled`.
    duplicates: 'drop' leaves out training images that show a test image again, 'keep' trains on
      them as the paper did.
    resize: makes all images squares of N pixels a side.
    seed: draws the labeled images anew from both lists of training images, so that repetitions
      can have other labels; a smaller number of them is contained in a larger one. None: the
      paper's list.
    draw: number of the repetition, each with other labeled images, where `labeled` or `seed` asks
      for a part of them; the whole list of the paper is always the same.

  Raises:
    UserError: for a wrong choice, a missing file, a wrong hash, or no network.
  """
  _check_choice('set', set, SETS)
  _check_choice('masks', masks, ('aligned', 'authors'))
  _check_choice('duplicates', duplicates, ('drop', 'keep'))
  files = _find_files(set, root)
  # The paper's val list is what it reports on, so here it is the test.
  names = {split: list(files.splits[split]) for split in ('labeled', 'unlabeled', 'val')}
  notes = _notes_on_masks(set, masks)
  if duplicates == 'drop':
    notes += _drop_duplicates(names, set)
  else:
    notes.append('training images that show a test image again were kept (duplicates=keep)')
  # The order of the keys is part of the digest.
  names['test'] = _first(names['val'], test, 'test')
  num_training = len(names['labeled']) + len(names['unlabeled'])
  drawn = seed is not None or labeled is not None
  if seed is not None or (labeled is not None and draw):
    _draw_labeled(names, seed or 0, draw, labeled)
  elif labeled is not None:
    count = microscopy.count_images(labeled, len(names['labeled']), 'data.labeled')
    names['labeled'] = names['labeled'][:count]
  names['unlabeled'] = _first(names['unlabeled'], unlabeled, 'unlabeled')
  num_labeled = len(names['labeled'])
  # val is made anew: the test, or the last of the labeled images.
  names['val'] = []
  if val == 'test':
    names['val'] = names['test']
    notes.append('val is the test again (val=test): whatever is chosen on it flatters the test')
  elif isinstance(val, int) and 0 <= val < len(names['labeled']):
    # Not names[-val:], which for val=0 would be all.
    count = len(names['labeled']) - val
    names['val'] = names['labeled'][count:]
    names['labeled'] = names['labeled'][:count]
  else:
    raise UserError(
      f'data.val={val} must leave at least 1 of the {len(names["labeled"])} labeled images, or be '
      "'test'."
    )
  shift = SHIFT if set == 'lisc' and masks == 'aligned' else 0

  def cells(split: str, with_label: bool = True) -> Cells | None:
    chosen = names[split]
    return Cells(chosen, files.read, shift, resize, with_label) if chosen else None

  return Splits(
    labeled=Cells(names['labeled'], files.read, shift, resize, with_label=True),
    # Without masks, so that the hidden truth cannot reach training.
    unlabeled=cells('unlabeled', with_label=False),
    val=cells('val'),
    test=cells('test'),
    truth=cells('unlabeled'),
    classes=CLASSES,
    notes=tuple(notes),
    digest=f'{set} {masks} {resize} {names} {files.digest}',
    draw=Draw(pool_overlap(num_labeled, num_training) if drawn else None),
  )


def place_mask(mask: Mask, shape: tuple[int, int], shift: int) -> UInt8[np.ndarray, 'height width']:
  """Lays a mask on its image's canvas, `shift` pixels down and right; IGNORE where it is not.

  Twelve LISC masks are 8 pixels smaller than their image, with or without the shift.
  """
  # Pixels that the mask does not cover keep IGNORE: nothing is known of them.
  canvas = np.full(shape, IGNORE, np.uint8)
  # A view of the canvas, which ends at its border; the second line cuts the mask to its size.
  covered = canvas[shift : shift + mask.shape[0], shift : shift + mask.shape[1]]
  covered[:] = mask[: covered.shape[0], : covered.shape[1]]
  return canvas


def _check_choice(field: str, chosen: str, known: Sequence[str]) -> None:
  if chosen not in known:
    raise UserError(f'data.{field}={chosen!r} is not known; choose one of {", ".join(known)}.')


def _first(names: list[str], count: int | None, split: str) -> list[str]:
  # Training needs a labeled image and scores a test image; unlabeled ones may be absent.
  at_least = 0 if split == 'unlabeled' else 1
  if count is not None and not at_least <= count <= len(names):
    raise UserError(
      f'data.{split}={count} must lie in {at_least}..{len(names)}, the images there are.'
    )
  return names[:count]


def _draw_labeled(
  names: dict[str, list[str]], seed: int, draw: int, labeled: float | int | None
) -> None:
  """Draws the labeled images from all training images; the others become unlabeled."""
  training = sorted([*names['labeled'], *names['unlabeled']])
  drawn = [training[i] for i in draw_order(len(training), seed, draw)]
  count = len(names['labeled'])
  if labeled is not None:
    count = microscopy.count_images(labeled, len(training), 'data.labeled')
  names['labeled'] = drawn[:count]
  names['unlabeled'] = drawn[count:]


def _drop_duplicates(names: dict[str, list[str]], set: str) -> list[str]:
  """Removes training images that show a test image again; returns a note on them."""
  # Only copies of images that are in the val list of these files.
  again = {name for name, original in DUPLICATES[set].items() if original in names['val']}
  dropped = []
  for split in ('labeled', 'unlabeled'):
    dropped += [name for name in names[split] if name in again]
    names[split] = [name for name in names[split] if name not in again]
  if not dropped:
    return []
  pairs = ', '.join(f'{name} (test {DUPLICATES[set][name]})' for name in dropped)
  return [f'dropped from training, showing a test image again: {pairs}']


def _notes_on_masks(set: str, masks: str) -> list[str]:
  """What the user should know of the masks of LISC."""
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


def _find_files(set: str, root: str | Path | None) -> WbcFiles:
  """The files of a set in a folder, in a copy of the repository, or downloaded."""
  # TFDS is imported only where it is needed, because it takes seconds.
  if root is None:
    from ssl_jax.datasets import wbc_builder

    return _from_tfds(wbc_builder.prepared(set, None), wbc_builder.splits(set))
  root = Path(root)
  if not root.is_dir():
    raise UserError(f'The folder {root} (data.root) does not exist; check the path.')
  # `root` may hold the sets, or hold wbc/ with the sets, or be the set itself.
  candidates = (root / set, root / 'wbc' / set, root)
  folders = [folder for folder in candidates if (folder / 'images').is_dir()]
  for folder in folders:
    # With the lists of names it is certainly such a folder.
    if (folder / 'labeled.txt').is_file():
      return _from_folder(folder, set)

  from ssl_jax.datasets import wbc_builder

  splits = wbc_builder.splits(set)
  # Asked after the lists: some disks do not tell the repository's lisc/Images from lisc/images.
  if (root / wbc_builder.raw_paths(set, splits['val'][0])['mask']).is_file():
    return WbcFiles(_repository_reader(root, set), splits)
  # Without lists; `_from_folder` then says which one is missing.
  if folders:
    return _from_folder(folders[0], set)
  # Anything else is taken for a data directory of TFDS.
  return _from_tfds(wbc_builder.prepared(set, root), splits)


def _from_tfds(
  cells: Mapping[str, Mapping[str, bytes]], splits: Mapping[str, Sequence[str]]
) -> WbcFiles:
  return WbcFiles(lambda name: _decode_raw(name, cells[name]), splits)


def _from_folder(folder: Path, set: str) -> WbcFiles:
  """A folder with images/NAME.bmp, masks/NAME.png (class ids) and three lists of names."""
  if folder.name in SETS and folder.name != set:
    raise UserError(
      f'{folder} holds {folder.name}, not {set}; set data.set={folder.name} or change data.root.'
    )
  # Names in the order of the lists, which `labeled=N` takes the first of.
  splits = {}
  for split in ('labeled', 'unlabeled', 'val'):
    splits[split] = images.read_bytes(folder / f'{split}.txt').decode().split()
  # The user's own files may differ from the published ones, so their content is hashed.
  digest = hashlib.sha256()
  for name in (name for names in splits.values() for name in names):
    for path in (folder / 'images' / f'{name}.bmp', folder / 'masks' / f'{name}.png'):
      if not path.is_file():
        raise UserError(f'{path} is missing though a list names it; restore it.')
      digest.update(images.read_bytes(path))

  def read(name: str) -> tuple[np.ndarray, Mask]:
    mask = masks.read_mask(folder / 'masks' / f'{name}.png')
    # This catches the authors' own masks, which hold 128 and 255.
    if not np.isin(mask, (0, 1, 2, IGNORE)).all():
      raise UserError(f'{folder}/masks/{name}.png holds {mask.max()}; class ids are 0, 1 and 2.')
    return images.read_image(folder / 'images' / f'{name}.bmp'), mask

  return WbcFiles(read, splits, digest.hexdigest())


def _repository_reader(root: Path, set: str) -> ReadCell:
  """Reads a copy of the authors' repository, each file checked against its published hash."""
  from ssl_jax.datasets import wbc_builder

  published = wbc_builder.raw_files(set)

  def read(name: str) -> tuple[np.ndarray, Mask]:
    parts = {}
    for part, path in wbc_builder.raw_paths(set, name).items():
      data = images.read_bytes(root / path)
      if hashlib.sha256(data).hexdigest() != published[path].sha256:
        raise UserError(
          f'{root / path} is not the published file (its SHA-256 differs); replace it.'
        )
      parts[part] = data
    return _decode_raw(name, parts)

  return read


def _decode_raw(name: str, parts: Mapping[str, bytes]) -> tuple[np.ndarray, Mask]:
  """Decodes raw bytes; the authors write cytoplasm as 128 and nucleus as 255."""
  # [H, W]; the masks are gray, so the first channel is enough.
  source = images.decode_image(parts['mask'], f'the mask of {name}')[..., 0]
  # Five zheng2 masks hold a few stray values between, which become background.
  ids = np.where(source == 128, 1, np.where(source == 255, 2, 0)).astype(np.uint8)
  return images.decode_image(parts['image'], name), ids
