"""Where voxels lie: units, headers that contradict themselves, and masks beside their images."""

import gzip
import struct

import nibabel
import numpy as np
import pytest

from ssl_jax.errors import UserError
from ssl_jax.io import nifti
from ssl_jax.io.formats import nifti_geometry

SHAPE = (6, 5, 4)
ISOTROPIC = np.diag([1.0, 1.0, 1.0, 1.0])


def _save(path, affine=ISOTROPIC, array=None, unit=None, header=(), shape=SHAPE):
  """Writes a volume; `header` are (offset, format, value) of bytes that are overwritten."""
  array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape) if array is None else array
  image = nibabel.Nifti1Image(array, affine)
  if unit is not None:
    image.header.set_xyzt_units(unit)
  nibabel.save(image, path)
  content = bytearray(path.read_bytes())
  for offset, form, value in header:
    struct.pack_into(form, content, offset, value)
  path.write_bytes(content)
  return path


PIXDIM, QFORM_CODE, SFORM_CODE, UNITS = 80, 252, 254, 123


@pytest.mark.parametrize(
  ('unit', 'millimeters', 'says'),
  [
    ('mm', 4.0, ()),
    (None, 4.0, ()),
    ('micron', 0.004, ('in micrometers and were converted',)),
    ('meter', 4000.0, ('in meters and were converted',)),
  ],
)
def test_lengths_are_in_millimeters_whatever_the_unit(tmp_path, unit, millimeters, says):
  path = _save(tmp_path / 'a.nii', np.diag([4.0, 4.0, 8.0, 1.0]), unit=unit)
  geometry = nifti_geometry.geometry_of(path)
  assert geometry.spacing == pytest.approx((millimeters, millimeters, 2 * millimeters))
  assert nifti.read_volume(path).spacing == geometry.spacing
  assert len(geometry.notes) == len(says)
  for note, part in zip(geometry.notes, says, strict=True):
    assert part in note


def test_an_unknown_unit_is_said(tmp_path):
  geometry = nifti_geometry.geometry_of(_save(tmp_path / 'a.nii', header=[(UNITS, '<B', 5)]))
  assert geometry.notes == (
    'the header has an unknown unit of length (code 5), taken as millimeters',
  )
  assert geometry.spacing == (1, 1, 1)


@pytest.mark.parametrize('length', [0.0, float('nan')])
def test_a_header_without_lengths_is_refused(tmp_path, length):
  """NIfTI readers would take 0 for 1."""
  header = [(PIXDIM, '<f', length), (SFORM_CODE, '<h', 0), (QFORM_CODE, '<h', 1)]
  path = _save(tmp_path / 'a.nii', header=header)
  with pytest.raises(UserError, match=r'a.nii does not say how large its voxels are \(pixdim is '):
    nifti_geometry.geometry_of(path)
  with pytest.raises(UserError, match='does not say how large'):
    nifti.read_volume(path)


def test_a_flat_affine_is_refused(tmp_path):
  path = _save(tmp_path / 'a.nii', header=[(280, '<f', 0.0)])
  with pytest.raises(UserError, match='does not say how large'):
    nifti_geometry.geometry_of(path)


def test_two_sizes_in_one_header_are_said(tmp_path):
  path = _save(tmp_path / 'a.nii', np.diag([0.5, 0.5, 2.0, 1]), header=[(PIXDIM, '<f', 1.0)])
  geometry = nifti_geometry.geometry_of(path)
  assert geometry.spacing == pytest.approx((0.5, 0.5, 2.0))
  assert geometry.notes == (
    'the header has two sizes of a voxel: pixdim 1 x 0.5 x 2, sform 0.5 x 0.5 x 2 (taken)',
  )


def test_forms_that_disagree_are_said(tmp_path):
  image = nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), ISOTROPIC)
  moved = ISOTROPIC.copy()
  moved[0, 3] = 3
  image.set_qform(moved, 1)
  nibabel.save(image, tmp_path / 'a.nii')
  assert nifti_geometry.geometry_of(tmp_path / 'a.nii').notes == (
    'sform and qform of the header differ by 3 voxels; sform was taken',
  )


def test_axes_that_are_not_at_right_angles_are_said(tmp_path):
  sheared = ISOTROPIC.copy()
  sheared[1, 2] = 0.3  # a tilted gantry
  (note,) = nifti_geometry.geometry_of(_save(tmp_path / 'a.nii', sheared)).notes
  assert 'not at right angles' in note
  turned = ISOTROPIC.copy()
  angle = np.radians(20)
  turned[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
  assert nifti_geometry.geometry_of(_save(tmp_path / 'b.nii', turned)).notes == ()


def test_a_single_slice_has_three_axes(tmp_path):
  path = _save(tmp_path / 'a.nii', shape=(6, 5, 1))
  geometry = nifti_geometry.geometry_of(path)
  assert geometry.shape == (6, 5, 1)
  thick = nifti_geometry.in_ras(geometry).copy()
  thick[2, 2] = 3
  # Its thickness is seen, although no second slice is there to lie elsewhere.
  assert nifti_geometry.voxels_apart(nifti_geometry.in_ras(geometry), thick, (6, 5, 1)) == 1


def _on_grid(mask, image, **kwargs):
  ids, volume = nifti.read_labels(mask)
  like = nifti_geometry.load_header(image)
  return nifti_geometry.on_grid_of(ids, (volume.like, mask), (like, image), **kwargs)


def _ids():
  ids = np.zeros(SHAPE, np.uint8)
  ids[0, 1, 2] = 1
  return ids


@pytest.mark.parametrize('code', ['LPS', 'ASR', 'RAS'])
def test_a_mask_in_another_order_of_axes_fits_its_image(tmp_path, code):
  """Both headers say where their voxels lie, and it is the same place."""
  affine = np.diag([1.0, 2.0, 3.0, 1.0])
  affine[:3, 3] = 5, -7, 9
  image = _save(tmp_path / 'image.nii', affine)
  mask = nibabel.Nifti1Image(_ids(), affine)
  wanted = nibabel.orientations.axcodes2ornt(code)
  nibabel.save(mask.as_reoriented(wanted), tmp_path / 'mask.nii')
  assert nibabel.aff2axcodes(nibabel.load(tmp_path / 'mask.nii').affine) != ('L', 'A', 'S')
  np.testing.assert_array_equal(_on_grid(tmp_path / 'mask.nii', image), _ids())


def test_a_mirrored_mask_is_refused_and_may_be_taken_as_it_is_stored(tmp_path):
  image = _save(tmp_path / 'image.nii', np.diag([2.0, 2.0, 2.0, 1.0]))
  # The same array; the header was written for another program.
  mask = _save(tmp_path / 'mask.nii', np.diag([-2.0, -2.0, 2.0, 1.0]), _ids())
  with pytest.raises(UserError) as error:
    _on_grid(mask, image)
  sentence = str(error.value)
  assert 'mask.nii does not lie where image.nii does' in sentence
  assert 'up to 5 voxels apart (allowed: 0.25)' in sentence
  assert 'The mask begins at (-10, -8, 0) mm with voxels of 2 x 2 x 2 mm' in sentence
  # As it advises.
  assert 'data.ignore_affine=True' in sentence
  np.testing.assert_array_equal(_on_grid(mask, image, ignore_affine=True), _ids())


@pytest.mark.parametrize(
  ('damage', 'says'),
  [
    (
      lambda raw: raw[:70] + bytes([1, 0]) + raw[72:],
      'a.nii.gz cannot be read as NIfTI .*data code',
    ),
    # Readers would take the header for voxels.
    (
      lambda raw: raw[:108] + struct.pack('<f', 0) + raw[112:],
      'a.nii.gz cannot be read as NIfTI .its vox_offset is 0, within the header of 348',
    ),
    (lambda raw: b'<html>', 'a.nii.gz cannot be read as NIfTI .*get the file again'),
  ],
)
def test_a_broken_header_is_one_sentence(tmp_path, damage, says):
  raw = _save(tmp_path / 'b.nii').read_bytes()
  (tmp_path / 'a.nii.gz').write_bytes(gzip.compress(damage(raw)))
  with pytest.raises(UserError, match=says):
    nifti_geometry.geometry_of(tmp_path / 'a.nii.gz')


def test_damaged_bytes_of_a_packed_header_are_one_sentence(tmp_path):
  data = bytearray(gzip.compress(_save(tmp_path / 'b.nii').read_bytes()))
  path = tmp_path / 'a.nii.gz'
  sentences = []
  for place in range(len(data)):
    broken = data.copy()
    broken[place] ^= 16
    path.write_bytes(broken)
    try:
      nifti_geometry.geometry_of(path)
    except UserError as error:
      sentences.append(str(error))
  assert len(sentences) > 10
  assert all(str(path) in sentence for sentence in sentences)


@pytest.mark.parametrize('millimeters', [0.001, 1.0, 1000.0])
def test_the_tolerance_is_a_share_of_a_voxel(tmp_path, millimeters):
  def affine(shift):
    moved = np.diag([millimeters] * 3 + [1.0])
    moved[2, 3] = shift * millimeters
    return moved

  image = _save(tmp_path / 'image.nii', affine(0))
  near = _save(tmp_path / 'near.nii', affine(0.1), _ids())
  far = _save(tmp_path / 'far.nii', affine(0.5), _ids())
  _on_grid(near, image)
  with pytest.raises(UserError, match=r'up to 0\.5 voxels apart'):
    _on_grid(far, image)


def test_a_mask_without_a_unit_has_that_of_its_image(tmp_path):
  image = _save(tmp_path / 'image.nii', 4 * ISOTROPIC, unit='micron')
  _on_grid(_save(tmp_path / 'mask.nii', 4 * ISOTROPIC, _ids()), image)
  with pytest.raises(UserError, match=r'voxels of 4 x 4 x 4 mm, the image .* of 0\.004 x'):
    _on_grid(_save(tmp_path / 'other.nii', 4 * ISOTROPIC, _ids(), unit='mm'), image)


def test_a_mask_that_lacks_a_slice_is_refused(tmp_path):
  image = _save(tmp_path / 'image.nii')
  mask = _save(tmp_path / 'mask.nii', array=_ids()[..., 1:])
  for ignore_affine in (False, True):
    with pytest.raises(UserError, match=r'\(6, 5, 3\) voxels but image.nii has \(6, 5, 4\)'):
      _on_grid(mask, image, ignore_affine=ignore_affine)
