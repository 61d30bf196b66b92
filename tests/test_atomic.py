"""Writes that a kill, an error or a full disk cannot leave half done."""

import errno
import os

import pytest

from ssl_jax.io import atomic


@pytest.mark.parametrize('name', ['n' * 255, 'n' * 248 + '.nii.gz', 'a.' + 'n' * 253, 'é' * 127])
def test_a_name_may_be_as_long_as_the_disk_allows(tmp_path, name):
  with atomic.replacing(tmp_path / name) as temporary:
    assert len(os.fsencode(temporary.name)) <= 255
    temporary.write_text('new')
  assert (tmp_path / name).read_text() == 'new'
  assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(
  ('name', 'ending'), [('a.png', '.png'), ('A.NII.GZ', '.NII.GZ'), ('b', ''), ('v1.2.csv', '.csv')]
)
def test_the_temporary_name_has_the_ending_by_which_writers_go(tmp_path, name, ending):
  with atomic.replacing(tmp_path / name) as temporary:
    temporary.touch()
    assert temporary.name[13:] == ending


def test_a_name_that_is_no_text_is_kept(tmp_path):
  name = os.fsdecode('Blätter.png'.encode('latin-1'))
  with atomic.replacing(tmp_path / name) as temporary:
    temporary.touch()
  assert os.listdir(os.fsencode(tmp_path)) == ['Blätter.png'.encode('latin-1')]


def test_an_error_names_the_file_and_leaves_the_old_one(tmp_path):
  path = tmp_path / 'a.json'
  path.write_text('old')

  def write_until_full():
    with atomic.replacing(path) as temporary:
      temporary.write_text('ne')
      raise OSError(errno.ENOSPC, 'No space left on device')

  with pytest.raises(OSError, match=r'a\.json') as caught:
    write_until_full()
  assert caught.value.filename == str(path)
  assert path.read_text() == 'old'
  assert os.listdir(tmp_path) == ['a.json']
