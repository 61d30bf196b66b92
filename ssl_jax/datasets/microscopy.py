"""What published microscopy sets share: cells or not, and a share of labels to learn from."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8

from ssl_jax.data import image_source
from ssl_jax.data.image_mask_pairs import Item
from ssl_jax.errors import UserError
from ssl_jax.io import images
from ssl_jax.types import IGNORE, Splits

Share = float | int
"""A count of images (an int, or above 1), or their share of all (a float of 0 to 1)."""


def count_of(share: Share, total: int, knob: str, least: int = 1) -> int:
  """How many of `total` images a share means; raises UserError where that cannot be."""
  whole = isinstance(share, int) or share > 1  # a shell may turn 3 into 3.0
  if isinstance(share, bool) or (whole and share != int(share)):
    raise UserError(f'{knob}={share} is no share of the images: give 0.1 for 10 %, or a number.')
  count = int(share) if whole else max(round(share * total), 1 if share else 0)
  if not least <= count <= total:
    raise UserError(f'{knob}={share} asks for {count} images, and {least}..{total} can be given.')
  return count


def splits(
  training: Sequence[Item],
  test: Sequence[Item],
  *,
  labeled: Share,
  val: Share | Sequence[Item],
  seed: int,
  read_mask: image_source.ReadMask,
  percentiles: Sequence[float | int],
  classes: Sequence[str],
  notes: Sequence[str] = (),
) -> Splits:
  """Splits whose labels are a share of `training`; the others, and those without masks, have none.

  The order is drawn by `seed`, so that a smaller share is part of a larger one; `val`, where it is
  a share, is taken from its end.
  """
  order = np.random.default_rng(seed).permutation(len(training))
  drawn = [training[i] for i in order]
  masked = [item for item in drawn if item.mask]
  if isinstance(val, int | float):
    count = count_of(val, len(masked) - 1, 'data.val', least=0)
    masked, val = masked[: len(masked) - count], masked[len(masked) - count :]
  taken = {item.name for item in val}
  shown = masked[: count_of(labeled, len(masked), 'data.labeled')]
  taken |= {item.name for item in shown}
  others = [item for item in drawn if item.name not in taken]
  roles = dict(labeled=shown, unlabeled=others, val=val, test=test)
  for item in (*masked, *val, *test):
    if (size := read_mask(item.mask).shape) != item.header[:2]:
      raise UserError(
        f'{item.mask} is {size[0]} x {size[1]} pixels but its image is {item.header.height} x '
        f'{item.header.width}; get the files again.'
      )
  notes = [*notes, *image_source.drop_copies(roles)]
  found, more = image_source.sources(roles, read_mask, percentiles)
  return Splits(**found, classes=tuple(classes), notes=(*notes, *more))


def foreground(margin: int = 0) -> image_source.ReadMask:
  """Reads any mask of objects: 1 where the first channel is not 0, IGNORE within the margin."""

  def read(path: Path) -> UInt8[np.ndarray, 'h w']:
    return _without_margin((_first_channel(path) > 0).astype(np.uint8), margin)

  return read


def _first_channel(path: Path) -> Integer[np.ndarray, 'h w']:
  return images.read_image(path)[..., 0]


def _without_margin(mask: UInt8[np.ndarray, 'h w'], margin: int) -> UInt8[np.ndarray, 'h w']:
  if margin:
    inner = tuple(slice(margin, -margin) for _ in mask.shape)
    kept = mask[inner].copy()
    mask[:] = IGNORE
    mask[inner] = kept
  return mask


def match(items: Sequence[Item], folder: Path, name_of: Callable[[Path], str]) -> list[Item]:
  """The items with their masks in `folder`, None where there is none."""
  masks = {name_of(path): path for path in images.list_images(folder)} if folder.is_dir() else {}
  return [item._replace(mask=masks.get(item.name)) for item in items]


def folder_of(root: str | Path | None, name: str, how: str) -> Path:
  """The folder that a set lies in: `root`, or `root`/`name`; raises UserError that says `how`."""
  if root is None:
    raise UserError(f'data.root is not given; {how}')
  for folder in (Path(root) / name, Path(root)):
    if (folder / 'images').is_dir() or any(folder.glob('[0-9][0-9]')):
      return folder
  raise UserError(f'{root} (data.root) holds no {name}; {how}')
