"""Image files of every kind, read as they are, and refused in a sentence where they cannot be."""

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from ssl_jax.errors import UserError
from ssl_jax.io import image_decoding, images, masks
from ssl_jax.types import IGNORE

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (7, 5, 3), np.uint8)
GREY8 = RGB[..., 0]
GREY16 = RNG.integers(0, 65536, (7, 5), np.uint16)


def save(path, array, **options):
  if path.suffix.startswith('.tif'):
    tifffile.imwrite(path, array, **options)
  else:
    Image.fromarray(array).save(path, **options)
  return path


@pytest.mark.parametrize('suffix', ['.png', '.bmp', '.tif', '.TIFF'])
@pytest.mark.parametrize('array', [RGB, GREY8], ids=['rgb', 'grey'])
def test_lossless_formats_keep_every_value(tmp_path, suffix, array):
  path = tmp_path / f'a{suffix}'
  save(path, array) if suffix != '.TIFF' else tifffile.imwrite(path, array)
  image = images.read_image(path)
  np.testing.assert_array_equal(image, array.reshape(7, 5, -1))
  assert image.dtype == np.uint8
  assert images.read_header(path) == (*image.shape, image.dtype)


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_16_bit_grey_keeps_its_depth(tmp_path, suffix):
  path = save(tmp_path / f'a{suffix}', GREY16)
  np.testing.assert_array_equal(images.read_image(path)[..., 0], GREY16)
  assert images.read_header(path).dtype == np.uint16


def test_16_bit_rgb_png_keeps_its_depth(tmp_path):
  deep = RNG.integers(0, 65536, (7, 5, 3), np.uint16)
  (tmp_path / 'a.png').write_bytes(imagecodecs.png_encode(deep))
  np.testing.assert_array_equal(images.read_image(tmp_path / 'a.png'), deep)
  assert images.read_header(tmp_path / 'a.png') == (7, 5, 3, np.uint16)


def test_jpeg_reads_near_its_values(tmp_path):
  path = save(tmp_path / 'a.jpg', np.full((16, 16, 3), 100, np.uint8))
  assert abs(images.read_image(path).astype(int) - 100).max() <= 2


def test_alpha_is_dropped_palette_becomes_rgb_and_one_bit_0_255(tmp_path):
  alpha = np.dstack([RGB, np.zeros((7, 5), np.uint8)])
  np.testing.assert_array_equal(images.read_image(save(tmp_path / 'a.png', alpha)), RGB)
  palette = Image.fromarray(np.array([[0, 1]], np.uint8)).convert('P')
  palette.putpalette([10, 20, 30, 40, 50, 60])
  palette.save(tmp_path / 'p.png')
  np.testing.assert_array_equal(
    images.read_image(tmp_path / 'p.png'), [[[10, 20, 30], [40, 50, 60]]]
  )
  Image.fromarray(np.array([[True, False]])).save(tmp_path / 'b.png')
  np.testing.assert_array_equal(images.read_image(tmp_path / 'b.png')[..., 0], [[255, 0]])


@pytest.mark.parametrize('dtype', [np.float64, np.int16, np.int32, np.uint32])
def test_other_tiff_samples_become_float32(tmp_path, dtype):
  path = save(tmp_path / 'a.tif', (GREY8.astype(dtype) - np.asarray(3).astype(dtype)))
  image = images.read_image(path)
  assert image.dtype == np.float32
  assert image.shape == (7, 5, 1)
  assert images.read_header(path) == (7, 5, 1, np.float32)


def test_compressed_tiled_and_planar_tiffs(tmp_path):
  packed = save(tmp_path / 'a.tif', GREY16, compression='lzw', predictor=True)
  np.testing.assert_array_equal(images.read_image(packed)[..., 0], GREY16)
  planes = np.moveaxis(RGB, -1, 0).copy()
  planar = save(tmp_path / 'b.tif', planes, photometric='rgb', planarconfig='separate')
  np.testing.assert_array_equal(images.read_image(planar), RGB)
  assert images.read_header(planar) == (7, 5, 3, np.uint8)
  white = save(tmp_path / 'c.tif', GREY8, photometric='miniswhite')
  np.testing.assert_array_equal(images.read_image(white)[..., 0], 255 - GREY8)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation_is_applied_as_pillow_does(tmp_path, orientation):
  image = Image.fromarray(RGB)
  exif = image.getexif()
  exif[image_decoding.ORIENTATION_TAG] = orientation
  image.save(tmp_path / 'a.png', exif=exif)
  from PIL import ImageOps

  expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / 'a.png')))
  np.testing.assert_array_equal(images.read_image(tmp_path / 'a.png'), expected)
  assert images.read_header(tmp_path / 'a.png')[:2] == expected.shape[:2]
  tagged = save(tmp_path / 'a.tif', RGB, extratags=[(274, 3, 1, orientation, True)])
  np.testing.assert_array_equal(images.read_image(tagged), expected)


@pytest.mark.parametrize('shape', [(4, 7, 5), (2, 3, 7, 5)])
def test_a_stack_is_refused(tmp_path, shape):
  path = save(tmp_path / 'stack.tif', np.zeros(shape, np.uint8), photometric='minisblack')
  with pytest.raises(UserError, match=r'stack\.tif is a stack of .*each slice'):
    images.read_image(path)
  single_page = tmp_path / 'imagej.tif'
  tifffile.imwrite(single_page, np.zeros(shape, np.uint8), imagej=True)
  with pytest.raises(UserError, match='is a stack of'):
    images.read_header(single_page)


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.bmp', '.tif'])
@pytest.mark.parametrize('share', [0, 0.02, 0.5, 0.9])
def test_a_file_cut_short_is_named(tmp_path, suffix, share):
  path = save(tmp_path / f'cut{suffix}', RNG.integers(0, 256, (64, 64, 3), np.uint8))
  whole = path.read_bytes()
  path.write_bytes(whole[: int(share * len(whole))])
  for read in (images.read_image, images.read_header) if suffix != '.bmp' else (images.read_image,):
    with pytest.raises(UserError, match=rf'cut\{suffix} (cannot be read|is an empty file)'):
      read(path)


def test_not_an_image_and_not_a_file_are_named(tmp_path):
  (tmp_path / 'text.png').write_text('hello, I am text')
  with pytest.raises(UserError, match=r'text\.png cannot be read as a PNG'):
    images.read_image(tmp_path / 'text.png')
  with pytest.raises(UserError, match=r'gone\.png cannot be read \(No such file'):
    images.read_image(tmp_path / 'gone.png')
  path = save(tmp_path / 'nan.tif', np.full((3, 3), np.nan, np.float32))
  with pytest.raises(UserError, match=r'nan\.tif holds values that are not numbers'):
    images.read_image(path)


def test_list_images_sorts_and_ignores_hidden_and_other_files(tmp_path):
  for name in ('b.PNG', 'a.tif', '.hidden.png', 'notes.txt', 'c.Jpeg'):
    (tmp_path / name).touch()
  assert [p.name for p in images.list_images(tmp_path)] == ['a.tif', 'b.PNG', 'c.Jpeg']
  with pytest.raises(UserError, match='does not exist; check the path'):
    images.list_images(tmp_path / 'no')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(UserError, match='holds no images'):
    images.list_images(tmp_path / 'empty')


def test_write_mask_round_trips_plain_ids(tmp_path):
  mask = np.array([[0, 1], [2, IGNORE]])
  images.write_mask(tmp_path / 'm.png', mask)
  np.testing.assert_array_equal(masks.read_mask(tmp_path / 'm.png'), mask)
  assert Image.open(tmp_path / 'm.png').mode == 'L'
  with pytest.raises(UserError, match=r'outside 0\.\.255'):
    images.write_mask(tmp_path / 'm.png', mask * 2)


def test_write_image_round_trips(tmp_path):
  for image in (RGB, GREY8[..., None]):
    images.write_image(tmp_path / 'a.png', image)
    np.testing.assert_array_equal(images.read_image(tmp_path / 'a.png'), image)


def test_rescale_by_hand():
  deep = np.array([[[0], [100], [300], [900]]], np.uint16)
  np.testing.assert_allclose(images.rescale(deep, (100, 500))[0, :, 0], [0, 0, 0.5, 1])
  np.testing.assert_allclose(images.rescale(np.uint8([[[51]]]), (0, 9))[0, 0], [0.2])
  with pytest.raises(UserError, match=r'x\.tif is not 8-bit'):
    images.rescale(deep, None, 'x.tif')


def test_to_channels():
  np.testing.assert_array_equal(images.to_channels(GREY8[..., None], 3)[..., 2], GREY8)
  np.testing.assert_array_equal(
    images.to_channels(np.repeat(GREY8[..., None], 3, -1), 1)[..., 0], GREY8
  )
  with pytest.raises(UserError, match='in colour'):
    images.to_channels(RGB, 1)


def test_to_uint8_stretches():
  assert images.to_uint8(RGB) is RGB
  shown = images.to_uint8(np.array([[[10.0], [20.0], [15.0]]]), 10, 20)
  np.testing.assert_array_equal(shown[0, :, 0], [0, 255, 128])


def test_overlay_tints_outlines_and_leaves_background():
  image = np.full((9, 9, 1), 200, np.uint8)
  mask = np.zeros((9, 9), np.uint8)
  mask[2:7, 2:7] = 1
  mask[8, 8] = IGNORE
  shown = images.overlay(image, mask)
  assert (shown[0, 0] == 200).all()
  np.testing.assert_array_equal(shown[2, 4], images.PALETTE[1])
  np.testing.assert_allclose(shown[4, 4], 0.6 * 200 + 0.4 * images.PALETTE[1], atol=1)
  np.testing.assert_allclose(shown[8, 8], 0.6 * 200 + 0.4 * 128, atol=1)
  assert (image == 200).all()


def test_a_mask_alone_is_shown_in_its_colours():
  mask = np.array([[0, 1, 1], [0, 1, 1], [255, 255, 2]], np.uint8)
  shown = images.colorize(mask)
  assert (shown[0, 0] == 0).all()
  np.testing.assert_array_equal(shown[0, 2], images.PALETTE[1])
  np.testing.assert_array_equal(shown[2, 2], images.PALETTE[2])
  np.testing.assert_array_equal(shown[2, 0], images.GREY)


def test_thirteen_organs_have_colours_of_their_own():
  shown = images.colorize(np.arange(16, dtype=np.uint8)[None])[0].tolist()
  assert len({tuple(colour) for colour in shown[:14]}) == 14
  assert shown[14:16] == shown[1:3]  # beyond them they begin again
