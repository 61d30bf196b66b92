"""Images set aside for the test, and copies of test images that must not be learned from."""

import numpy as np
import pytest
from PIL import Image

from ssl_jax.data.image_mask_pairs import list_unlabeled
from ssl_jax.data.selection import held_out
from ssl_jax.errors import UserError


@pytest.fixture
def files(tmp_path):
  for number in range(10):
    Image.fromarray(np.full((4, 4), number, np.uint8)).save(tmp_path / f'{number}.png')
  return list_unlabeled(tmp_path)


def test_a_fraction_is_drawn_by_the_seed_and_keeps_the_order(files):
  split = held_out.hold_out(files, 0.3, seed=0)
  assert len(split.test) == 3
  assert sorted(split.kept + split.test, key=lambda file: file.name) == files
  assert [f.name for f in split.kept] == sorted(f.name for f in split.kept)
  assert split == held_out.hold_out(files, 0.3, seed=0)
  assert split.test != held_out.hold_out(files, 0.3, seed=1).test
  assert '3 of 10 labeled images held out as test' in split.note


@pytest.mark.parametrize(('fraction', 'count'), [(0, 0), (0.01, 1), (0.99, 9)])
def test_neither_side_is_empty_unless_no_test_is_wanted(files, fraction, count):
  assert len(held_out.hold_out(files, fraction, seed=0).test) == count


def test_what_cannot_be_split_is_refused(files):
  with pytest.raises(UserError, match=r'test_fraction=1 must be at least 0 and below 1'):
    held_out.hold_out(files, 1, seed=0)
  with pytest.raises(UserError, match='holds one labeled image, too few'):
    held_out.hold_out(files[:1], 0.25, seed=0)


@pytest.fixture
def write(tmp_path):
  """A function that writes files NAME=GRAY into a folder and lists them; equal grays are copies."""

  def written(role, **grays):
    (tmp_path / role).mkdir()
    for name, gray in grays.items():
      Image.fromarray(np.full((4, 4), gray, np.uint8)).save(tmp_path / role / f'{name}.png')
    return list_unlabeled(tmp_path / role)

  return written


def test_copies_leave_training_first_and_the_test_never(write):
  roles = {
    'labeled': write('labeled', a=1, b=2, c=3),
    'unlabeled': write('unlabeled', d=1, e=4),
    'val': write('val', f=2, g=5),
    'test': write('test', h=1, i=5),
  }
  notes = held_out.drop_copies(roles)
  names = {role: [file.name for file in files] for role, files in roles.items()}
  assert names == {'labeled': ['c'], 'unlabeled': ['e'], 'val': ['f'], 'test': ['h', 'i']}
  assert len(notes) == 3


def test_a_training_set_of_copies_alone_is_refused(write):
  roles = {
    'labeled': write('labeled', a=1),
    'unlabeled': [],
    'val': [],
    'test': write('test', b=1),
  }
  with pytest.raises(UserError, match='Every labeled image is a copy'):
    held_out.drop_copies(roles)
