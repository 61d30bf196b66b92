"""NIfTI files in and out, whatever the order of their axes."""

import nibabel
import numpy as np
import pytest

from ssl_jax.errors import UserError
from ssl_jax.io import nifti

AFFINES = {
  'RAS': np.diag([1.0, 2.0, 3.0, 1.0]),
  'LPS': np.diag([-1.0, -2.0, 3.0, 1.0]),
  'ASR': np.array([[0, 0, 3.0, 5], [1.0, 0, 0, -7], [0, 2.0, 0, 9], [0, 0, 0, 1]]),
}


def _save(path, voxels, affine, dtype=np.int16):
  image = nibabel.Nifti1Image(voxels.astype(dtype), affine)
  image.header['descrip'] = b'of the scanner'
  nibabel.save(image, path)
  return image


@pytest.mark.parametrize('order', AFFINES)
def test_any_order_is_read_as_ras_and_written_as_it_was(tmp_path, order):
  voxels, affine = np.arange(24).reshape(2, 3, 4), AFFINES[order]
  _save(tmp_path / 'a.nii.gz', voxels, affine)
  volume = nifti.read_volume(tmp_path / 'a.nii.gz')
  assert nibabel.aff2axcodes(affine) == tuple(order)
  canonical = nibabel.as_closest_canonical(nibabel.load(tmp_path / 'a.nii.gz'))
  np.testing.assert_array_equal(volume.voxels, canonical.get_fdata())
  assert volume.spacing == pytest.approx(canonical.header.get_zooms())
  nifti.write_labels(tmp_path / 'b.nii.gz', volume.voxels.astype(np.uint8), volume.like)
  back = nibabel.load(tmp_path / 'b.nii.gz')
  np.testing.assert_array_equal(back.get_fdata(), voxels)
  np.testing.assert_array_equal(back.affine, affine)
  assert back.get_data_dtype() == np.uint8
  assert bytes(back.header['descrip']).startswith(b'of the scanner')
  assert back.header.get_zooms() == nibabel.load(tmp_path / 'a.nii.gz').header.get_zooms()


def test_scaled_values_are_read_and_masks_are_not_scaled(tmp_path):
  image = nibabel.Nifti1Image(np.full((2, 2, 2), 3, np.int16), np.eye(4))
  image.header.set_slope_inter(2.0, -10.0)
  nibabel.save(image, tmp_path / 'a.nii')
  volume = nifti.read_volume(tmp_path / 'a.nii')
  assert nifti.name_of(tmp_path / 'a.nii') == 'a'
  labels = np.full((2, 2, 2), 7, np.uint8)
  nifti.write_labels(tmp_path / 'b.nii.gz', labels, volume.like)
  ids, _ = nifti.read_labels(tmp_path / 'b.nii.gz')
  assert (ids == 7).all()


@pytest.mark.parametrize(
  ('make', 'says'),
  [
    (lambda p: p.write_bytes(b'nothing'), 'cannot be read as NIfTI'),
    (lambda p: _save(p, np.zeros((2, 2, 2, 3)), np.eye(4)), 'three axes'),
    (lambda p: _save(p, np.full((2, 2, 2), np.nan), np.eye(4), np.float32), 'not numbers'),
  ],
)
def test_what_is_no_volume_is_named(tmp_path, make, says):
  make(tmp_path / 'x.nii.gz')
  with pytest.raises(UserError, match=says) as error:
    nifti.read_volume(tmp_path / 'x.nii.gz')
  assert 'x.nii.gz' in str(error.value)


def test_a_file_cut_short_is_named(tmp_path):
  rng = np.random.default_rng(0)
  _save(tmp_path / 'x.nii.gz', rng.integers(0, 999, (20, 20, 20)), np.eye(4))
  whole = (tmp_path / 'x.nii.gz').read_bytes()
  (tmp_path / 'x.nii.gz').write_bytes(whole[: len(whole) // 2])
  with pytest.raises(UserError, match='cannot be read as NIfTI'):
    nifti.read_volume(tmp_path / 'x.nii.gz')


def test_labels_are_whole_numbers(tmp_path):
  _save(tmp_path / 'x.nii', np.full((2, 2, 2), 0.5), np.eye(4), np.float32)
  with pytest.raises(UserError, match='not class ids'):
    nifti.read_labels(tmp_path / 'x.nii')


@pytest.mark.parametrize('where', ['checksum', 'length', 'voxels', 'end'])
def test_a_damaged_file_is_never_read_in_silence(tmp_path, where):
  rng = np.random.default_rng(0)
  array = rng.integers(0, 999, (20, 20, 20)).astype(np.int16)
  path = tmp_path / 'a.nii.gz'
  nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
  data = bytearray(path.read_bytes())
  place = {'checksum': -8, 'length': -4, 'voxels': len(data) // 2, 'end': -1}[where]
  data[place] ^= 8
  path.write_bytes(data[:-3] if where == 'end' else data)
  for read in (nifti.read_volume, nifti.read_labels):
    with pytest.raises(UserError, match=r'a\.nii\.gz cannot be read as NIfTI'):
      read(path)


def test_a_name_without_room_for_outputs_is_found_early(tmp_path):
  assert nifti.name_of(tmp_path / ('n' * 248 + '.nii')) == 'n' * 248
  with pytest.raises(UserError, match='more than 255 bytes; give it a shorter name'):
    nifti.name_of(tmp_path / ('n' * 250 + '.nii'))


def test_complex_numbers_and_wrong_endings_are_named(tmp_path):
  """Their imaginary part would be left out in silence."""
  image = nibabel.Nifti1Image(np.ones((2, 3, 4), np.complex64) * 1j, np.eye(4))
  nibabel.save(image, tmp_path / 'c.nii')
  with pytest.raises(UserError, match=r'c\.nii holds complex numbers; save their magnitude'):
    nifti.read_volume(tmp_path / 'c.nii')
  (tmp_path / 'p.nii.gz').write_bytes((tmp_path / 'c.nii').read_bytes())
  with pytest.raises(UserError, match=r'its content is not gzipped; call it p\.nii if'):
    nifti.read_volume(tmp_path / 'p.nii.gz')
