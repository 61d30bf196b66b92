"""Which files are for the test: a fraction drawn, and no copy of one in training."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from ssl_jax.data.image_mask_pairs import ImageFile
from ssl_jax.data.selection import draws, groups
from ssl_jax.data.volume_source import Case
from ssl_jax.errors import UserError
from ssl_jax.types import Draw

File = TypeVar('File', ImageFile, Case)


HELD_OUT = {'val': ['test'], 'labeled': ['test', 'val'], 'unlabeled': ['test', 'val']}
"""Roles that lose images which others have: the test keeps its images and training loses them. val
comes first, so that training is compared with what is left of it."""


def drop_copies(roles: dict[str, list[File]]) -> list[str]:
  """Removes copies of test images from val, and of both from training; returns notes on them.

  Copies are equal byte for byte.

  Raises:
    UserError: if no labeled image is left.
  """
  # Content, not names: copies often have other names.
  notes = _drop(roles, lambda role, file: file.sha256, 'dropped from {}, being copies of {} images')
  if not roles['labeled']:
    raise UserError('Every labeled image is a copy of a test or val image; add labeled images.')
  return notes


def drop_groups(roles: dict[str, list[File]], group: str) -> list[str]:
  """Removes images of groups of the test from val, and of both from training; returns notes.

  Args:
    roles: files of 'labeled', 'unlabeled', 'val' and 'test'; they are changed.
    group: see groups.group_reader; an unlabeled image may have none.

  Raises:
    UserError: if the group of an image with a mask is not known, or no labeled image is left.
  """
  if not group:
    return []
  read_group = groups.group_reader(group)

  def group_of(role: str, file: File) -> str | None:
    try:
      return read_group(file.name)
    except UserError:
      if role == 'unlabeled':
        return None
      raise

  notes = _drop(roles, group_of, 'left out of {}, being of groups (data.group) of {} images')
  if not roles['labeled']:
    raise UserError(
      f'data.group={group!r} puts every labeled image into a group of test or val images; add '
      'labeled images of other groups.'
    )
  return notes


def _drop(
  roles: dict[str, list[File]], key_of: Callable[[str, File], str | None], why: str
) -> list[str]:
  """Removes files of a key that a role of HELD_OUT has as well; returns notes on them."""
  notes = []
  for role, others in HELD_OUT.items():
    taken = {key_of(other, file) for other in others for file in roles[other]}
    of_role = [(file, key_of(role, file)) for file in roles[role]]
    dropped = [file for file, key in of_role if key in taken]
    if dropped:
      roles[role] = [file for file, key in of_role if key not in taken]
      notes.append(f'{why.format(role, " or ".join(others))}: {join_names(dropped)}')
  return notes


class HeldOut(NamedTuple):
  """Files split into those to learn from and those for the test."""

  kept: list[ImageFile]
  test: list[ImageFile]
  note: str
  draw: Draw = Draw()


def hold_out(
  files: Sequence[ImageFile], test_fraction: float | int, seed: int, draw: int = 0, group: str = ''
) -> HeldOut:
  """Sets a fraction of the files aside for the test.

  Args:
    files: all labeled ones.
    test_fraction: about as many are held out.
    seed: of the draws.
    draw: number of the repetition; see draws.fold_of_draw.
    group: see groups.group_reader; groups are held out whole.

  Raises:
    UserError: if the fraction is outside 0..1, or there is only one file or group.
  """
  if not 0 <= test_fraction < 1:
    raise UserError(
      f'data.test_fraction={test_fraction} must be at least 0 and below 1, a fraction of the '
      'images.'
    )
  if test_fraction == 0:
    return HeldOut(
      [*files],
      [],
      f'all {len(files)} labeled images are learned from, none held out (test_fraction=0)',
    )
  if len(files) < 2:
    raise UserError(
      f'{files[0].image.parent} holds one labeled image, too few to set any aside for the test; '
      'add labeled images, or give a test folder (data.test).'
    )
  read_group = groups.group_reader(group)
  group_of = {file.name: read_group(file.name) for file in files}
  # In the order of the files, whatever their groups are called.
  names_of_groups = list(dict.fromkeys(group_of.values()))
  if len(names_of_groups) < 2:
    raise UserError(
      f'data.group={group!r} puts all labeled images into one group ({names_of_groups[0]}), so '
      'none can be held out for the test; give a test folder (data.test).'
    )
  count = len(names_of_groups)
  chosen = {names_of_groups[i] for i in draws.fold_of_draw(count, test_fraction, seed, draw)}
  # Both parts keep the order of `files`, so only membership is random.
  test = [file for file in files if group_of[file.name] in chosen]
  kept = [file for file in files if group_of[file.name] not in chosen]
  of_groups = f' of {len(chosen)} groups' if group else ''
  note = (
    f'no test folder: {len(test)} of {len(files)} labeled images{of_groups} held out as test '
    f'(draw {draw}: {join_names(test)})'
  )
  names = [file.name for file in test]
  drawn = draws.folds_draw(names_of_groups, [group_of[name] for name in names], names)
  return HeldOut(kept, test, note, drawn)


class Fewer(NamedTuple):
  """What became of labeled files of which only some are learned from."""

  note: str
  overlap: float | None  # of types.Draw


def use_fewer(
  roles: dict[str, list[ImageFile]],
  num_labeled: float | int,
  seed: int,
  draw: int = 0,
  group: str = '',
) -> Fewer:
  """Moves all but some of the labeled files, without their masks, to the unlabeled ones.

  The files of a smaller number are among those of a larger one.

  Args:
    roles: files by role; they are changed.
    num_labeled: files, or groups, that stay; see draws.labeled_count.
    seed: of the draws.
    draw: number of the repetition.
    group: see groups.group_reader.

  Raises:
    UserError: if there are not so many.
  """
  files = roles['labeled']
  read_group = groups.group_reader(group)
  names = list(dict.fromkeys(read_group(file.name) for file in files))
  count = draws.labeled_count(num_labeled, len(names), 'groups' if group else 'images')
  kept = {names[i] for i in draws.draw_order(len(names), seed, draw)[:count]}
  roles['labeled'] = [file for file in files if read_group(file.name) in kept]
  hidden = [file for file in files if read_group(file.name) not in kept]
  roles['unlabeled'] = [*(file._replace(mask=None) for file in hidden), *roles['unlabeled']]
  note = (
    f'{len(roles["labeled"])} of {len(files)} labeled images are learned from, the others count as '
    f'unlabeled (data.num_labeled={num_labeled:g}, draw {draw})'
  )
  return Fewer(note, draws.pool_overlap(count, len(names)))


def join_names(files: Sequence[ImageFile | Case]) -> str:
  """Returns the names of files for a message; at most ten."""
  more = f' and {len(files) - 10} more' if len(files) > 10 else ''
  return ', '.join(file.name for file in files[:10]) + more
