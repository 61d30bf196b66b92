"""Folders on disk -> checked lists of image files and the masks that belong to them."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ssl_jax.errors import UserError
from ssl_jax.io import images

SUFFIX = re.compile(r'[ ._-](masks?|seg|segmentation|labels?|gt)$', re.IGNORECASE)


class Item(NamedTuple):
  """One image file, checked to be readable as far as its header goes."""

  name: str  # the file's stem
  image: Path
  mask: Path | None
  header: images.Header
  sha256: str


def pairs(folder: str | Path, role: str) -> list[Item]:
  """Lists the image and mask pairs of a folder that has images/ and masks/ in it.

  A mask has its image's stem, or that with _mask, _seg, _label or _gt after it. Raises UserError
  where a folder is missing or an image or mask stands alone.
  """
  how = 'put the images in images/ and their masks, under the same names, in masks/'
  found = {kind: inside(Path(folder), kind, role, how) for kind in ('images', 'masks')}
  items = files_in(found['images'])
  masks = _match(items, images.list_images(found['masks']))
  for item in items:
    if item.name not in masks:
      raise UserError(
        f'{item.image} has no mask in {found["masks"]}; add one called {item.name}.png, or move '
        'the image to the unlabeled folder.'
      )
  return [item._replace(mask=masks[item.name]) for item in items]


def singles(folder: str | Path) -> list[Item]:
  """Lists the images of a folder, or of the images/ in it; no masks are looked for."""
  own = Path(folder) / 'images'
  return files_in(own if own.is_dir() else Path(folder))


def inside(folder: Path, kind: str, role: str, how: str) -> Path:
  """The folder `kind` in a folder; raises UserError that says `how` it should be."""
  if not folder.is_dir():
    raise UserError(f'The folder {folder} ({role}) does not exist; check the path.')
  for path in sorted(folder.iterdir()):
    if path.is_dir() and path.name.lower() == kind:
      return path
  raise UserError(f'{folder} ({role}) has no folder {kind}/ in it; {how}.')


def files_in(folder: Path) -> list[Item]:
  """Lists the images of a folder by name; raises UserError where two have the same stem."""
  items: dict[str, Item] = {}
  for path in images.list_images(folder):
    if path.stem in items:
      raise UserError(
        f'{path} and {items[path.stem].image.name} have the same name; rename one of them.'
      )
    data = images.read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    items[path.stem] = Item(path.stem, path, None, images.decode_header(data, str(path)), digest)
  return list(items.values())


def _match(items: Sequence[Item], masks: Sequence[Path]) -> dict[str, Path]:
  names = {item.name for item in items}
  matched: dict[str, Path] = {}
  for path in masks:
    name = path.stem if path.stem in names else SUFFIX.sub('', path.stem)
    if name not in names:
      raise UserError(f'{path} has no image of that name in images/; add the image or remove it.')
    if name in matched:
      raise UserError(
        f'{path} and {matched[name].name} are both masks of {name}; remove one of them.'
      )
    matched[name] = path
  return matched
