"""Which files are for the test: a fraction drawn, and no copy of one in training."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from ssl_jax.data.image_mask_pairs import ImageFile
from ssl_jax.data.volume_source import Case
from ssl_jax.errors import UserError

File = TypeVar('File', ImageFile, Case)


def drop_copies(roles: dict[str, list[File]]) -> list[str]:
  """Removes copies of test images from val, and of both from training; returns notes on them.

  Copies are equal byte for byte.

  Raises:
    UserError: if no labeled image is left.
  """
  notes = []
  # The test keeps its images and training loses its copies. val comes first, so that training is
  # compared with what is left of it.
  held_out = {'val': ['test'], 'labeled': ['test', 'val'], 'unlabeled': ['test', 'val']}
  for role, others in held_out.items():
    # Content, not names: copies often have other names.
    hashes = {file.sha256 for other in others for file in roles[other]}
    copies = [file for file in roles[role] if file.sha256 in hashes]
    if copies:
      roles[role] = [file for file in roles[role] if file.sha256 not in hashes]
      notes.append(
        f'dropped from {role}, being copies of {" or ".join(others)} images: {join_names(copies)}'
      )
  if not roles['labeled']:
    raise UserError('Every labeled image is a copy of a test or val image; add labeled images.')
  return notes


class HeldOut(NamedTuple):
  """Files split into those to learn from and those for the test."""

  kept: list[ImageFile]
  test: list[ImageFile]
  note: str


def hold_out(files: Sequence[ImageFile], test_fraction: float | int, seed: int) -> HeldOut:
  """Sets a fraction of the files, drawn by `seed`, aside for the test.

  Raises:
    UserError: if the fraction is outside 0..1 or there is only one file.
  """
  if not 0 <= test_fraction < 1:
    raise UserError(
      f'data.test_fraction={test_fraction} must be at least 0 and below 1, a fraction of the '
      'images.'
    )
  if test_fraction == 0:
    return HeldOut([*files], [], 'no test images: none were held out (test_fraction=0)')
  if len(files) < 2:
    raise UserError(
      f'{files[0].image.parent} holds one labeled image, too few to set any aside for the test; '
      'add labeled images, give a test folder, or set data.test_fraction=0.'
    )
  # At least one image on either side.
  count = min(max(1, round(test_fraction * len(files))), len(files) - 1)
  # A set of indices: both parts keep the order of `files`, so only membership is random.
  chosen = set(np.random.default_rng(seed).permutation(len(files))[:count].tolist())
  test = [file for i, file in enumerate(files) if i in chosen]
  kept = [file for i, file in enumerate(files) if i not in chosen]
  note = (
    f'no test folder: {count} of {len(files)} labeled images held out as test ({join_names(test)})'
  )
  return HeldOut(kept, test, note)


def join_names(files: Sequence[ImageFile | Case]) -> str:
  """Returns the names of files for a message; at most ten."""
  more = f' and {len(files) - 10} more' if len(files) > 10 else ''
  return ', '.join(file.name for file in files[:10]) + more
