"""PNG, JPEG and BMP files: samples as they are stored, and what an image of them is."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from ssl_jax.errors import UserError
from ssl_jax.io import images
from ssl_jax.io.formats import pillow_decoding, stored_image

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (7, 5, 3), np.uint8)


def encoded(image, form='PNG', **options):
  data = io.BytesIO()
  image.save(data, format=form, **options)
  return data.getvalue()


def save(path, array):
  Image.fromarray(array).save(path)
  return path


def test_16_bit_rgb_png_keeps_its_depth(tmp_path):
  deep = RNG.integers(0, 65536, (7, 5, 3), np.uint16)
  (tmp_path / 'a.png').write_bytes(imagecodecs.png_encode(deep))
  np.testing.assert_array_equal(images.read_image(tmp_path / 'a.png'), deep)
  assert images.read_header(tmp_path / 'a.png')[:4] == (7, 5, 3, np.uint16)


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


def png_of(row, width, bits, color_type):
  """A PNG of one row, written by hand."""
  chunks = [
    (b'IHDR', struct.pack('>IIBBBBB', width, 1, bits, color_type, 0, 0, 0)),
    (b'IDAT', zlib.compress(b'\0' + row)),
    (b'IEND', b''),
  ]
  parts = (
    struct.pack('>I', len(body)) + name + body + struct.pack('>I', zlib.crc32(name + body))
    for name, body in chunks
  )
  return b'\x89PNG\r\n\x1a\n' + b''.join(parts)


def test_indices_without_a_palette_are_refused(tmp_path):
  path = tmp_path / 'none.png'
  path.write_bytes(png_of(bytes([0, 2]), width=2, bits=8, color_type=3))
  with pytest.raises(UserError, match=r'none\.png .*palette has no colors'):
    images.read_image(path)


def test_indices_and_few_bits_stay_as_stored():
  palette = Image.fromarray(np.array([[0, 2]], np.uint8)).convert('P')
  palette.putpalette([255, 255, 255, 0, 0, 0, 9, 8, 7])
  stored = pillow_decoding.read_samples(encoded(palette, bits=2), 'p.png')
  assert stored.samples[0, :, 0].tolist() == [0, 2]
  assert stored.palette[:3].tolist() == [[255] * 3, [0] * 3, [9, 8, 7]]
  bit = pillow_decoding.read_samples(encoded(Image.fromarray(np.array([[True, False]]))), 'b.png')
  assert (bit.samples[0, :, 0].tolist(), bit.bits) == ([1, 0], 1)
  # Two bits, of which Pillow makes 0, 85, 170 and 255: 1 and 3 in four pixels.
  data = png_of(bytes([0b01_11_00_10]), width=4, bits=2, color_type=0)
  gray = pillow_decoding.read_samples(data, 'g.png')
  assert (gray.samples[0, :, 0].tolist(), gray.bits) == ([1, 3, 0, 2], 2)
  assert gray.header.changes == ('2-bit samples stretched to 8 bits',)
  assert pillow_decoding.png_format(data) == (2, 0)
  assert pillow_decoding.png_format(b'BM') is None


def test_an_animation_is_refused():
  frames = [Image.new('L', (5, 7), level) for level in (0, 9)]
  data = encoded(frames[0], save_all=True, append_images=frames[1:])
  with pytest.raises(UserError, match=r'a\.png is an animation of 2 images'):
    pillow_decoding.read_header(data, 'a.png')


def test_a_damaged_png_is_noticed_though_it_decodes(tmp_path):
  """One bit may make another mask of the same values."""
  rng = np.random.default_rng(0)
  mask = np.kron(rng.integers(0, 2, (16, 16)), np.ones((16, 16))) > 0
  buffer = io.BytesIO()
  Image.fromarray(mask).save(buffer, 'PNG')
  data = bytearray(buffer.getvalue())
  start = data.index(b'IDAT') + 4
  decoded = 0
  for place in range(start + 2, len(data) - 20):
    broken = data.copy()
    broken[place] ^= 4
    try:
      with Image.open(io.BytesIO(broken)) as image:
        decoded += (np.asarray(image) != mask).any()
    except Exception:
      pass
    for read in (pillow_decoding.read_header, pillow_decoding.read_samples):
      with pytest.raises(Exception, match='checksum of IDAT is wrong'):
        read(bytes(broken), 'a.png')
  # Pillow alone takes some for masks.
  assert decoded


def test_gray_with_alpha_of_16_bits_is_gray():
  gray = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
  data = imagecodecs.png_encode(np.dstack([gray, np.full_like(gray, 65535)]))
  header = pillow_decoding.read_header(data, 'a.png')
  assert (header.channels, header.layout, header.has_alpha) == (1, stored_image.GRAY, True)
  stored = pillow_decoding.read_samples(data, 'a.png')
  np.testing.assert_array_equal(stored.samples[..., 0], gray)
  assert (stored.alpha == 65535).all()


def test_a_missing_end_is_noticed_without_decoding():
  noise = Image.fromarray(RGB.repeat(9, 0))
  for form in ('PNG', 'JPEG'):
    data = encoded(noise, form)
    assert pillow_decoding.read_header(data + b'more', 'a').height == 63
    with pytest.raises(ValueError, match='its end is missing'):
      pillow_decoding.read_header(data[:-20], 'a')


@pytest.mark.parametrize('after_pixels', [False, True])
def test_the_header_of_a_png_decodes_no_pixels(monkeypatch, after_pixels):
  """A folder of 100,000 images is looked at in seconds only without them."""
  file = io.BytesIO()
  Image.new('L', (6, 4)).save(file, 'png')
  data = file.getvalue()
  if after_pixels:
    # Where a chunk says how it is turned, it is found behind the pixels as well: tag 6, a quarter.
    exif = b'MM\x00*' + struct.pack('>IHHHIHHI', 8, 1, 0x112, 3, 1, 6, 0, 0)
    chunk = struct.pack('>I', len(exif)) + b'eXIf' + exif
    chunk += struct.pack('>I', zlib.crc32(b'eXIf' + exif))
    end = data.rindex(b'IEND') - 4
    data = data[:end] + chunk + data[end:]
  else:

    def load(self):
      raise AssertionError('its pixels were decoded')

    monkeypatch.setattr(PngImagePlugin.PngImageFile, 'load', load)
  header = pillow_decoding.read_header(data, 'a.png')
  assert (header.height, header.width) == ((6, 4) if after_pixels else (4, 6))


@pytest.mark.parametrize(
  ('data', 'what'),
  [
    (imagecodecs.jpeg2k_encode(RGB, codecformat='j2k'), 'a JPEG 2000 image'),
    (imagecodecs.jpegxl_encode(RGB), 'a JPEG XL image'),
    (b'P5 2 1 255 ab', 'a PGM image'),
    (b'<!doctype html><p>Please log in', 'a web page'),
  ],
)
def test_whole_files_of_other_formats_are_not_called_damaged(tmp_path, data, what):
  (tmp_path / 'a.png').write_bytes(data)
  with pytest.raises(
    UserError, match=f'a.png cannot be read: its content is {what}, .* save it as'
  ):
    images.read_image(tmp_path / 'a.png')
