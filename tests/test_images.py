"""Image files of every kind, read as they are, and refused in a sentence where they cannot be."""

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from ssl_jax.errors import UserError
from ssl_jax.io import image_decoding, images, masks
from ssl_jax.io.formats import stored_image
from ssl_jax.types import IGNORE

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (7, 5, 3), np.uint8)
GRAY8 = RGB[..., 0]
GRAY16 = RNG.integers(0, 65536, (7, 5), np.uint16)


def save(path, array, **options):
  if path.suffix.startswith('.tif'):
    tifffile.imwrite(path, array, **options)
  else:
    Image.fromarray(array).save(path, **options)
  return path


@pytest.mark.parametrize('suffix', ['.png', '.bmp', '.tif', '.TIFF'])
@pytest.mark.parametrize('array', [RGB, GRAY8], ids=['rgb', 'gray'])
def test_lossless_formats_keep_every_value(tmp_path, suffix, array):
  path = tmp_path / f'a{suffix}'
  save(path, array) if suffix != '.TIFF' else tifffile.imwrite(path, array)
  image = images.read_image(path)
  np.testing.assert_array_equal(image, array.reshape(7, 5, -1))
  assert image.dtype == np.uint8
  assert images.read_header(path)[:4] == (*image.shape, image.dtype)


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_16_bit_gray_keeps_its_depth(tmp_path, suffix):
  path = save(tmp_path / f'a{suffix}', GRAY16)
  np.testing.assert_array_equal(images.read_image(path)[..., 0], GRAY16)
  assert images.read_header(path).dtype == np.uint16


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


def test_write_mask_round_trips_plain_ids(tmp_path):
  mask = np.array([[0, 1], [2, IGNORE]])
  images.write_mask(tmp_path / 'm.png', mask)
  np.testing.assert_array_equal(masks.read_mask(tmp_path / 'm.png'), mask)
  assert Image.open(tmp_path / 'm.png').mode == 'L'
  with pytest.raises(UserError, match=r'outside 0\.\.255'):
    images.write_mask(tmp_path / 'm.png', mask * 2)


def test_write_image_round_trips(tmp_path):
  for image in (RGB, GRAY8[..., None]):
    images.write_image(tmp_path / 'a.png', image)
    np.testing.assert_array_equal(images.read_image(tmp_path / 'a.png'), image)


def test_rescale_by_hand():
  deep = np.array([[[0], [100], [300], [900]]], np.uint16)
  np.testing.assert_allclose(images.rescale(deep, (100, 500))[0, :, 0], [0, 0, 0.5, 1])
  np.testing.assert_allclose(images.rescale(np.uint8([[[51]]]), (0, 9))[0, 0], [0.2])
  with pytest.raises(UserError, match=r'x\.tif is not 8-bit'):
    images.rescale(deep, None, 'x.tif')


def test_to_channels():
  np.testing.assert_array_equal(images.to_channels(GRAY8[..., None], 3)[..., 2], GRAY8)
  np.testing.assert_array_equal(
    images.to_channels(np.repeat(GRAY8[..., None], 3, -1), 1)[..., 0], GRAY8
  )
  with pytest.raises(UserError, match='in color'):
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


def test_a_mask_alone_is_shown_in_its_colors():
  mask = np.array([[0, 1, 1], [0, 1, 1], [255, 255, 2]], np.uint8)
  shown = images.colorize(mask)
  assert (shown[0, 0] == 0).all()
  np.testing.assert_array_equal(shown[0, 2], images.PALETTE[1])
  np.testing.assert_array_equal(shown[2, 2], images.PALETTE[2])
  np.testing.assert_array_equal(shown[2, 0], images.GRAY)


def test_thirteen_organs_have_colors_of_their_own():
  shown = images.colorize(np.arange(16, dtype=np.uint8)[None])[0].tolist()
  assert len({tuple(color) for color in shown[:14]}) == 14
  assert shown[14:16] == shown[1:3]  # beyond them they begin again


def channels_of(count, dtype=np.uint8):
  return RNG.integers(0, 200, (7, 5, count)).astype(dtype)


def test_transparency_is_found_in_alpha_and_palettes(tmp_path):
  opaque = np.dstack([RGB, np.full((7, 5), 255, np.uint8)])
  glass = opaque.copy()
  glass[3, 3, 3] = 9
  gray = np.dstack([GRAY8, np.full((7, 5), 8, np.uint8)])
  for number, (array, transparent) in enumerate(((opaque, False), (glass, True), (gray, True))):
    path = save(tmp_path / f'{number}.png', array)
    assert images.read_header(path).has_alpha
    assert image_decoding.is_transparent(path.read_bytes(), path.name) == transparent
    np.testing.assert_array_equal(images.read_image(path), array[..., :-1])
  deep = RNG.integers(0, 65536, (7, 5, 4), np.uint16)
  (tmp_path / 'd.png').write_bytes(imagecodecs.png_encode(deep))
  np.testing.assert_array_equal(images.read_image(tmp_path / 'd.png'), deep[..., :3])
  assert image_decoding.is_transparent((tmp_path / 'd.png').read_bytes(), 'd.png')
  palette = Image.fromarray(np.array([[0, 1]], np.uint8)).convert('P')
  palette.putpalette([10, 20, 30, 40, 50, 60])
  palette.save(tmp_path / 'p.png', transparency=bytes([255, 0]))
  assert image_decoding.is_transparent((tmp_path / 'p.png').read_bytes(), 'p.png')


def test_a_gray_palette_becomes_gray(tmp_path):
  palette = Image.fromarray(np.array([[0, 1]], np.uint8)).convert('P')
  palette.putpalette([10, 10, 10, 40, 40, 40])
  palette.save(tmp_path / 'p.png')
  levels = np.repeat(np.arange(256, dtype=np.uint16)[None] * 257, 3, 0)
  colored = levels.copy()
  colored[0, 1] = 0
  save(tmp_path / 'g.tif', np.array([[0, 1]], np.uint8), photometric='palette', colormap=levels)
  save(tmp_path / 'c.tif', np.array([[0, 1]], np.uint8), photometric='palette', colormap=colored)
  expected = {'p.png': [[[10], [40]]], 'g.tif': [[[0], [1]]], 'c.tif': [[[0, 0, 0], [0, 1, 1]]]}
  for name, pixels in expected.items():
    np.testing.assert_array_equal(images.read_image(tmp_path / name), pixels)
    header = images.read_header(tmp_path / name)
    assert header.channels == np.shape(pixels)[-1]
    assert header.changes == (f'palette became {header.layout}',)


def test_cmyk_becomes_rgb(tmp_path):
  inks = np.zeros((16, 16, 4), np.uint8)
  inks[:, :, 0] = 255  # cyan
  inks[8:, :, 3] = 255  # black
  Image.fromarray(inks, 'CMYK').save(tmp_path / 'a.jpg', quality=100)
  save(tmp_path / 'a.tif', inks, photometric='separated')
  save(tmp_path / 'b.tif', inks.astype(np.uint16) * 257, photometric='separated')
  for name, largest in (('a.jpg', 255), ('a.tif', 255), ('b.tif', 65535)):
    image = images.read_image(tmp_path / name) / largest
    np.testing.assert_allclose(image[2, 2], [0, 1, 1], atol=0.03)
    np.testing.assert_allclose(image[12, 2], [0, 0, 0], atol=0.03)
    header = images.read_header(tmp_path / name)
    assert (header.channels, header.layout) == (3, 'RGB')
    assert 'CMYK became RGB' in header.changes[0]


def test_white_is_zero_and_few_bits_are_read_as_brightness(tmp_path):
  white = save(tmp_path / 'w.tif', GRAY16, photometric='miniswhite')
  np.testing.assert_array_equal(images.read_image(white)[..., 0], 65535 - GRAY16)
  assert 'inverted' in images.read_header(white).changes[0]
  # A mask keeps the numbers of its file.
  np.testing.assert_array_equal(masks.read_mask(white), GRAY16)
  bits = save(tmp_path / 'b.tif', np.array([[True, False]]), photometric='minisblack')
  np.testing.assert_array_equal(images.read_image(bits)[0, :, 0], [255, 0])
  four = save(tmp_path / 'f.tif', np.array([[0, 15]], np.uint8), bitspersample=4)
  np.testing.assert_array_equal(images.read_image(four)[0, :, 0], [0, 255])
  assert images.read_header(four).changes == ('4-bit samples stretched to 8 bits',)
  twelve = save(tmp_path / 't.tif', np.array([[0, 4095]], np.uint16), bitspersample=12)
  np.testing.assert_array_equal(images.read_image(twelve)[0, :, 0], [0, 4095])


def test_a_large_image_is_read_up_to_a_limit_that_can_be_raised(tmp_path, monkeypatch):
  side = 14_000  # 196 megapixels, more than Pillow would read
  Image.new('1', (side, side)).save(tmp_path / 'large.png')
  monkeypatch.setenv('SSL_JAX_MAX_MEGAPIXELS', '100')
  with pytest.raises(
    UserError, match=r'large\.png declares 14,000 x 14,000.*MEGAPIXELS=196,'
  ) as error:
    images.read_image(tmp_path / 'large.png')
  assert 'corrupt' not in str(error.value)
  monkeypatch.setenv('SSL_JAX_MAX_MEGAPIXELS', 'many')
  with pytest.raises(UserError, match='MAX_MEGAPIXELS=many is no number'):
    images.read_image(tmp_path / 'large.png')
  monkeypatch.setenv('SSL_JAX_MAX_MEGAPIXELS', '196')
  assert images.read_image(tmp_path / 'large.png').shape == (side, side, 1)


def test_a_bomb_is_refused_before_memory_is_taken(tmp_path):
  import struct
  import zlib

  def chunk(kind, data):
    body = kind + data
    return struct.pack('>I', len(data)) + body + struct.pack('>I', zlib.crc32(body))

  header = struct.pack('>IIBBBBB', 200_000, 200_000, 8, 2, 0, 0, 0)
  png = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', b'') + chunk(b'IEND', b'')
  (tmp_path / 'bomb.png').write_bytes(png)
  path = save(tmp_path / 'bomb.tif', GRAY8)
  tiff = tifffile.TiffFile(path)
  offsets = {name: tiff.pages[0].tags[name].valueoffset for name in ('ImageLength', 'ImageWidth')}
  tiff.close()
  data = bytearray(path.read_bytes())
  for offset in offsets.values():
    data[offset : offset + 4] = struct.pack('<I', 60_000)
  path.write_bytes(data)
  for name in ('bomb.png', 'bomb.tif'):
    for read in (images.read_header, images.read_image):
      with pytest.raises(UserError, match=rf'{name} declares .*more than the 1000 megapixels'):
        read(tmp_path / name)


def test_the_content_of_a_file_counts_not_its_name(tmp_path):
  Image.fromarray(RGB).save(tmp_path / 'jpeg.png', format='JPEG')
  assert images.read_image(tmp_path / 'jpeg.png').shape == RGB.shape
  for kind, says in (('GIF', 'a GIF'), ('WEBP', 'a WebP')):
    Image.fromarray(GRAY8).save(tmp_path / 'other.png', format=kind)
    with pytest.raises(UserError, match=rf'other\.png cannot be read: its content is {says}'):
      images.read_image(tmp_path / 'other.png')


@pytest.mark.parametrize('orientation', range(1, 9))
def test_turning_back_undoes_a_turn(orientation):
  upright = stored_image.turn(RGB, orientation)
  assert upright.shape[:2] == stored_image.upright_size(7, 5, orientation)
  np.testing.assert_array_equal(stored_image.turn_back(upright, orientation), RGB)


def test_channels_that_are_no_colors_are_never_converted():
  two = channels_of(2)
  with pytest.raises(
    UserError, match=r'x\.tif has 2 channels but the network was trained on 3; give'
  ):
    images.to_channels(two, 3, 'x.tif')
  with pytest.raises(UserError, match=r'x\.tif has 1 channel but the network was trained on 2'):
    images.to_channels(two[..., :1], 2, 'x.tif')
  with pytest.raises(UserError, match='a PNG holds 1 or 3 channels, and this image has 2'):
    images.write_image('a.png', two)


def test_each_channel_may_have_its_own_range():
  raw = np.array([[[0, 10], [100, 30]]], np.uint16)
  scaled = images.rescale(raw, ((0, 200), (10, 20)))
  np.testing.assert_allclose(scaled, [[[0, 0], [0.5, 1]]])
  with pytest.raises(UserError, match='has 1 channel but'):
    images.rescale(raw[..., :1], ((0, 200), (10, 20)))


def test_resizing_mixes_no_channels():
  # As Pillow's modes LA and RGBA, the last channel would weigh the others.
  for count in (2, 4, 5):
    array = channels_of(count)
    array[..., -1] = 0
    for smooth in (True, False):
      resized = images.resize(array, (4, 3), smooth)
      alone = images.resize(array[..., :1], (4, 3), smooth)
      np.testing.assert_array_equal(resized[..., :1], alone)
      assert resized.shape == (4, 3, count)


def test_many_channels_are_shown_as_a_composite():
  bright = np.zeros((4, 4, 5), np.uint8)
  for c in range(5):
    bright[c % 4, c // 4, c] = 10 * (c + 1)  # each has its own brightest value
  np.testing.assert_array_equal(images.to_rgb(bright[..., :2])[0, 0], [255, 0, 255])
  np.testing.assert_array_equal(images.to_rgb(bright[..., :2])[1, 0], [0, 255, 0])
  for count in (4, 5):
    shown = images.to_rgb(bright[..., :count])
    np.testing.assert_array_equal(shown[:4, 0], [*255 * np.eye(3), [0, 0, 0]])
  deep = (bright.astype(np.float32) * 7)[..., :4]
  assert images.overlay(deep, np.zeros((4, 4), np.uint8)).shape == (4, 4, 3)


def test_an_overlay_in_strips_is_the_whole_one(monkeypatch):
  mask = RNG.integers(0, 4, (7, 5)).astype(np.uint8)
  whole = images.overlay(RGB, mask)
  monkeypatch.setattr(images, 'STRIP_PIXELS', 10)
  np.testing.assert_array_equal(images.overlay(RGB, mask), whole)
