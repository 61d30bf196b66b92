"""The channels and numbers of a data set's images: one number for all, ranges for each, notes."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from ssl_jax.datasets import folder
from ssl_jax.errors import UserError

RNG = np.random.default_rng(0)


def pixels(channels, dtype=np.uint8, top=200):
  shape = (12, 10, channels) if channels > 1 else (12, 10)
  return RNG.integers(0, top, shape).astype(dtype)


def add(root, name, array, role='labeled', **options):
  """An image, with a mask where it is labeled."""
  place = root / role / 'images' if role != 'unlabeled' else root / role
  place.mkdir(parents=True, exist_ok=True)
  if name.endswith('.png'):
    Image.fromarray(array).save(place / name, **options)
  else:
    tifffile.imwrite(place / name, array, **({'photometric': 'minisblack'} | options))
  if role != 'unlabeled':
    masks = root / role / 'masks'
    masks.mkdir(exist_ok=True)
    mask = np.zeros((12, 10), np.uint8)
    mask[2:5, 2:5] = 1
    Image.fromarray(mask).save(masks / f'{name.rpartition(".")[0]}.png')


def load(root, **kwargs):
  more = {'unlabeled': root / 'unlabeled'} if (root / 'unlabeled').exists() else {}
  return folder.load(labeled=root / 'labeled', test_fraction=0, **more, **kwargs)


def test_images_of_other_channels_are_named(tmp_path):
  add(tmp_path, 'two.tif', pixels(2), planarconfig='contig')
  add(tmp_path, 'one.tif', pixels(1), role='unlabeled')
  with pytest.raises(
    UserError, match=r'one\.tif has 1 channel \(gray\) and .*two\.tif has 2 chann'
  ):
    load(tmp_path)


def test_gray_is_repeated_to_colors_and_not_to_stains(tmp_path):
  add(tmp_path, 'three.png', pixels(3))
  add(tmp_path, 'gray.png', pixels(1), role='unlabeled')
  splits = load(tmp_path)
  assert splits.unlabeled[0]['image'].shape[-1] == 3
  assert 'gray and RGB images are mixed: gray ones are repeated to RGB' in splits.notes
  assert splits.kind.layouts == ('RGB', 'grey')
  add(tmp_path / 'b', 'stains.tif', np.moveaxis(pixels(3), -1, 0), metadata={'axes': 'CYX'})
  assert any('3 channels that are no colors' in note for note in load(tmp_path / 'b').notes)
  add(tmp_path / 'b', 'gray.png', pixels(1), role='unlabeled')
  with pytest.raises(UserError, match=r'gray\.png has 1 .*stains\.tif has 3 channels; all images'):
    load(tmp_path / 'b')


def test_each_stain_has_its_own_range(tmp_path):
  dim, bright = pixels(1, np.uint16), pixels(1, np.uint16, 60_000)
  for name in ('a.tif', 'b.tif'):
    add(tmp_path, name, np.stack([dim, bright], -1), planarconfig='contig')
  splits = load(tmp_path, percentiles=(0, 100))
  assert splits.intensity == ((dim.min(), dim.max()), (bright.min(), bright.max()))
  image = splits.labeled[0]['image']
  np.testing.assert_allclose(image.min((0, 1)), 0)
  np.testing.assert_allclose(image.max((0, 1)), 1)
  assert any('(of each channel)' in note for note in splits.notes)
  assert any('pictures show magenta and green' in note for note in splits.notes)


def test_colors_share_a_range(tmp_path):
  deep = pixels(3, np.uint16) * np.array([1, 2, 3], np.uint16)
  add(tmp_path, 'a.tif', deep, photometric='rgb')
  assert load(tmp_path, percentiles=(0, 100)).intensity == (deep.min(), deep.max())


def test_what_was_changed_is_said_once_with_the_number_of_files(tmp_path):
  for name in ('a.tif', 'b.tif', 'c.tif'):
    add(tmp_path, name, pixels(1), photometric='miniswhite')
  glass = np.dstack([pixels(1), np.full((12, 10), 99, np.uint8)])
  add(tmp_path, 'glass.png', glass, role='unlabeled')
  opaque = np.dstack([pixels(1), np.full((12, 10), 255, np.uint8)])
  add(tmp_path, 'opaque.png', opaque, role='unlabeled')
  notes = load(tmp_path).notes
  assert 'a.tif and 2 more: inverted, because the file stores white as 0' in notes
  assert 'glass.png: alpha dropped, though some pixels are transparent' in notes


def test_a_role_on_another_scale_is_doubted(tmp_path):
  add(tmp_path, 'a.tif', pixels(1, np.float32) / 200)
  for number in range(9):
    add(tmp_path, f'{number}.tif', pixels(1, np.float32) * 20, role='unlabeled')
  assert any(
    note.startswith('labeled images (such as a.tif) hardly overlap')
    for note in load(tmp_path).notes
  )


def test_a_fill_value_that_makes_the_range_is_said(tmp_path):
  def notes_of(root, change):
    for index in range(4):
      values = RNG.random((12, 10), np.float32)
      add(root, f'{index}.tif', change(values))
    notes = folder.load(labeled=root / 'labeled').notes
    return [note for note in notes if 'flat gray' in note]

  def filled(values):
    values[:, :3] = -9999
    return values

  (note,) = notes_of(tmp_path / 'a', filled)
  assert note.startswith('0.tif holds 36 pixels of -9999 and all others between 0.')

  def spot(values):
    values[:5, :5] = 40_000 + 9000 * values[:5, :5]
    return values

  # A few bright pixels of several values are what the image shows.
  assert notes_of(tmp_path / 'b', spot) == []
  assert notes_of(tmp_path / 'c', lambda values: values) == []
