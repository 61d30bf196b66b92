"""Folders on disk -> checked lists of image files and of the masks that belong to them."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ssl_jax.errors import UserError
from ssl_jax.io import images, listing

SUFFIX = re.compile(r'[ ._-](masks?|seg|segmentation|labels?|gt)$', re.IGNORECASE)
"""What the name of a mask file may have after the name of its image."""


class ImageFile(NamedTuple):
  """One image file, checked to be readable as far as its header goes."""

  name: str  # without folder and ending
  image: Path
  mask: Path | None
  header: images.Header
  sha256: str  # of the image file


def list_pairs(folder: str | Path, role: str) -> list[ImageFile]:
  """Lists the pairs of image and mask in the folders images/ and masks/ of a folder.

  A mask has its image's name, or that with _mask, _seg, _label or _gt after it.

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
  masks = _match(files, listing.list_images(mask_folder))
  for file in files:
    if file.name not in masks:
      raise UserError(
        f'{file.image} has no mask in {mask_folder}; add one called {file.name}.png, or move '
        'the image to the unlabeled folder.'
      )
  # Every image has exactly one mask from here on.
  return [file._replace(mask=masks[file.name]) for file in files]


def list_unlabeled(folder: str | Path) -> list[ImageFile]:
  """Lists the images of a folder, or of the images/ in it; looks for no masks.

  Links to files that are not there are left out.

  Raises:
    UserError: if the folder is missing or holds no images.
  """
  # So the same folder may be used with and without its masks.
  return list_files(unlabeled_folder(folder), partial=True)


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
  files: dict[str, ImageFile] = {}
  for path in listing.list_images(folder, partial):
    name = listing.name_for_outputs(path, listing.IMAGES)
    # cell.png and cell.tif would share one mask, and later one file of predictions.
    if name in files:
      raise UserError(
        f'{path} and {files[name].image.name} have the same name; rename one of them.'
      )
    # Broken files are reported now, not hours into the training. The header suffices for that, and
    # the hash finds copies of test images.
    data = images.read_bytes(path)
    header = images.decode_header(data, str(path))
    files[name] = ImageFile(name, path, None, header, hashlib.sha256(data).hexdigest())
  return list(files.values())


def _match(files: Sequence[ImageFile], masks: Sequence[Path]) -> dict[str, Path]:
  """Masks by the names of their images."""
  names = {file.name for file in files}
  matched: dict[str, Path] = {}
  for path in masks:
    stem = listing.text_of(path.stem)
    # An image may itself be called cell_mask: the whole name goes first.
    name = stem if stem in names else SUFFIX.sub('', stem)
    if name not in names:
      raise UserError(f'{path} has no image of that name in images/; add the image or remove it.')
    # For example cell.png and cell_mask.png.
    if name in matched:
      raise UserError(
        f'{path} and {matched[name].name} are both masks of {name}; remove one of them.'
      )
    matched[name] = path
  return matched
