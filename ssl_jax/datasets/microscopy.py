"""What published microscopy sets share: masks of objects, and a part of them to learn from."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8
from skimage import measure

from ssl_jax.data import image_source
from ssl_jax.data.image_mask_pairs import ImageFile, list_files
from ssl_jax.data.masks import instance_masks
from ssl_jax.data.selection import held_out
from ssl_jax.data.selection.draws import draw_order, pool_overlap
from ssl_jax.errors import UserError
from ssl_jax.io import images
from ssl_jax.io.folders import listing
from ssl_jax.types import IGNORE, Draw, Splits

Amount = float | int
"""A number of images (an int, or above 1), or their fraction of all (a float of 0 to 1)."""


def count_images(amount: Amount, total: int, field: str, at_least: int = 1) -> int:
  """Returns how many of `total` images an amount is.

  Raises:
    UserError: naming the field, if it is neither, or not in `at_least`..`total`.
  """
  is_number = isinstance(amount, int) or amount > 1  # a shell may turn 3 into 3.0
  if isinstance(amount, bool) or (is_number and amount != int(amount)):
    raise UserError(
      f'{field}={amount} is neither a number nor a fraction of the images; give 0.1 for 10 %, or a '
      'whole number.'
    )
  # A small fraction of few images is still one image; 0 means none.
  at_least_one = 1 if amount else 0
  count = int(amount) if is_number else max(round(amount * total), at_least_one)
  if not at_least <= count <= total:
    raise UserError(
      f'{field}={amount} asks for {count} images, and {at_least}..{total} can be given.'
    )
  return count


def make_splits(
  training: Sequence[ImageFile],
  test: Sequence[ImageFile],
  *,
  labeled: Amount,
  val: Amount | Sequence[ImageFile],
  seed: int,
  draw: int = 0,
  read_mask: image_source.ReadMask,
  percentiles: Sequence[float | int],
  classes: Sequence[str],
  notes: Sequence[str] = (),
  masks: instance_masks.InstanceMasks | None = None,
  min_size: int | None = None,
) -> Splits:
  """Makes a data set in which a part of the training images is labeled.

  The order is drawn by `seed`, so that a smaller part is contained in a larger one.

  Args:
    training: images, of which those without masks are always unlabeled.
    test: images with masks.
    labeled: how many of the training images with masks keep them.
    val: images with masks, or how many to take from the end of the drawn order.
    seed: of the order.
    draw: number of the repetition, each with another order.
    read_mask: reads the class ids of a mask file.
    percentiles: of the training images' raw values; they become 0 and 1.
    classes: names, the background first.
    notes: what the user should know.
    masks: how masks of instances are read, in place of `read_mask` and `classes`.
    min_size: of instances, see datasets/folder.py.

  Raises:
    UserError: if an amount is impossible, or a mask has another size than its image.
  """
  # One order for every amount: the first 5 labeled images are among the first 10.
  drawn = [training[i] for i in draw_order(len(training), seed, draw)]
  # Only images with masks can be labeled or val.
  masked = [file for file in drawn if file.mask]
  if isinstance(val, int | float):
    count = count_images(val, len(masked) - 1, 'data.val', at_least=0)
    # From the end of the order; the labeled images come from its start.
    first = len(masked) - count
    val = masked[first:]
    masked = masked[:first]
  chosen = masked[: count_images(labeled, len(masked), 'data.labeled')]
  taken = {file.name for file in (*val, *chosen)}
  # All the rest is unlabeled, with or without a mask; masks then only judge pseudo-labels.
  others = [file for file in drawn if file.name not in taken]
  # Every mask is read once here, so that a wrong size is reported before the training begins. Those
  # of instances have been.
  for file in (*masked, *val, *test) if masks is None else ():
    _check_size(file, read_mask)
  files = {'labeled': chosen, 'unlabeled': others, 'val': [*val], 'test': [*test]}
  # Changes `files` in place.
  notes = [*notes, *held_out.drop_copies(files)]
  drawn_from = Draw(pool_overlap(len(chosen), len(masked)))
  if masks is not None:
    notes = [*masks.notes, *notes]
    return instance_masks.make_splits(files, masks, percentiles, notes, min_size, drawn_from)
  sources = image_source.make_sources(files, read_mask, percentiles)
  return image_source.make_splits(sources, classes, notes)._replace(draw=drawn_from)


def _check_size(file: ImageFile, read_mask: image_source.ReadMask) -> None:
  if file.mask is None:
    return
  height, width = read_mask(file.mask).shape
  if (height, width) != (file.header.height, file.header.width):
    raise UserError(
      f'{file.mask} is {height} x {width} pixels but its image is {file.header.height} x '
      f'{file.header.width}; get the files again.'
    )


class Sections(NamedTuple):
  """Files of a stack of sections, by what they are for."""

  training: list[ImageFile]
  val: list[ImageFile]
  test: list[ImageFile]
  note: str


def split_by_depth(folder: Path, val: int, test: Amount, how: str) -> Sections:
  """Splits the sections in images/ by depth, because neighbors are nearly equal.

  The last are the test, those before them val. Files in unlabeled/, of another stack, are training.

  Args:
    folder: with images/, masks/ and perhaps unlabeled/; names are in the order of depth.
    val: how many sections are val.
    test: how many sections are the test.
    how: what to do where files are missing.

  Raises:
    UserError: if a section has no mask, or an amount is impossible.
  """
  # All sections of the stack are annotated.
  files, _ = find_masks(list_files(folder / 'images'), folder, how, instances=False)
  # At least one section is left for training.
  num_test = count_images(test, len(files) - 1, 'data.test')
  num_val = count_images(val, len(files) - num_test - 1, 'data.val', at_least=0)
  num_training = len(files) - num_test - num_val
  training = files[:num_training]
  if (folder / 'unlabeled').is_dir():
    training = [*training, *list_files(folder / 'unlabeled')]
  return Sections(
    training,
    files[num_training : num_training + num_val],
    files[num_training + num_val :],
    f'test: the last {num_test} sections, val: the {num_val} before them',
  )


def foreground_reader(margin: int = 0) -> image_source.ReadMask:
  """Returns a reader of masks of objects: 1 where the first channel is not 0, IGNORE in the margin.

  Any mask of objects will do: instance ids, 0 and 255, or one color for each object.
  """

  def read(path: Path) -> UInt8[np.ndarray, 'h w']:
    mask = (images.read_image(path)[..., 0] > 0).astype(np.uint8)
    if not margin:
      return mask
    # A margin of 0 has returned above: slice(0, -0) would be empty.
    framed = np.full_like(mask, IGNORE)
    inner = (slice(margin, -margin), slice(margin, -margin))
    framed[inner] = mask[inner]
    return framed

  return read


def find_masks(
  files: Sequence[ImageFile], folder: Path, how: str, instances: bool
) -> tuple[list[ImageFile], instance_masks.InstanceMasks | None]:
  """Returns the files of a set of which every image is annotated, with their masks.

  A mask has the name of its image, whatever its ending. Masks of instances come with how they are
  read: ids are in instances/; where that folder is missing, masks/ has one color for each object,
  or at least for objects that touch: connected regions of one value of the first channel are
  instances.

  Args:
    files: images.
    folder: of the data set.
    how: to get it.
    instances: whether masks of instances are wanted; otherwise those in masks/ are taken.

  Raises:
    UserError: if an image has no mask, or a mask of instances another size.
  """
  name = 'instances' if instances and (folder / 'instances').is_dir() else 'masks'
  with_masks = match_masks(files, folder / name, lambda path: path.stem)
  _require_masks(with_masks, folder / name, how)
  if not instances:
    return with_masks, None
  if name == 'instances':
    return with_masks, instance_masks.look_through_images(with_masks)
  return with_masks, instance_masks.look_through_images(with_masks, read=_read_regions)


def _read_regions(path: Path) -> Integer[np.ndarray, 'h w']:
  return measure.label(images.read_image(path)[..., 0], background=0, connectivity=2)


def match_masks(
  files: Sequence[ImageFile], folder: Path, name_of: Callable[[Path], str]
) -> list[ImageFile]:
  """Returns the files with their masks in a folder; None where there is none.

  Args:
    files: images.
    folder: of masks; it need not exist.
    name_of: the path of a mask -> the name of its image.

  Raises:
    UserError: if the folder exists but holds no images.
  """
  masks = {}
  if folder.is_dir():
    masks = {name_of(path): path for path in listing.list_images(folder)}
  return [file._replace(mask=masks.get(file.name)) for file in files]


def _require_masks(files: Sequence[ImageFile], folder: Path, how: str) -> None:
  """Raises UserError if an image has no mask, as after an incomplete download."""
  for file in files:
    if file.mask is None:
      raise UserError(f'{folder} has no mask of {file.name}; {how}')


def draw_test(
  files: Sequence[ImageFile], test: Amount, seed: int
) -> tuple[list[ImageFile], list[ImageFile]]:
  """Returns training and test images; the draw does not depend on how many images are labeled.

  Raises:
    UserError: if no image would be left for training.
  """
  # Another draw than that of the labels in `make_splits`, which has the seed alone.
  order = np.random.default_rng([seed, 0]).permutation(len(files))
  count = count_images(test, len(files) - 1, 'data.test')
  drawn = [files[i] for i in order]
  return drawn[count:], drawn[:count]


def find_folder(root: str | Path | None, name: str, how: str) -> Path:
  """Returns the folder that a data set lies in: `root`/`name`, or `root` itself.

  Raises:
    UserError: if it is in neither; the message ends with `how` to get it.
  """
  if root is None:
    raise UserError(f'data.root is not given; {how}')
  # Folders NN are recordings of the Cell Tracking Challenge.
  for folder in (Path(root) / name, Path(root)):
    if (folder / 'images').is_dir() or any(folder.glob('[0-9][0-9]')):
      return folder
  raise UserError(f'{root} (data.root) holds no {name}; {how}')
