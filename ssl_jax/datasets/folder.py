"""Your own images: a folder with images/ and masks/ in it, and a folder of unlabeled images."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ssl_jax.data import image_source
from ssl_jax.data.image_mask_pairs import ImageFile, list_pairs, list_unlabeled, size_hint
from ssl_jax.data.mask_encoding import find_encoding
from ssl_jax.data.masks import folder_notes, instance_masks
from ssl_jax.data.masks import orientation as orientations
from ssl_jax.data.masks.mask_facts import MaskFacts, read_facts
from ssl_jax.data.selection import held_out
from ssl_jax.data.selection.groups import group_reader, grouped_names_note
from ssl_jax.errors import UserError
from ssl_jax.io.folders import listing
from ssl_jax.types import Draw, Splits


def load(
  *,
  labeled: str | Path,
  unlabeled: str | Path | None = None,
  val: str | Path | None = None,
  test: str | Path | None = None,
  classes: int | Sequence[str] | None = None,
  values: str | Mapping[Any, Any] | None = None,
  num_labeled: float | int | None = None,
  test_fraction: float | int = 0.25,
  seed: int = 0,
  draw: int = 0,
  group: str = '',
  percentiles: Sequence[float | int] = (0.1, 99.9),
  orientation: str = 'auto',
  instances: bool = False,
  min_size: int | None = None,
) -> Splits:
  """Loads your own images.

  Training images that are, byte for byte, in val or test are dropped, and those of a group that is.

  Args:
    labeled: a folder with images/ and masks/ in it.
    unlabeled: a folder of images only.
    val: as `labeled`.
    test: as `labeled`; None: `test_fraction` of the labeled images are the test.
    classes: a number or names, the background first; needed only if the masks leave it open.
    values: class ids (or names) of the values or colors of masks, as in '205:1, 420:2' or
      '#ff0000:1, #00ff00:2'; 255 means ignore; needed only if the masks leave it open.
    num_labeled: how many of the labeled images (with `group`, of the groups) are learned from, or
      below 1 which fraction of them; None: all. The others become unlabeled.
    test_fraction: of the labeled images, set aside for the test where there is no folder for it;
      0: no test.
    seed: of the draws of these.
    draw: number of the repetition; without a test folder repetitions are a cross-validation.
    group: regular expression whose first group, or match, in a file's name is the patient (animal,
      slide, movie), or a CSV file (name, group), so that no patient is in training and test;
      empty: images are independent.
    percentiles: of the raw values of training images deeper than 8 bits; they become 0 and 1.
    orientation: how masks without an orientation tag lie on images with one: 'tag' (on the image as
      viewers show it), 'stored' (on the pixels as stored), or 'auto' (as their sizes show).
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
  files, turned = orientations.settle(files, orientation)
  kinds = {'images': listing.IMAGES, 'masks': listing.IMAGES}
  notes = [*folder_notes.left_out((labeled, val, test), unlabeled, kinds), *turned]
  # Masks of instances become classes of their own, and need no encoding.
  encoding = masks = None
  if instances:
    masks = instance_masks.look_through_images(
      chain.from_iterable(files.values()), classes, values=values
    )
    notes += masks.notes
  else:
    # The encoding is found over all masks, also of the test: one mask may hold few values.
    encoding = find_encoding(_mask_facts(files), classes, values)
    notes += encoding.notes
  if not group and (note := grouped_names_note([file.name for file in files['labeled']])):
    notes.append(note)
  drawn = Draw(groups=_groups(files['test'], group))
  if not test:
    parts = held_out.hold_out(files['labeled'], test_fraction, seed, draw, group)
    files['labeled'] = parts.kept
    files['test'] = parts.test
    notes.append(parts.note)
    drawn = parts.draw
  if num_labeled is not None:
    fewer = held_out.use_fewer(files, num_labeled, seed, draw, group)
    notes.append(fewer.note)
    if not drawn.own_test:
      drawn = drawn._replace(overlap=fewer.overlap)
  # After the draw, because copies of images that were just held out must leave training, too.
  notes += held_out.drop_groups(files, group)
  notes += held_out.drop_copies(files)
  if masks is not None:
    return instance_masks.make_splits(files, masks, percentiles, notes, min_size, drawn)
  assert encoding is not None

  # One encoding for all splits, so that a value means the same in each.
  sources = image_source.make_sources(files, encoding.read, percentiles)
  return image_source.make_splits(sources, encoding.classes, notes)._replace(draw=drawn)


def _groups(files: Sequence[ImageFile], group: str) -> dict[str, str]:
  """The groups of test images that were given, by name."""
  read_group = group_reader(group)
  return {file.name: read_group(file.name) for file in files}


def _mask_facts(files: Mapping[str, Sequence[ImageFile]]) -> list[MaskFacts]:
  """Reads every mask once and checks its size."""
  facts = []
  # Unlabeled images have no mask and are skipped.
  for file in (file for of_role in files.values() for file in of_role):
    if file.mask is None:
      continue
    mask = read_facts(file.mask)
    size = (file.header.height, file.header.width)
    if file.upright_shape(mask.shape) != size:
      raise UserError(
        f'{file.mask} is {mask.shape[0]} x {mask.shape[1]} pixels but its image {file.image.name} '
        f'is {size[0]} x {size[1]}{size_hint(size, mask.shape)}; make the sizes equal.'
      )
    facts.append(mask)
  return facts
