"""Folders: which files are read, and how all else is said."""

import os
import unicodedata

import nibabel
import numpy as np
import pytest
from PIL import Image

from ssl_jax.data.masks import folder_notes
from ssl_jax.datasets import folder as own_images
from ssl_jax.datasets import nifti as own_volumes
from ssl_jax.errors import UserError
from ssl_jax.io import nifti
from ssl_jax.io.folders import file_names, listing


def _image(path, value=0):
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = np.full((16, 16), value, np.uint8)
  pixels[4:8, 4:8] = 200
  Image.fromarray(pixels).save(path)


def _mask(path):
  path.parent.mkdir(parents=True, exist_ok=True)
  mask = np.zeros((16, 16), np.uint8)
  mask[4:8, 4:8] = 1
  Image.fromarray(mask).save(path)


def _labeled(folder, count=4):
  for number in range(count):
    _image(folder / 'images' / f'c{number}.png', number)
    _mask(folder / 'masks' / f'c{number}.png')
  return folder


def test_list_images_sorts_and_ignores_hidden_and_other_files(tmp_path):
  for name in ('b.PNG', 'a.tif', '.hidden.png', 'notes.txt', 'c.Jpeg'):
    (tmp_path / name).touch()
  assert [p.name for p in listing.list_images(tmp_path)] == ['a.tif', 'b.PNG', 'c.Jpeg']
  with pytest.raises(UserError, match='does not exist; check the path'):
    listing.list_images(tmp_path / 'no')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(UserError, match=r'holds no images.*It is empty'):
    listing.list_images(tmp_path / 'empty')


def test_all_that_is_not_read_is_counted_in_one_line(tmp_path):
  names = 'a.png ._a.png .DS_Store Thumbs.db b.gif c.GIF d.heic e.czi f.svs g.npy h.zip i.dcm note'
  for name in names.split():
    (tmp_path / name).write_bytes(b'anything')
  (tmp_path / 'IM0001').write_bytes(bytes(128) + b'DICM')
  for name in ('folder.png', '__MACOSX'):
    (tmp_path / name).mkdir()
  (tmp_path / 'away.png').symlink_to('nowhere')
  (tmp_path / 'gone').symlink_to('nowhere')
  os.mkfifo(tmp_path / 'pipe.png')
  read = listing.read_folder(tmp_path, listing.IMAGES)
  assert [path.name for path in read.paths] == ['a.png']
  assert read.others == {
    'CZI': 1, 'DICOM': 2, 'GIF': 2, 'HEIC': 1, 'NPY': 1, 'SVS': 1, 'ZIP': 1, 'broken links': 1,
    'folders': 1, 'hidden or system files': 4, 'pipes or devices': 1, 'without an ending': 1,
  }  # fmt: skip
  assert '2 GIF, 1 HEIC' in read.note()
  assert '1 link to files that are not there (away.png)' in read.note()
  assert '\n' not in read.note()


def test_a_folder_without_images_says_what_it_holds(tmp_path):
  (tmp_path / 'a.gif').touch()
  (tmp_path / 'plate').mkdir()
  with pytest.raises(UserError, match=r'holds no images; put \.png.* It holds 1 GIF, 1 folder\b'):
    listing.list_images(tmp_path)


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
  (tmp_path / 'a.png').touch()
  with pytest.raises(UserError, match='is a file, not a folder'):
    listing.list_images(tmp_path / 'a.png')


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
  def refuse(path):
    raise PermissionError(13, 'Permission denied', str(path))

  monkeypatch.setattr(listing.os, 'scandir', refuse)
  with pytest.raises(UserError, match=r'cannot be read \(Permission denied\)'):
    listing.list_images(tmp_path)


@pytest.mark.parametrize('how', ['link', 'path', 'annex', 'lfs', 'icloud'])
def test_a_file_that_was_not_fetched_is_named(tmp_path, how):
  _image(tmp_path / 'a.png')
  path = tmp_path / 'b.png'
  if how == 'link':
    path.symlink_to('.git/annex/objects/b.png')
  elif how == 'path':
    path.write_text('../.git/annex/objects/b.png')
  elif how == 'annex':
    path.write_text('/annex/objects/MD5E-s874--0123.png\n')
  elif how == 'lfs':
    path.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:01\nsize 874\n')
  else:
    (tmp_path / '.b.png.icloud').write_bytes(b'bplist')
  with pytest.raises(UserError, match=r'b\.png.*not fetched.*datalad get'):
    listing.list_images(tmp_path)
  assert [p.name for p in listing.list_images(tmp_path, partial=True)] == ['a.png']
  (tmp_path / 'a.png').unlink()
  with pytest.raises(UserError, match='not fetched'):
    listing.list_images(tmp_path, partial=True)


def test_a_file_in_the_place_of_the_labeled_folder_is_named(tmp_path):
  _image(tmp_path / 'a.png')
  with pytest.raises(UserError, match=r'a\.png \(labeled\) is a file, not a folder'):
    own_images.load(labeled=tmp_path / 'a.png')


def test_volumes_in_upper_case_are_volumes(tmp_path):
  for name in ('a.nii', 'B.NII.GZ', 'c.Nii.gz', '._a.nii', 'd.nrrd'):
    (tmp_path / name).touch()
  paths = listing.list_volumes(tmp_path)
  assert sorted(nifti.name_of(path) for path in paths) == ['B', 'a', 'c']


def test_a_volume_in_upper_case_is_read(tmp_path):
  array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
  nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / 'a.nii.gz')
  (tmp_path / 'a.nii.gz').rename(tmp_path / 'A.NII.GZ')
  np.testing.assert_array_equal(nifti.read_volume(tmp_path / 'A.NII.GZ').voxels, array)


def test_names_are_text_of_one_form():
  composed = 'Blätter'
  assert file_names.normal(unicodedata.normalize('NFD', composed)) == composed
  assert file_names.normal(os.fsdecode(composed.encode('latin-1'))) == composed
  assert file_names.normal('plain name') == 'plain name'


def test_home_is_expanded(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  (tmp_path / 'in').mkdir()
  (tmp_path / 'in' / 'a.png').touch()
  assert listing.list_images('~/in') == [tmp_path / 'in' / 'a.png']


def test_the_loader_of_images_says_what_it_left_out(tmp_path):
  labeled = _labeled(tmp_path / 'labeled')
  (labeled / 'masks' / 'old.gif').touch()
  _image(tmp_path / 'unlabeled' / 'u0.png', 9)
  (tmp_path / 'unlabeled' / 'u1.png').symlink_to('nowhere')
  splits = own_images.load(labeled=labeled, unlabeled=tmp_path / 'unlabeled')
  assert len(splits.unlabeled) == 1
  assert f'not read in {labeled / "masks"}: 1 GIF' in splits.notes
  assert any('not there (u1.png)' in note for note in splits.notes)


def test_a_link_to_nowhere_among_labeled_images_is_refused(tmp_path):
  labeled = _labeled(tmp_path)
  (labeled / 'images' / 'c9.png').symlink_to('nowhere')
  with pytest.raises(UserError, match=r'c9\.png is a link to a file that is not there'):
    own_images.load(labeled=labeled)


def test_a_link_to_nowhere_among_volumes_is_refused_or_left_out(tmp_path):
  for number in range(3):
    for kind in ('images', 'masks'):
      (tmp_path / kind).mkdir(exist_ok=True)
      array = np.zeros((4, 4, 4), np.uint8)
      array[:2] = 1 + number * (kind == 'images')
      nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / kind / f'v{number}.nii.gz')
  (tmp_path / 'more').mkdir()
  nibabel.save(nibabel.Nifti1Image(array + 7, np.eye(4)), tmp_path / 'more' / 'w0.nii.gz')
  (tmp_path / 'more' / 'w1.nii.gz').symlink_to('nowhere')
  cache = tmp_path / 'cache'
  splits = own_volumes.load(labeled=tmp_path, unlabeled=tmp_path / 'more', cache=cache)
  assert len(splits.unlabeled) == 1
  assert any('w1.nii.gz' in note for note in splits.notes)
  (tmp_path / 'images' / 'v9.nii.gz').symlink_to('nowhere')
  with pytest.raises(UserError, match=r'v9\.nii\.gz is a link to a file that is not there'):
    own_volumes.load(labeled=tmp_path, cache=cache)


def test_resource_forks_beside_points_are_no_points(tmp_path):
  (tmp_path / 'images').mkdir()
  (tmp_path / 'points').mkdir()
  (tmp_path / 'points' / 'c0.CSV').write_text('x,y,class\n1,1,cell\n')
  (tmp_path / 'points' / '._c0.csv').write_bytes(b'\0\5\26\7')
  assert [p.name for p in listing.list_tables(tmp_path / 'points')] == ['c0.CSV']
  kinds = {'images': listing.IMAGES, 'points': listing.TABLES}
  assert folder_notes.left_out([tmp_path], None, kinds) == [
    f'not read in {tmp_path / "points"}: 1 hidden or system file'
  ]
