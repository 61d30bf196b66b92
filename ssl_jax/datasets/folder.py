"""Your own images: a folder with images/ and masks/ in it, and a folder of unlabeled images."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ssl_jax.data import held_out, image_source, instance_masks
from ssl_jax.data.draws import group_reader
from ssl_jax.data.image_mask_pairs import ImageFile, list_pairs, list_unlabeled
from ssl_jax.data.mask_encoding import count_connected_ids, find_encoding
from ssl_jax.errors import UserError
from ssl_jax.io import images
from ssl_jax.types import Draw, Splits

COUNTED_IDS = 1000
"""Connected ids are counted until there are this many: enough to tell instances from classes."""


def load(
  *,
  labeled: str | Path,
  unlabeled: str | Path | None = None,
  val: str | Path | None = None,
  test: str | Path | None = None,
  classes: int | Sequence[str] | None = None,
  test_fraction: float | int = 0.25,
  seed: int = 0,
  draw: int = 0,
  group: str = '',
  percentiles: Sequence[float | int] = (0.1, 99.9),
  instances: bool = False,
  min_size: int | None = None,
) -> Splits:
  """Loads your own images.

  Training images that are, byte for byte, in val or test are dropped.

  Args:
    labeled: a folder with images/ and masks/ in it.
    unlabeled: a folder of images only.
    val: as `labeled`.
    test: as `labeled`; None: `test_fraction` of the labeled images are the test.
    classes: a number or names, the background first; needed only if the masks leave it open.
    test_fraction: of the labeled images, set aside for the test where there is no folder for it;
      0: no test.
    seed: of the draws of these.
    draw: number of the repetition; without a test folder repetitions are a cross-validation.
    group: regular expression whose first group, or match, in a file's name is the patient (animal,
      slide), so that no patient is in training and test; empty: images are independent.
    percentiles: of the raw values of training images deeper than 8 bits; they become 0 and 1.
    instances: whether masks hold an id for each object: the network learns background, body and
      border of objects, and predicts each object apart.
    min_size: of instances: pixels of the smallest that is predicted; None: a quarter of the size
      that 5 % of the labeled instances fall below.

  Raises:
    UserError: naming the file that is missing, broken or unclear.
  """
  # Checked first, before any mask is decoded: missing folders and files without a partner.
  files: dict[str, list[ImageFile]] = {'labeled': [], 'unlabeled': [], 'val': [], 'test': []}
  for role, path in (('labeled', labeled), ('val', val), ('test', test)):
    if path:
      files[role] = list_pairs(path, role)
  if unlabeled:
    files['unlabeled'] = list_unlabeled(unlabeled)
  # Masks of instances become classes of their own, and need no encoding.
  encoding = masks = None
  if instances:
    masks = instance_masks.look_through_images(chain.from_iterable(files.values()), classes)
    notes = [*masks.notes]
  else:
    # The encoding is found over all masks, also of the test: one mask may hold few values.
    encoding = find_encoding(*_mask_values(files), classes)
    notes = [encoding.note]
  drawn = Draw(groups=_groups(files['test'], group))
  if not test:
    parts = held_out.hold_out(files['labeled'], test_fraction, seed, draw, group)
    files['labeled'] = parts.kept
    files['test'] = parts.test
    notes.append(parts.note)
    drawn = parts.draw
  # After the draw, because copies of images that were just held out must leave training, too.
  notes += held_out.drop_copies(files)

  if masks is not None:
    return instance_masks.make_splits(files, masks, percentiles, notes, min_size, drawn)
  assert encoding is not None

  # One encoding for all splits, so that a value means the same in each.
  def read_mask(path: Path) -> UInt8[np.ndarray, 'h w']:
    return encoding(images.read_mask(path))

  sources = image_source.make_sources(files, read_mask, percentiles)
  return image_source.make_splits(sources, encoding.classes, notes)._replace(draw=drawn)


def _groups(files: Sequence[ImageFile], pattern: str) -> dict[str, str]:
  """The groups of test images that were given, by name."""
  read_group = group_reader(pattern)
  return {file.name: read_group(file.name) for file in files}


def _mask_values(
  files: Mapping[str, Sequence[ImageFile]],
) -> tuple[dict[tuple[int, ...], Path], float]:
  """Reads every mask once and checks its size.

  Returns:
    Each combination of values that a mask holds, with a file that does; and the fraction of ids
    that are one connected component, as instances are.
  """
  file_of: dict[tuple[int, ...], Path] = {}
  counted = 0
  connected = 0
  # Unlabeled images have no mask and are skipped.
  for file in (file for of_role in files.values() for file in of_role):
    if file.mask is None:
      continue
    mask = images.read_mask(file.mask)
    if mask.shape != (file.header.height, file.header.width):
      raise UserError(
        f'{file.mask} is {mask.shape[0]} x {mask.shape[1]} pixels but its image '
        f'{file.image.name} is {file.header.height} x {file.header.width}; make the sizes equal.'
      )
    # The first file with these values is kept, to be named in messages.
    file_of.setdefault(tuple(np.unique(mask).tolist()), file.mask)
    if counted < COUNTED_IDS:
      ids, connected_ids = count_connected_ids(mask)
      counted += ids
      connected += connected_ids
  return file_of, connected / max(counted, 1)
