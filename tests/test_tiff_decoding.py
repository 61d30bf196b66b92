"""TIFF files: which samples are channels, alpha or a stack, and in which form they are stored."""

import struct

import numpy as np
import pytest
import tifffile

from ssl_jax.errors import UserError
from ssl_jax.io import image_decoding, images
from ssl_jax.io.formats import tiff_decoding

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (7, 5, 3), np.uint8)
GRAY8 = RGB[..., 0]
GRAY16 = RNG.integers(0, 65536, (7, 5), np.uint16)


def save(path, array, **options):
  tifffile.imwrite(path, array, **options)
  return path


def channels_of(count, dtype=np.uint8):
  return RNG.integers(0, 200, (7, 5, count)).astype(dtype)


@pytest.mark.parametrize('dtype', [np.float64, np.int16, np.int32, np.uint32])
def test_other_tiff_samples_become_float32(tmp_path, dtype):
  path = save(tmp_path / 'a.tif', (GRAY8.astype(dtype) - np.asarray(3).astype(dtype)))
  image = images.read_image(path)
  assert image.dtype == np.float32
  assert image.shape == (7, 5, 1)
  assert images.read_header(path)[:4] == (7, 5, 1, np.float32)


def test_compressed_tiled_and_planar_tiffs(tmp_path):
  packed = save(tmp_path / 'a.tif', GRAY16, compression='lzw', predictor=True)
  np.testing.assert_array_equal(images.read_image(packed)[..., 0], GRAY16)
  planes = np.moveaxis(RGB, -1, 0).copy()
  planar = save(tmp_path / 'b.tif', planes, photometric='rgb', planarconfig='separate')
  np.testing.assert_array_equal(images.read_image(planar), RGB)
  assert images.read_header(planar)[:4] == (7, 5, 3, np.uint8)
  white = save(tmp_path / 'c.tif', GRAY8, photometric='miniswhite')
  np.testing.assert_array_equal(images.read_image(white)[..., 0], 255 - GRAY8)


@pytest.mark.parametrize('shape', [(4, 7, 5), (2, 3, 7, 5)])
def test_a_stack_is_refused(tmp_path, shape):
  path = save(tmp_path / 'stack.tif', np.zeros(shape, np.uint8), photometric='minisblack')
  with pytest.raises(UserError, match=r'stack\.tif is a stack of .*each slice'):
    images.read_image(path)
  single_page = tmp_path / 'imagej.tif'
  axes = {'axes': 'ZYX' if len(shape) == 3 else 'TZYX'}
  tifffile.imwrite(single_page, np.zeros(shape, np.uint8), imagej=True, metadata=axes)
  with pytest.raises(UserError, match='is a stack of'):
    images.read_header(single_page)


FIRST = dict(photometric='minisblack', metadata={'axes': 'CYX'})


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('count', [2, 4, 5])
@pytest.mark.parametrize(
  'how', ['contiguous', 'planar', 'OME', 'OME with T and Z', 'ImageJ', 'axes']
)
def test_every_channel_of_a_tiff_is_read(tmp_path, how, count, dtype):
  array = channels_of(count, dtype)
  first = np.moveaxis(array, -1, 0).copy()
  path = tmp_path / 'a.tif'
  if how == 'contiguous':
    tifffile.imwrite(path, array, photometric='minisblack', planarconfig='contig')
  elif how == 'planar':
    tifffile.imwrite(path, first, photometric='minisblack', planarconfig='separate')
  elif how == 'OME':
    tifffile.imwrite(path, first, ome=True, **FIRST)
  elif how == 'OME with T and Z':
    axes = dict(photometric='minisblack', metadata={'axes': 'TCZYX'})
    tifffile.imwrite(path, first[None, :, None], ome=True, **axes)
  elif how == 'ImageJ':
    tifffile.imwrite(path, first, imagej=True, metadata={'axes': 'CYX', 'mode': 'composite'})
  else:
    tifffile.imwrite(path, first, compression='zlib', **FIRST)
  np.testing.assert_array_equal(images.read_image(path), array)
  header = images.read_header(path)
  assert header[:4] == (7, 5, count, np.dtype(dtype))
  assert header.layout == 'channels'
  assert header.changes == ()


@pytest.mark.parametrize('kind', ['unassalpha', 'assocalpha', 'unspecified'])
@pytest.mark.parametrize('photometric', ['rgb', 'minisblack'])
def test_only_samples_that_are_called_alpha_are_dropped(tmp_path, photometric, kind):
  colors = 3 if photometric == 'rgb' else 1
  array = channels_of(colors + 1)
  path = save(
    tmp_path / 'a.tif', array, photometric=photometric, extrasamples=[kind], planarconfig='contig'
  )
  kept = colors + (kind == 'unspecified')
  np.testing.assert_array_equal(images.read_image(path), array[..., :kept])
  header = images.read_header(path)
  assert header.channels == kept
  assert header.has_alpha == (kind != 'unspecified')
  # With a further channel, red, green and blue are no colors of a picture any more.
  assert header.layout == ('channels' if kind == 'unspecified' else {3: 'RGB', 1: 'grey'}[colors])
  assert image_decoding.is_transparent(path.read_bytes(), 'a.tif') == header.has_alpha


def test_color_spaces_that_are_not_read_are_named(tmp_path):
  for colors, says in (('cielab', 'CIELAB'), ('ycbcr', 'YCbCr'), ('cfa', 'CFA')):
    array = RGB if colors != 'cfa' else GRAY8
    path = save(tmp_path / f'{colors}.tif', array, photometric=colors)
    with pytest.raises(UserError, match=rf'{colors}\.tif holds .*{says}.*save it as RGB'):
      images.read_header(path)


def test_advice_on_channels_that_come_last_works(tmp_path):
  array = RNG.integers(0, 255, (40, 30, 5), np.uint8)
  path = save(tmp_path / 'a.tif', array, photometric='minisblack')
  with pytest.raises(
    UserError, match=r"'axes': 'CYX'.*first np\.moveaxis\(array, -1, 0\), if the last"
  ):
    images.read_image(path)
  planes = np.moveaxis(array, -1, 0)
  tifffile.imwrite(path, planes, photometric='minisblack', metadata={'axes': 'CYX'})
  np.testing.assert_array_equal(images.read_image(path), array)


def test_advice_on_a_stack_of_channels_works(tmp_path):
  planes = np.moveaxis(channels_of(3), -1, 0).copy()
  path = save(tmp_path / 'a.tif', planes, photometric='minisblack')
  with pytest.raises(
    UserError, match=r"is a stack of 3 images of 7 x 5 pixels whose meaning.*'axes': 'CYX'"
  ):
    images.read_image(path)
  tifffile.imwrite(path, planes, photometric='minisblack', metadata={'axes': 'CYX'})
  np.testing.assert_array_equal(images.read_image(path), np.moveaxis(planes, 0, -1))
  tifffile.imwrite(path, planes, imagej=True, metadata={'axes': 'ZYX'})
  with pytest.raises(UserError, match='3 images of 7 x 5 pixels along Z'):
    images.read_image(path)


def test_samples_of_few_bits_stay_as_stored(tmp_path):
  path = save(tmp_path / 'f.tif', np.array([[0, 3, 15]], np.uint8), bitspersample=4)
  stored = tiff_decoding.read_samples(path.read_bytes(), 'f.tif')
  assert stored.samples[0, :, 0].tolist() == [0, 3, 15]
  assert stored.bits == 4


def test_smaller_copies_of_an_image_are_no_images_of_their_own(tmp_path):
  path = tmp_path / 'p.tif'
  with tifffile.TiffWriter(path) as file:
    file.write(GRAY8)
    file.write(GRAY8[::2, ::2].copy(), subfiletype=1)
  np.testing.assert_array_equal(images.read_image(path)[..., 0], GRAY8)
  with tifffile.TiffWriter(path) as file:
    file.write(GRAY8)
    file.write(GRAY8[::2, ::2].copy())
  with pytest.raises(UserError, match='holds 2 images of different shapes'):
    images.read_image(path)


def test_channels_of_several_samples_and_complex_samples_are_refused(tmp_path):
  both = np.zeros((2, 7, 5, 3), np.uint8)
  path = save(tmp_path / 'c.tif', both, photometric='rgb', metadata={'axes': 'CYXS'})
  with pytest.raises(UserError, match='2 channels of 3 samples each'):
    images.read_header(path)
  save(path, GRAY8.astype(np.complex64))
  with pytest.raises(UserError, match=r'samples of a kind \(complex64\) that is no brightness'):
    images.read_header(path)


def test_lossy_compression_is_known(tmp_path):
  for compression, lossy in (('jpeg', True), ('zlib', False), (None, False)):
    path = save(tmp_path / 'a.tif', np.zeros((16, 16), np.uint8), compression=compression)
    assert tiff_decoding.read_samples(path.read_bytes(), 'a.tif').lossy == lossy


@pytest.mark.parametrize(('pages', 'back'), [(1, 0), (3, 1), (150, 120)])
def test_pages_in_a_circle_are_a_sentence(tmp_path, pages, back):
  path = tmp_path / 'a.tif'
  with tifffile.TiffWriter(path) as tif:
    for _ in range(pages):
      tif.write(GRAY8, metadata=None)
  with tifffile.TiffFile(path) as tif:
    offsets = [page.offset for page in tif.pages]
  data = bytearray(path.read_bytes())
  [num_tags] = struct.unpack_from('<H', data, offsets[-1])
  # Where the last page says that none follows.
  struct.pack_into('<I', data, offsets[-1] + 2 + 12 * num_tags, offsets[back])
  path.write_bytes(data)
  with pytest.raises(UserError, match=r'a\.tif is damaged: its pages form a circle'):
    images.read_header(path)
