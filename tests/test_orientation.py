"""Orientation tags: images are upright, and masks lie on them however they were drawn."""

import numpy as np
import pytest
from PIL import Image

from ssl_jax.data.masks import orientation
from ssl_jax.datasets import folder
from ssl_jax.errors import UserError
from ssl_jax.io import image_decoding
from ssl_jax.io.formats import stored_image

RNG = np.random.default_rng(0)


def add(root, name, size=(24, 24), tag=6, drawn='stored', mask_tag=1, role='labeled'):
  """An image that shows its mask, as a file that is turned by its tag."""
  mask = np.zeros(size, np.uint8)
  mask[2:9, 3:20] = 1
  stored = mask * 200 + RNG.integers(0, 9, size).astype(np.uint8)
  path = root / role / 'images' / f'{name}.jpg'
  for kind in ('images', 'masks'):
    (root / role / kind).mkdir(parents=True, exist_ok=True)
  _save(path, stored, tag, quality=100)
  if drawn == 'upright':
    mask = stored_image.turn(mask, tag)
  _save(root / role / 'masks' / f'{name}.png', mask, mask_tag)


def _save(path, pixels, tag, **options):
  image = Image.fromarray(pixels)
  exif = image.getexif()
  if tag != 1:
    exif[image_decoding.ORIENTATION_TAG] = tag
  image.save(path, exif=exif, **options)


def overlap(source):
  """The mean intersection over union of masks and what is bright in their images."""
  scores = []
  for index in range(len(source)):
    record = source[index]
    bright = record['image'][..., 0] > 100
    scores.append((bright & (record['label'] == 1)).sum() / (bright | (record['label'] == 1)).sum())
  return np.mean(scores)


def load(root, **kwargs):
  return folder.load(labeled=root / 'labeled', test_fraction=0, **kwargs)


def notes_on(splits):
  return [note for note in splits.notes if 'orientation' in note]


@pytest.mark.parametrize('tag', range(2, 9))
@pytest.mark.parametrize('drawn', ['stored', 'upright'])
def test_the_setting_says_how_square_masks_were_drawn(tmp_path, tag, drawn):
  add(tmp_path, 'a', tag=tag, drawn=drawn)
  with pytest.raises(
    UserError, match=rf'a\.jpg has the orientation tag {tag}.*its mask a\.png'
  ) as e:
    load(tmp_path)
  # The advice of the message is followed.
  choice = 'stored' if drawn == 'stored' else 'tag'
  assert f"data.orientation='{choice}'" in str(e.value)
  splits = load(tmp_path, orientation=choice)
  assert overlap(splits.labeled) > 0.95
  assert splits.kind.masks_stored == (drawn == 'stored')
  assert any(f'as data.orientation={choice!r} says' in note for note in notes_on(splits))


@pytest.mark.parametrize('drawn', ['stored', 'upright'])
def test_sizes_tell_and_decide_for_square_ones_too(tmp_path, drawn):
  add(tmp_path, 'a', (24, 32), drawn=drawn)
  splits = load(tmp_path)
  assert splits.labeled[0]['image'].shape[:2] == (32, 24)
  assert overlap(splits.labeled) > 0.95
  assert any('as their sizes show' in note for note in notes_on(splits))
  add(tmp_path, 'b', (24, 24), drawn=drawn)
  splits = load(tmp_path)
  assert overlap(splits.labeled) > 0.95
  assert any('as the sizes of other masks show' in note for note in notes_on(splits))


def test_masks_that_disagree_are_taken_each_as_it_fits(tmp_path):
  add(tmp_path, 'a', (24, 32), drawn='stored')
  add(tmp_path, 'b', (24, 32), drawn='upright')
  splits = load(tmp_path)
  assert overlap(splits.labeled) > 0.95
  assert len(notes_on(splits)) == 3  # the images, and each form of masks
  assert not splits.kind.masks_stored
  add(tmp_path, 'c', (24, 24))
  with pytest.raises(UserError, match=r'c\.jpg has the orientation tag'):
    load(tmp_path)


@pytest.mark.parametrize('size', [(24, 24), (24, 32)])
def test_a_mask_with_the_tag_of_its_image_needs_no_setting(tmp_path, size):
  add(tmp_path, 'a', size, mask_tag=6)
  splits = load(tmp_path)
  assert overlap(splits.labeled) > 0.95
  assert notes_on(splits) == ['a.jpg: turned upright, as the orientation tag says']


@pytest.mark.parametrize('drawn', ['stored', 'tag'])
def test_a_tag_of_the_mask_alone(tmp_path, drawn):
  add(tmp_path, 'a', tag=1, mask_tag=6 if drawn == 'stored' else 1)
  if drawn == 'tag':  # the file of the mask is turned against its tag
    mask = np.asarray(Image.open(tmp_path / 'labeled/masks/a.png'))
    _save(tmp_path / 'labeled/masks/a.png', stored_image.turn_back(mask, 6), 6)
  with pytest.raises(UserError, match=r'has the orientation tag 1 and its mask a\.png has 6'):
    load(tmp_path)
  assert overlap(load(tmp_path, orientation=drawn).labeled) > 0.95


def test_images_without_tags_need_nothing(tmp_path):
  add(tmp_path, 'a', tag=1)
  splits = load(tmp_path)
  assert overlap(splits.labeled) > 0.95
  assert not notes_on(splits)
  with pytest.raises(UserError, match=r"data\.orientation='up' is not one of auto, tag, stored"):
    load(tmp_path, orientation='up')
  assert orientation.CHOICES[0] == 'auto'
