"""Whatever bytes a file holds, a reader returns an array or says in one sentence what is wrong.

A few hundred files in the ordinary run; `SSL_JAX_FUZZ_MINUTES=60 pytest tests/test_fuzz_readers.py`
goes on for so long.
"""

import io
import os
import time

import nibabel
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ssl_jax.data import point_annotations
from ssl_jax.data.masks.mask_facts import read_facts
from ssl_jax.errors import UserError
from ssl_jax.io import images, masks, nifti
from ssl_jax.io.formats.stored_image import Header

MINUTES = float(os.environ.get('SSL_JAX_FUZZ_MINUTES', '0'))
EXAMPLES = 1000 if MINUTES else 60
QUICK = settings(
  max_examples=EXAMPLES,
  deadline=None,
  database=None,
  suppress_health_check=list(HealthCheck),
  derandomize=not MINUTES,
)
SHAPE = (9, 7)


def _pillow(array, form, **kwargs):
  data = io.BytesIO()
  Image.fromarray(array).save(data, format=form, **kwargs)
  return data.getvalue()


def _tiff(array, **kwargs):
  data = io.BytesIO()
  tifffile.imwrite(data, array, **kwargs)
  return data.getvalue()


def _palette():
  image = Image.fromarray(np.arange(63, dtype=np.uint8).reshape(SHAPE) % 4, 'P')
  image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
  data = io.BytesIO()
  image.save(data, format='PNG')
  return data.getvalue()


def _nifti(array, packed=False, slope=None):
  image = nibabel.Nifti1Image(array, np.diag([1.0, 2.0, 3.0, 1.0]))
  if slope:
    image.header.set_slope_inter(slope, 0)
  data = image.to_bytes()
  if packed:
    import gzip

    return gzip.compress(data)
  return data


RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, SHAPE, np.uint8)
COLOR = RNG.integers(0, 256, (*SHAPE, 3), np.uint8)
DEEP = RNG.integers(0, 2**16, SHAPE, np.uint16)
IMAGES = {
  'gray.png': _pillow(GRAY, 'PNG'),
  'color.png': _pillow(COLOR, 'PNG'),
  'deep.png': _pillow(DEEP, 'PNG'),
  'alpha.png': _pillow(np.dstack([COLOR, GRAY]), 'PNG'),
  'palette.png': _palette(),
  'bit.png': _pillow(GRAY > 99, 'PNG'),
  'color.jpg': _pillow(COLOR, 'JPEG'),
  'gray.bmp': _pillow(GRAY, 'BMP'),
  'gray.tif': _tiff(GRAY),
  'deep.tif': _tiff(DEEP, compression='zlib'),
  'float.tif': _tiff(GRAY.astype(np.float32)),
  'bool.tif': _tiff(GRAY > 99),
  'planes.tif': _tiff(COLOR.transpose(2, 0, 1).copy(), photometric='rgb', planarconfig='separate'),
  'five.tif': _tiff(
    RNG.integers(0, 99, (5, *SHAPE), np.uint16), metadata={'axes': 'CYX'}, ome=True
  ),
  'tiles.tif': _tiff(np.zeros((32, 48), np.uint8), tile=(16, 16)),
  'big.tif': _tiff(GRAY, bigtiff=True),
}
CUBE = RNG.integers(0, 3, (4, 5, 3), np.uint8)
VOLUMES = {
  'a.nii': _nifti(CUBE),
  'b.nii.gz': _nifti(CUBE.astype(np.int16), packed=True),
  'c.nii.gz': _nifti(CUBE.astype(np.float32), packed=True),
  'd.nii': _nifti(CUBE.astype(np.int16), slope=0.5),
}
TABLE = b'x,y,class\n1.5,2,cell\n3,4,other\n'
HEADER = Header(20, 30, 1, np.dtype('uint8'))


@st.composite
def damaged(draw, files):
  """The name and bytes of a file, some of which were changed, cut out, doubled or put in."""
  name = draw(st.sampled_from(sorted(files)))
  data = bytearray(files[name])
  for _ in range(draw(st.integers(0, 4))):
    kind = draw(st.sampled_from(('byte', 'byte', 'cut', 'drop', 'double', 'insert')))
    place = draw(st.integers(0, max(len(data) - 1, 0)))
    if kind == 'byte' and data:
      data[place] = draw(st.integers(0, 255))
    elif kind == 'cut':
      del data[place:]
    elif kind == 'drop':
      del data[place : place + draw(st.integers(1, 40))]
    elif kind == 'double':
      data[place:place] = data[place : place + draw(st.integers(1, 40))]
    else:
      data[place:place] = draw(st.binary(max_size=20))
  return name, bytes(data)


def attempt(folder, name, data, *readers):
  """Calls readers of a file, which must return something or raise a UserError that names it."""
  path = folder / name
  path.write_bytes(data)
  for read in readers:
    try:
      read(path)
    except UserError as error:
      sentence = str(error)
      assert name in sentence, sentence
      assert '\n' not in sentence, sentence
  assert path.read_bytes() == data


def going_on(test):
  """Tries a property once with many files, or again and again until its minutes are over."""
  started = time.monotonic()
  test()
  while time.monotonic() - started < MINUTES * 60 / 3:
    test()


@pytest.fixture(autouse=True)
def small_limit(monkeypatch):
  # Of the sizes that damaged headers declare most are absurd, and memory is not what is tested.
  monkeypatch.setenv('SSL_JAX_MAX_MEGAPIXELS', '4')


def test_images_and_masks(tmp_path):
  @QUICK
  @given(damaged(IMAGES))
  def test(file):
    attempt(tmp_path, *file, images.read_header, images.read_image, masks.read_stored, read_facts)

  going_on(test)


def test_volumes_and_their_masks(tmp_path):
  @QUICK
  @given(damaged(VOLUMES))
  def test(file):
    attempt(tmp_path, *file, nifti.read_volume, nifti.read_channels, masks.read_stored, read_facts)

  going_on(test)


def test_tables_of_points(tmp_path):
  @QUICK
  @given(damaged({'p.csv': TABLE}) | st.tuples(st.just('p.csv'), st.binary(max_size=60)))
  def test(file):
    attempt(tmp_path, *file, lambda path: point_annotations.read_points(path, HEADER))

  going_on(test)
