"""Stacks and parts of large images, as TIFF, NIfTI and OME-Zarr hold them."""

import nibabel
import numpy as np
import pytest
import tifffile

from ssl_jax.errors import UserError
from ssl_jax.inference.blocks import stacks
from ssl_jax.io import images
from ssl_jax.io.stacks import nifti_planes, tiff_planes

RNG = np.random.default_rng(0)
SHAPES = {'TZCYX': (2, 3, 2, 30, 41), 'ZYXS': (4, 30, 41, 3), 'TYX': (5, 30, 41)}


def _pixels(shape, dtype=np.uint16):
  return RNG.integers(0, 200, shape).astype(dtype)


def _planes(pixels, axes):
  """[planes, H, W, C], with channels last and the other axes in their order."""
  channel = next((axis for axis in 'CS' if axis in axes), '')
  order = [axes.index(axis) for axis in axes if axis in 'TZ']
  order += [axes.index(axis) for axis in ('Y', 'X', channel) if axis]
  pixels = pixels.transpose(order)
  return pixels.reshape(-1, 30, 41, pixels.shape[-1] if channel else 1)


@pytest.mark.parametrize('axes', SHAPES)
@pytest.mark.parametrize('form', ['ImageJ', 'OME', 'tifffile', 'tiles', 'strips'])
def test_planes_are_those_of_the_metadata(tmp_path, axes, form):
  dtype = np.uint8 if 'S' in axes else np.uint16
  pixels = _pixels(SHAPES[axes], dtype)
  more = {
    'ImageJ': dict(imagej=True),
    'OME': dict(ome=True, compression='zlib'),
    'tifffile': {},
    'tiles': dict(tile=(16, 16), compression='zlib', predictor=True),
    'strips': dict(rowsperstrip=7, compression='lzw', byteorder='>'),
  }[form]
  path = tmp_path / 'a.tif'
  photometric = 'rgb' if 'S' in axes else 'minisblack'
  tifffile.imwrite(path, pixels, metadata={'axes': axes}, photometric=photometric, **more)
  opened = tiff_planes.open_planes(path)
  expected = _planes(pixels, axes)
  assert opened.axes == ''.join(axis for axis in axes if axis in 'TZ')
  assert opened.count() == len(expected)
  for plane, whole in enumerate(expected):
    np.testing.assert_array_equal(opened.read_plane(plane), whole)
    np.testing.assert_array_equal(
      opened.read(plane, slice(5, 29), slice(15, 41)), whole[5:29, 15:41]
    )
  opened.close()


def test_the_last_axis_runs_fastest(tmp_path):
  path = tmp_path / 'a.tif'
  tifffile.imwrite(path, _pixels((2, 3, 8, 9)), imagej=True, metadata={'axes': 'TZYX'})
  opened = tiff_planes.open_planes(path)
  assert [opened.position(i) for i in (0, 2, 3)] == [
    {'t': 0, 'z': 0},
    {'t': 0, 'z': 2},
    {'t': 1, 'z': 0},
  ]


@pytest.mark.parametrize('kind', ['jpeg', 'planar', 'palette', 'white is 0', 'big-endian', 'hole'])
def test_parts_are_decoded_as_whole_images_are(tmp_path, kind):
  path = tmp_path / 'a.tif'
  gray, rgb = _pixels((70, 90), np.uint8), _pixels((70, 90, 3), np.uint8)
  tiles = dict(tile=(32, 32))
  if kind == 'jpeg':
    tifffile.imwrite(path, rgb, photometric='ycbcr', compression='jpeg', **tiles)
  elif kind == 'planar':
    tifffile.imwrite(path, rgb.transpose(2, 0, 1), photometric='rgb', planarconfig=2, **tiles)
  elif kind == 'palette':
    colormap = _pixels((3, 256), np.uint16)
    tifffile.imwrite(path, gray, photometric='palette', colormap=colormap, **tiles)
  elif kind == 'white is 0':
    tifffile.imwrite(path, gray, photometric='miniswhite', compression='zlib', **tiles)
  elif kind == 'big-endian':
    tifffile.imwrite(path, gray.astype(np.uint16), byteorder='>')
  else:
    tifffile.imwrite(path, None, shape=(70, 90), dtype=np.uint8, **tiles)
  whole = images.read_image(path)
  opened = tiff_planes.open_planes(path)
  assert opened.header == images.read_header(path)
  np.testing.assert_array_equal(opened.read_plane(0), whole)
  np.testing.assert_array_equal(opened.read(0, slice(30, 66), slice(1, 70)), whole[30:66, 1:70])


def test_three_slices_that_tifffile_stored_as_colors_apart_are_slices(tmp_path):
  pixels = _pixels((3, 30, 41), np.uint8)
  options = dict(photometric='rgb', planarconfig='separate', metadata={'axes': 'ZYX'})
  tifffile.imwrite(tmp_path / 'a.tif', pixels, **options)
  opened = stacks.open_planes(tmp_path / 'a.tif')
  assert (opened.count(), opened.header.channels) == (3, 1)
  for plane in range(3):
    np.testing.assert_array_equal(opened.read_plane(plane)[..., 0], pixels[plane])


def test_a_stack_without_axes_asks_and_is_told(tmp_path):
  path = tmp_path / 'a.tif'
  pixels = _pixels((3, 30, 41))
  tifffile.imwrite(path, pixels, photometric='minisblack', metadata=None)
  with pytest.raises(UserError, match=r'--axes=ZYX if they are slices, TYX .*, CYX if they are ch'):
    stacks.open_planes(path)
  assert stacks.open_planes(path, 'ZYX').count() == 3
  channels = stacks.open_planes(path, 'CYX')
  assert (channels.count(), channels.header.channels) == (1, 3)
  np.testing.assert_array_equal(channels.read_plane(0), pixels.transpose(1, 2, 0))
  with pytest.raises(UserError, match=r'--axes=TZYX does not fit .*a.tif, whose 3 axes \(IYX\)'):
    stacks.open_planes(path, 'TZYX')


def test_axes_of_stacks_change_no_other_image(tmp_path):
  path = tmp_path / 'rgb.tif'
  tifffile.imwrite(path, _pixels((30, 41, 3), np.uint8), photometric='rgb')
  assert stacks.open_planes(path, 'ZYX') is None
  tifffile.imwrite(tmp_path / 'z.tif', _pixels((3, 30, 41)), imagej=True, metadata={'axes': 'ZYX'})
  [note] = stacks.open_planes(tmp_path / 'z.tif', 'CYX').notes
  assert note == 'axes ZYX taken as CYX, as --axes says'


def test_single_images_are_no_stacks(tmp_path):
  tifffile.imwrite(tmp_path / 'a.tif', _pixels((1, 30, 41)))
  assert stacks.open_planes(tmp_path / 'a.tif') is None
  tifffile.imwrite(tmp_path / 'b.tif', _pixels((2, 30, 41)), metadata={'axes': 'CYX'})
  assert stacks.open_planes(tmp_path / 'b.tif') is None


def test_a_stack_that_is_cut_short_is_named(tmp_path):
  path = tmp_path / 'a.tif'
  pixels = _pixels((3, 30, 41))
  options = dict(photometric='minisblack', compression='zlib')
  tifffile.imwrite(path, pixels, metadata={'axes': 'ZYX'}, **options)
  path.write_bytes(path.read_bytes()[:-300])
  with pytest.raises(UserError, match=r'a.tif cannot be read .*its end is missing'):
    stacks.open_planes(path)


def test_slices_of_nifti_lie_along_its_third_axis(tmp_path):
  voxels = RNG.normal(0, 9, (11, 12, 5)).astype(np.int16)
  nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1, -1, 3, 1])), tmp_path / 'a.nii.gz')
  opened = nifti_planes.open_planes(tmp_path / 'a.nii.gz')
  assert (opened.axes, opened.shape) == ('Z', (5,))
  assert opened.header.dtype == np.float32
  np.testing.assert_array_equal(opened.read_plane(3)[..., 0], voxels[:, :, 3].T)
