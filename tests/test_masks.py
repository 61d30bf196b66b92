"""Mask files as the numbers that they store, whatever their tags say of how to show them."""

import struct
import zlib

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from ssl_jax.errors import UserError
from ssl_jax.io import masks

IDS = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
RGB = np.array([[[0, 0, 0], [255, 0, 0]], [[0, 255, 0], [0, 0, 0]]], np.uint8)


def save(path, array, **options):
  if path.name.endswith('.tif'):
    tifffile.imwrite(path, array, **options)
  elif '.nii' in path.name:
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
  else:
    Image.fromarray(array).save(path)
  return path


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'int16', 'int32', 'uint32', 'float32'])
def test_a_tiff_keeps_its_numbers(tmp_path, dtype):
  ids = np.array([[0, 1, 2], [2, 100, 0]]).astype(dtype)
  for options in ({}, dict(byteorder='>')):
    path = save(tmp_path / 'a.tif', ids, **options)
    np.testing.assert_array_equal(masks.read_mask(path), ids)


@pytest.mark.parametrize(
  'dtype', ['uint8', 'int8', 'int16', 'uint16', 'int32', 'int64', 'float32', 'float64', '>i2']
)
def test_a_volume_keeps_its_numbers(tmp_path, dtype):
  ids = np.arange(24).reshape(2, 3, 4).astype(dtype)
  image = nibabel.Nifti1Image(ids, np.diag([-1.0, 1, 2, 1]), dtype=ids.dtype)
  nibabel.save(image, tmp_path / 'a.nii.gz')
  stored = masks.read_stored(tmp_path / 'a.nii.gz')
  # To the right, to the front, up: as volumes are read.
  np.testing.assert_array_equal(stored.values, ids[::-1])
  np.testing.assert_array_equal(stored.like.affine, image.affine)


def test_bigger_numbers_than_a_float_holds_are_exact(tmp_path):
  ids = np.array([[[16777217, 0]]], np.int32)
  np.testing.assert_array_equal(masks.read_mask(save(tmp_path / 'a.nii', ids)), ids)


def test_true_is_one_whatever_the_photometric_tag_says(tmp_path):
  """Booleans are written as 'white is zero' by tifffile, which viewers invert."""
  mask = np.array([[True, False, False]])
  stored = masks.read_stored(save(tmp_path / 'a.tif', mask))
  np.testing.assert_array_equal(stored.values, [[1, 0, 0]])
  assert stored.bits == 1
  assert 'white is zero' in stored.notes[0]
  gray = save(tmp_path / 'b.tif', IDS, photometric='miniswhite')
  np.testing.assert_array_equal(masks.read_mask(gray), IDS)
  plain = masks.read_stored(save(tmp_path / 'c.tif', mask, photometric='minisblack'))
  np.testing.assert_array_equal(plain.values, [[1, 0, 0]])
  assert not plain.notes
  png = save(tmp_path / 'd.png', mask)
  np.testing.assert_array_equal(masks.read_mask(png), [[1, 0, 0]])


def test_a_palette_changes_no_number(tmp_path):
  """An inverting look-up table shows 0 as white and 1 as black."""
  table = np.zeros((3, 256), np.uint16)
  table[:, 0] = 65535
  path = save(tmp_path / 'a.tif', IDS, photometric='palette', colormap=table)
  stored = masks.read_stored(path)
  np.testing.assert_array_equal(stored.values, IDS)
  assert 'indices' in stored.notes[0]
  picture = Image.fromarray(IDS).convert('P')
  picture.putpalette([255, 255, 255, 10, 20, 30, 0, 0, 0])
  picture.save(tmp_path / 'p.png')
  stored = masks.read_stored(tmp_path / 'p.png')
  np.testing.assert_array_equal(stored.values, IDS)
  assert masks.color_text(int(stored.colors()[0, 1])) == '#0a141e'


def test_two_bit_gray_masks_are_not_spread(tmp_path):
  def chunk(kind, data):
    body = kind + data
    return struct.pack('>I', len(data)) + body + struct.pack('>I', zlib.crc32(body))

  rows = b'\0' + bytes([0b00011011])  # 0, 1, 2, 3
  png = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 4, 1, 2, 0, 0, 0, 0))
  (tmp_path / 'm.png').write_bytes(png + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))
  np.testing.assert_array_equal(masks.read_mask(tmp_path / 'm.png'), [[0, 1, 2, 3]])


def test_equal_channels_are_one_and_alpha_is_left_out(tmp_path):
  gray = np.repeat(IDS[..., None], 3, -1)
  for name in ('a.png', 'a.bmp', 'a.tif'):
    np.testing.assert_array_equal(masks.read_mask(save(tmp_path / name, gray)), IDS)
  opaque = np.dstack([gray, np.full(IDS.shape, 255, np.uint8)])
  stored = masks.read_stored(save(tmp_path / 'b.png', opaque))
  np.testing.assert_array_equal(stored.values, IDS)
  assert 'alpha' in stored.notes[0]
  shapes = np.dstack([np.zeros_like(gray), IDS * 100])
  with pytest.raises(UserError, match=r'c\.png has one color everywhere and its shapes in the al'):
    masks.read_stored(save(tmp_path / 'c.png', shapes))
  two = np.dstack([IDS, IDS])
  path = save(tmp_path / 'e.tif', two, planarconfig='contig', extrasamples=['unassalpha'])
  np.testing.assert_array_equal(masks.read_mask(path), IDS)
  # Another channel that no tag calls alpha is data.
  with pytest.raises(UserError, match=r'e\.tif has 2 channels and a mask has one'):
    masks.read_mask(save(path, two, planarconfig='contig'))
  with pytest.raises(UserError, match=r'd\.tif has 5 channels and a mask has one'):
    masks.read_stored(
      save(tmp_path / 'd.tif', np.zeros((4, 4, 5), np.uint8), planarconfig='contig')
    )


def test_colors_are_numbers_too(tmp_path):
  stored = masks.read_stored(save(tmp_path / 'c.png', RGB))
  assert stored.colored
  texts = [masks.color_text(color) for color in np.unique(stored.values).tolist()]
  assert texts == ['#000000', '#00ff00', '#ff0000']
  deep = masks.read_stored(save(tmp_path / 'd.tif', RGB.astype(np.uint16) * 257))
  assert masks.color_text(int(deep.values[0, 1])) == '65535,0,0'
  with pytest.raises(UserError, match=r'c\.png is a colored picture'):
    masks.read_mask(tmp_path / 'c.png')


def test_colors_of_a_volume(tmp_path):
  voxels = np.zeros((2, 2, 1), np.dtype([('R', 'u1'), ('G', 'u1'), ('B', 'u1')]))
  voxels['R'][0] = 255
  nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / 'a.nii')
  stored = masks.read_stored(tmp_path / 'a.nii')
  assert stored.colored
  assert masks.unpack(int(stored.values[0, 0, 0])) == (255, 0, 0)


def test_what_is_nearly_whole_is_rounded_and_other_fractions_are_named(tmp_path):
  whole = np.array([[0, 1.996, 2.0000001]], np.float32)
  np.testing.assert_array_equal(masks.read_mask(save(tmp_path / 'w.tif', whole)), [[0, 2, 2]])
  path = save(tmp_path / 'f.tif', np.array([[0, 1.4, 2, 7]], np.float32))
  with pytest.raises(UserError, match=r'f\.tif holds fractions \(1 pixel, such as 1\.4\)'):
    masks.read_mask(path)
  nan = save(tmp_path / 'n.nii', np.array([[[0, np.nan, np.nan]]], np.float32))
  with pytest.raises(UserError, match=r'n\.nii holds 2 voxels of no number'):
    masks.read_mask(nan)
  huge = save(tmp_path / 'h.tif', np.array([[0, 1e30, -2e30]], np.float32))
  with pytest.raises(UserError, match=r'h\.tif holds 2 pixels of numbers as large as 1e\+30'):
    masks.read_mask(huge)
  soft = save(tmp_path / 's.nii', np.array([[[0, 0.3, 1]]], np.float32))
  with pytest.raises(UserError, match=r'0 and 1 with smooth borders.*threshold it \(at 0\.5\)'):
    masks.read_mask(soft)
  # As the message says.
  save(tmp_path / 's.nii', (np.array([[[0, 0.3, 1]]]) >= 0.5).astype(np.uint8))
  np.testing.assert_array_equal(masks.read_mask(soft), [[[0, 0, 1]]])


def test_tiny_numbers_are_no_background(tmp_path):
  path = save(tmp_path / 'a.nii', np.array([[[0, 0.0001, 0.0002]]], np.float32))
  with pytest.raises(UserError, match=r'a\.nii .*\(2 voxels, such as 0\.0001'):
    masks.read_mask(path)
  noise = save(tmp_path / 'b.nii', np.array([[[0, 1e-9, 0]]], np.float32))
  assert masks.read_mask(noise).max() == 0
  with pytest.raises(UserError, match=r'c\.nii holds complex64 values'):
    masks.read_mask(save(tmp_path / 'c.nii', np.zeros((1, 1, 2), np.complex64)))


def test_a_slope_is_said(tmp_path):
  image = nibabel.Nifti1Image(np.array([[[0, 2, 4]]], np.float32), np.eye(4))
  image.header.set_data_dtype(np.uint8)
  image.header.set_slope_inter(0.5, 0)
  nibabel.save(image, tmp_path / 'a.nii')
  stored = masks.read_stored(tmp_path / 'a.nii')
  assert 'scl_slope' in stored.notes[0]
  np.testing.assert_array_equal(masks.read_mask(tmp_path / 'a.nii'), [[[0, 1, 2]]])


def test_what_is_no_mask_is_refused(tmp_path):
  with pytest.raises(UserError, match=r'j\.jpg is a JPEG, which alters'):
    masks.read_mask(save(tmp_path / 'j.jpg', IDS))
  (tmp_path / 'x.png').write_bytes(b'x')
  with pytest.raises(UserError, match=r'x\.png cannot be read'):
    masks.read_mask(tmp_path / 'x.png')
  four = save(tmp_path / 'four.nii', np.zeros((2, 2, 2, 3), np.uint8))
  with pytest.raises(UserError, match='three axes'):
    masks.read_stored(four)
  (tmp_path / 'y.NII.GZ').write_bytes(b'x')
  with pytest.raises(UserError, match=r'y\.NII\.GZ cannot be read as NIfTI'):
    masks.read_stored(tmp_path / 'y.NII.GZ')


def test_a_lossy_tiff_is_no_mask(tmp_path):
  """Its ids would be others near each boundary, and small ones look like further classes."""
  ids = np.zeros((32, 32), np.uint8)
  ids[7:20, 5:22] = 7
  path = save(tmp_path / 'a.tif', ids, compression='jpeg', compressionargs={'level': 60})
  with pytest.raises(UserError, match=r'a\.tif is compressed as JPEG, which alters mask values'):
    masks.read_stored(path)


def test_an_inverting_palette_is_said(tmp_path):
  image = Image.fromarray(IDS).convert('P')
  image.putpalette([255, 255, 255, 128, 128, 128, 0, 0, 0])
  image.save(tmp_path / 'a.png')
  stored = masks.read_stored(tmp_path / 'a.png')
  np.testing.assert_array_equal(stored.values, IDS)
  assert 'viewers show them inverted' in stored.notes[0]


def test_a_stack_of_masks_is_refused_with_what_helps_a_mask(tmp_path):
  pages = np.zeros((2, 5, 6), np.uint8)
  pages[0, :2] = pages[1, 3:] = 255
  path = tmp_path / 'm.tif'
  tifffile.imwrite(path, pages, photometric='minisblack')
  with pytest.raises(UserError, match=r'is a stack of 2 images and a mask is one image .*merge'):
    masks.read_stored(path)
  merged = np.select([pages[0] > 0, pages[1] > 0], [1, 2]).astype(np.uint8)
  tifffile.imwrite(path, merged)
  np.testing.assert_array_equal(masks.read_stored(path).values, merged)
