"""Folders on disk -> checked lists of files of images and of the masks that belong to them.

One rule of names for images and volumes.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.io import images
from ssl_jax.io.folders import file_names, listing
from ssl_jax.io.formats import stored_image

SUFFIX = re.compile(
  r'[ ._-]+(cp[ ._-]masks?|masks?|seg|(simple[ ._-])?segmentations?|labels?|labell?ed|labelmap|gt'
  r'|ground[ ._-]?truth|annotations?)$',
  re.IGNORECASE,
)
"""What the name of a mask file may have after the name of its image."""

IMAGE_SUFFIX = re.compile(r'_0000$')
"""What nnU-Net writes after the name of a case in the name of its (first) image."""

INNER_ENDING = re.compile(r'\.ome$', re.IGNORECASE)
"""What a name of two endings (.ome.tif) keeps after the last is taken away."""

SUFFIXES = '_seg, _mask, _masks, _label, _labels, _gt, _segmentation or _cp_masks'


class ImageFile(NamedTuple):
  """One image file, checked to be readable as far as its header goes."""

  name: str  # without folder and ending
  image: Path
  mask: Path | None
  header: images.Header
  sha256: str  # of the image file
  # How the mask lies (see data/masks/orientation.py): its orientation tag, and whether it was drawn
  # on the pixels as the image's file stores them.
  mask_orientation: int = 1
  mask_stored: bool = False

  def is_turned(self) -> bool:
    """Returns whether the image, or its mask, is turned by an orientation tag."""
    return self.header.orientation != 1 or self.mask_orientation != 1

  def upright_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
    """Returns the shape that `upright` gives a mask of this shape."""
    if not self.mask_stored:
      return tuple(shape)
    # Turning back exchanges the sides as turning does.
    stored = stored_image.upright_size(shape[0], shape[1], self.mask_orientation)
    return stored_image.upright_size(*stored, self.header.orientation)

  def upright(self, mask: np.ndarray) -> np.ndarray:
    """Returns a mask, as it is read (turned by its own tag), as it lies on the upright image."""
    if not self.mask_stored:
      return mask
    stored = stored_image.turn_back(mask, self.mask_orientation)
    return stored_image.turn(stored, self.header.orientation)


class Pairs(NamedTuple):
  """Which mask belongs to which image."""

  mask_of: dict[Path, Path]
  images_alone: list[Path]
  masks_alone: list[Path]
  unclear: list[str]  # a sentence for each mask that fits several images, or one that has one


def list_pairs(folder: str | Path, role: str) -> list[ImageFile]:
  """Lists the pairs of image and mask in the folders images/ and masks/ of a folder.

  A mask has its image's name, or that with _mask, _seg, _label or the like after it.

  Args:
    folder: that has the two folders in it.
    role: what the folder is for ('labeled', 'val', 'test'), for messages.

  Raises:
    UserError: if a folder is missing, or an image or a mask has no partner.
  """
  how = 'put the images in images/ and their masks, under the same names, in masks/'
  image_folder = subfolder(Path(folder), 'images', role, how)
  mask_folder = subfolder(Path(folder), 'masks', role, how)
  files = list_files(image_folder)
  masks = match_masks([file.image for file in files], listing.list_images(mask_folder), mask_folder)
  return [file._replace(mask=mask) for file, mask in zip(files, masks, strict=True)]


def list_unlabeled(folder: str | Path) -> list[ImageFile]:
  """Lists the images of a folder, or of the images/ in it; looks for no masks.

  Links to files that are not there are left out.

  Raises:
    UserError: if the folder is missing or holds no images, or masks among them.
  """
  # So the same folder may be used with and without its masks.
  files = list_files(unlabeled_folder(folder), partial=True)
  check_no_masks([file.image for file in files])
  return files


def check_no_masks(paths: Sequence[Path]) -> None:
  """Checks that no file of a folder of unlabeled images is called as the mask of another.

  Raises:
    UserError: naming the first of them; a network would learn from masks as from images.
  """
  by_name = {file_names.normal(file_names.stem(path)): path for path in paths}
  masks = {}
  for name, path in by_name.items():
    image = by_name.get(SUFFIX.sub('', name))
    if image not in (None, path):
      masks[path] = image
  for path, image in masks.items():
    others = f', like {len(masks) - 1} more' * (len(masks) > 1)
    raise UserError(
      f'{path} is called as the mask of {image.name} beside it{others}; the folder of unlabeled '
      'images must hold no masks: move them away.'
    )


def unlabeled_folder(folder: str | Path) -> Path:
  """Returns the folder of unlabeled images: the one given, or the images/ in it."""
  inner = Path(folder) / 'images'
  return inner if inner.is_dir() else Path(folder)


def subfolder(folder: Path, name: str, role: str, how: str) -> Path:
  """Returns the folder `name` of a folder, in whatever case it is written.

  Raises:
    UserError: if there is none; the message names the role and ends with `how` it should be.
  """
  if folder.is_file():
    raise UserError(f'{folder} ({role}) is a file, not a folder; give the folder that it lies in.')
  if not folder.is_dir():
    raise UserError(f'The folder {folder} ({role}) does not exist; check the path.')
  # Published sets write Images/ as well as images/. Sorted, because the order of a folder's entries
  # differs between file systems.
  for path in sorted(folder.iterdir()):
    if path.is_dir() and path.name.lower() == name:
      return path
  raise UserError(f'{folder} ({role}) has no folder {name}/ in it; {how}.')


def list_files(folder: Path, partial: bool = False) -> list[ImageFile]:
  """Lists the images of a folder, sorted by name, without masks.

  Args:
    folder: with images in it.
    partial: whether links to files that are not there are left out; otherwise they are refused.

  Raises:
    UserError: if the folder is missing, holds no images, or two that differ only in their endings.
  """
  paths = listing.list_images(folder, partial)
  check_names(paths)
  files = []
  for path in paths:
    # Broken files are reported now, not hours into the training. The header suffices for that, and
    # the hash finds copies of test images.
    data = images.read_bytes(path)
    header = images.decode_header(data, str(path))
    sha256 = hashlib.sha256(data).hexdigest()
    name = listing.name_for_outputs(path, listing.IMAGES)
    files.append(ImageFile(name, path, None, header, sha256))
  return files


def check_names(paths: Sequence[Path]) -> None:
  """Checks that no two images share a name, and with it a mask and a file of predictions.

  Raises:
    UserError: naming two that do.
  """
  path_of: dict[str, Path] = {}
  for path in paths:
    # cell.png and cell.tif, or two names that look the same and are coded otherwise.
    other = path_of.setdefault(file_names.normal(file_names.stem(path)), path)
    if other is not path:
      raise UserError(f'{path} and {other.name} have the same name; rename one of them.')


def match_masks(image_paths: Sequence[Path], masks: Sequence[Path], folder: Path) -> list[Path]:
  """Returns the mask of each image.

  Args:
    image_paths: all images of a folder, no two of one name.
    masks: all masks.
    folder: of the masks, for messages.

  Raises:
    UserError: if an image or a mask has no partner, or more than one.
  """
  pairs = find_pairs(image_paths, masks)
  if pairs.unclear:
    raise UserError(pairs.unclear[0])
  for path in pairs.masks_alone:
    raise UserError(
      f'{path} has no image of that name in images/; add the image, call the mask as its image is '
      f'called (or that with {SUFFIXES} after it), or remove it.'
    )
  for path in pairs.images_alone:
    name = file_names.stem(path)
    ending = '.nii.gz' if path.name.lower().endswith(file_names.ENDINGS) else '.png'
    raise UserError(
      f'{path} has no mask in {folder}; add one called {name}{ending} (or {name} with {SUFFIXES} '
      'after it), or move the image to the unlabeled folder.'
    )
  return [pairs.mask_of[path] for path in image_paths]


def find_pairs(image_paths: Sequence[Path], masks: Sequence[Path]) -> Pairs:
  """Returns which mask belongs to which image, and all that has no partner."""
  mask_of: dict[Path, Path] = {}
  masks_alone = []
  unclear = []
  by_name = {file_names.normal(file_names.stem(path)): path for path in image_paths}
  # Images that differ in the ending alone: a.png and a.tif.
  twins = []
  for path in image_paths:
    other = by_name[file_names.normal(file_names.stem(path))]
    if other != path:
      twins.append(path)
      unclear.append(
        f'{path} and {other.name} have one name for one mask; rename one, and its mask alike.'
      )
  # nnU-Net's case_0000 and microscopes' cell.ome are called case and cell, too, unless another
  # image has that name.
  by_short_name: dict[str, list[Path]] = {}
  for name, path in by_name.items():
    by_short_name.setdefault(short_name(name), []).append(path)
  for path in masks:
    named = _images_of(path, by_name, by_short_name)
    if not named:
      masks_alone.append(path)
    elif len(named) > 1:
      first, second = named[:2]
      unclear.append(
        f'{path} may be the mask of {first.name} or of {second.name}; give it the name of one.'
      )
    # For example cell.png and cell_mask.png.
    elif named[0] in mask_of:
      other = mask_of[named[0]].name
      unclear.append(f'{path} and {other} are both masks of {named[0].name}; remove one of them.')
    else:
      mask_of[named[0]] = path
  images_alone = [path for path in image_paths if path not in mask_of and path not in twins]
  return Pairs(mask_of, images_alone, masks_alone, unclear)


def _images_of(
  path: Path, by_name: dict[str, Path], by_short_name: dict[str, list[Path]]
) -> list[Path]:
  """The images to which a mask may belong by its name: none, one, or several."""
  whole = file_names.normal(file_names.stem(path))
  # An image may itself be called cell_mask: the whole name goes first.
  without_suffix = SUFFIX.sub('', whole)
  names = [whole, without_suffix, short_name(whole), SUFFIX.sub('', short_name(whole))]
  names.append(short_name(without_suffix))
  for name in names:
    if name in by_name:
      return [by_name[name]]
  for name in names:
    if by_short_name.get(name):
      return by_short_name[name]
  return []


def short_name(name: str) -> str:
  """A name without what programs add to the names of images."""
  return IMAGE_SUFFIX.sub('', INNER_ENDING.sub('', name))


def size_hint(image: Sequence[int], mask: Sequence[int]) -> str:
  """Returns what may be behind different sizes of an image and its mask; '' if nothing is known."""
  if sorted(image) != sorted(mask):
    return ''
  if len(image) == 2:
    return (
      ' (perhaps one of them is transposed, or turned by the orientation tag, EXIF, of its file; '
      'save both as they are shown)'
    )
  return ' (perhaps its axes are in another order)'
