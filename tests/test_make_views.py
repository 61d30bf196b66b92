import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from ssl_jax.types import IGNORE
from ssl_jax.views import geometry, make_views

pytestmark = pytest.mark.gpu

KEY = jax.random.key(0)
JITTER = dict(p=0.8, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.25)
WBC = dict(
  labeled=dict(source='labeled', resize_long_side=32, scale=(0.5, 2.0), flip=0.5),
  weak=dict(source='unlabeled', resize_long_side=32, scale=(0.5, 2.0), flip=0.5),
  strong=dict(
    source='weak',
    jitter=JITTER,
    grayscale=0.2,
    blur=dict(p=0.5, sigma=(0.1, 2.0)),
    cutout=dict(p=0.5, area=(0.02, 0.4), ratio=(0.3, 1 / 0.3)),
    cutmix=dict(p=0.5, area=(0.1, 0.5)),
  ),
)


def stream(sizes, canvas, channels=3, dtype=np.uint8, seed=0):
  """Images whose red channel is 40 times the label, below and right of them something bright."""
  rng = np.random.default_rng(seed)
  n = len(canvas)
  image = np.full((len(sizes), *canvas, channels), 255, dtype)
  label = np.full((len(sizes), *canvas), 7, np.uint8)
  for i, size in enumerate(sizes):
    window = (i, *(slice(s) for s in size))
    image[window] = rng.integers(1, 200, (*size, channels))
    label[window] = rng.integers(0, 5, size)
    image[(*window, 0)] = 40 * label[window] + 1
  assert all(len(size) == n for size in sizes)
  extent = np.asarray(sizes, np.int32)
  return dict(image=jnp.asarray(image), extent=jnp.asarray(extent), label=jnp.asarray(label))


def make(recipes, streams, size, key=KEY):
  return jax.jit(lambda streams, key: make_views.make_views(recipes, streams, size, key))(
    streams, key
  )


@functools.cache
def wbc():
  sizes = [(30 + i % 5, 36 - i % 7) for i in range(48)]
  streams = dict(labeled=stream(sizes, (40, 40)), unlabeled=stream(sizes, (40, 40), seed=1))
  del streams['unlabeled']['label']
  return streams, make(WBC, streams, 32)


@pytest.mark.parametrize('size', [(12, 12), (5, 12, 10)])
def test_all_off_at_native_size_is_exactly_the_image(size):
  data = stream([size] * 3, size)
  off = dict(
    source='labeled',
    resize_long_side=None,
    rotate=0,
    flip=0.0,
    scale=(1, 1),
    jitter=None,
    grayscale=0,
  )
  view = make(dict(view=off), dict(labeled=data), size)['view']
  # The last bit: under jit XLA multiplies by 1 / 255 where NumPy divides.
  np.testing.assert_array_max_ulp(np.asarray(view.image), np.float32(data['image']) / 255)
  np.testing.assert_array_equal(view.label, data['label'])
  assert view.valid.all()
  assert view.mix is None
  assert view.label.dtype == jnp.int32


def test_small_images_are_padded_and_large_ones_cropped():
  data = stream([(5, 7), (20, 20)], (20, 20))
  view = make(dict(view=dict(source='labeled')), dict(labeled=data), 9)['view']
  image, label = np.asarray(view.image), np.asarray(view.label)
  want = np.zeros((9, 9), bool)
  want[:5, :7] = True
  np.testing.assert_array_equal(view.valid[0], want)
  assert (image[0][~want] == 0).all()
  assert (label[0][~want] == IGNORE).all()
  np.testing.assert_array_equal(label[0][:5, :7], data['label'][0, :5, :7])
  row, column = np.asarray(view.geometry[1, :, -1], int)
  cut = np.asarray(data['image'])[1, row : row + 9, column : column + 9]
  np.testing.assert_array_max_ulp(image[1], np.float32(cut) / 255)


@pytest.mark.parametrize(('dtype', 'top'), [(np.uint16, 65535), (np.float32, 1)])
def test_images_of_other_types_end_in_zero_to_one(dtype, top):
  image = jnp.asarray(np.asarray([[0, top], [top, 0]], dtype))[None, ..., None]
  data = dict(image=image, extent=jnp.asarray([[2, 2]], jnp.int32))
  view = make(dict(view=dict(source='unlabeled')), dict(unlabeled=data), 2)['view']
  np.testing.assert_array_equal(view.image[0, ..., 0], [[0, 1], [1, 0]])
  assert view.label is None


def test_label_and_valid_follow_the_image():
  blocks = np.kron(np.random.default_rng(0).integers(0, 5, (2, 5, 5)), np.ones((8, 8), int))
  image = np.repeat(40 * blocks[..., None], 3, -1).astype(np.uint8)
  data = dict(
    image=jnp.asarray(image),
    extent=jnp.full((2, 2), 40, jnp.int32),
    label=jnp.asarray(blocks, jnp.uint8),
  )
  recipes = dict(
    view=dict(source='labeled', scale=(0.8, 2), rotate=180, flip=0.5, flip_vertical=0.5)
  )
  view = make(recipes, dict(labeled=data), 48)['view']
  levels = np.asarray(view.image[..., 0]) * 255 / 40
  pure = np.abs(levels - np.round(levels)) < 1e-3  # away from the edges of blocks
  valid = np.asarray(view.valid)
  agree = np.round(levels) == np.asarray(view.label)
  assert (pure & valid).mean() > 0.4
  assert agree[pure & valid].mean() > 0.99  # a mix of two levels may look like a third
  assert (np.asarray(view.label)[~valid] == IGNORE).all()


def test_a_view_of_a_view_shares_its_geometry_or_composes_it():
  data = stream([(24, 24)] * 4, (24, 24))
  recipes = dict(
    turned=dict(source='weak', rotate=90, flip=1.0),  # the order of the recipes does not matter
    strong=dict(source='weak', jitter=JITTER),
    weak=dict(source='unlabeled', resize_long_side=20, flip=0.5),
  )
  shared = []

  def build(streams, key):
    views = make_views.make_views(recipes, streams, 16, key)
    shared.append(views['strong'].geometry is views['weak'].geometry)
    warped = geometry.warp(views['weak'].label, views['weak'], views['turned'], fill=IGNORE)
    return views, warped

  views, (warped, seen) = jax.jit(build)(dict(unlabeled=data), KEY)
  assert shared == [True]
  direct = geometry.sample(
    data['image'],
    geometry.locate(views['turned'].geometry, (16, 16)),
    data['extent'],
    nearest=False,
  )
  want = jnp.where(views['turned'].valid[..., None], direct / 255, 0)
  np.testing.assert_allclose(views['turned'].image, want, atol=1e-5)
  direct_label = views['turned'].label
  # Twice nearest against once: they may differ where a pixel's center meets an edge.
  assert (warped == direct_label)[np.asarray(seen)].mean() > 0.6
  assert 0.3 < seen.mean() < 1


def test_strong_view_of_the_wbc_recipe():
  streams, views = wbc()
  weak, strong = views['weak'], views['strong']
  assert set(views) == {'labeled', 'weak', 'strong'}
  assert views['labeled'].label is not None
  assert weak.label is None
  for view in views.values():
    assert view.image.shape == (48, 32, 32, 3)
    assert 0 <= view.image.min() <= view.image.max() <= 1
    assert np.isfinite(view.image).all()
  assert (np.asarray(weak.image)[~np.asarray(weak.valid)] == 0).all()
  long = streams['unlabeled']['extent'].max(-1) / jnp.abs(weak.geometry[:, 0, 0])
  assert 15 < long.min() < long.max() < 66
  changed = (strong.image != weak.image).any((1, 2, 3))
  assert changed.mean() > 0.8


def test_labels_follow_cutout_and_cutmix():
  streams, _ = wbc()
  recipes = dict(
    view=dict(source='labeled', cutout=dict(p=0.5), cutmix=dict(p=0.7, area=(0.1, 0.5)))
  )
  plain = make(dict(view=dict(source='labeled')), streams, 32)['view']
  view = make(recipes, streams, 32)['view']
  np.testing.assert_array_equal(
    view.geometry, plain.geometry
  )  # one augmentation more changes no other draw
  partner, pasted = np.asarray(view.mix.partner), np.asarray(view.mix.pasted)
  assert (partner != np.arange(48)).all()
  assert sorted(partner) == list(range(48))
  assert abs(pasted.any((1, 2)).mean() - 0.7) < 0.2
  label = np.where(pasted, np.asarray(plain.label)[partner], plain.label)
  image = np.where(pasted[..., None], np.asarray(plain.image)[partner], plain.image)
  valid = np.asarray(view.valid)
  np.testing.assert_array_equal(np.asarray(view.label)[valid], label[valid])
  np.testing.assert_array_equal(np.asarray(view.image)[valid], image[valid])
  assert (np.asarray(view.label)[~valid] == IGNORE).all()
  within = np.where(pasted, np.asarray(plain.valid)[partner], plain.valid)
  cut = ~valid & within
  np.testing.assert_array_equal(np.asarray(view.cut) & within, cut)
  assert plain.cut is None
  noise = np.asarray(view.image)[cut]
  assert abs(noise.mean() - 0.5) < 0.02
  assert abs(noise.std() - 12**-0.5) < 0.02


def test_a_batch_of_one_has_no_partner():
  data = stream([(8, 8)], (8, 8))
  view = make(dict(view=dict(source='labeled', cutmix=dict(p=1.0))),
              dict(labeled=data), 8)['view']  # fmt: skip
  assert not view.mix.pasted.any()
  np.testing.assert_array_equal(view.label, data['label'])


def test_warp_brings_a_prediction_on_the_strong_view_back():
  streams, _ = wbc()
  recipes = dict(
    weak=dict(source='labeled', resize_long_side=40, flip=0.5),
    strong=dict(source='weak', cutmix=dict(p=0.5, area=(0.1, 0.5))),
  )

  def build(streams, key):
    views = make_views.make_views(recipes, streams, 32, key)
    weak, strong = views['weak'], views['strong']
    there, seen = geometry.warp(weak.label, weak, strong)
    return views, there, seen, geometry.warp(there, strong, weak)

  views, there, seen, (back, back_seen) = jax.jit(build)(streams, KEY)
  np.testing.assert_array_equal(there, views['strong'].label)
  np.testing.assert_array_equal(seen, views['strong'].valid)
  is_own = np.asarray(views['weak'].valid & ~views['strong'].mix.pasted)
  np.testing.assert_array_equal(back_seen, is_own)
  np.testing.assert_array_equal(np.asarray(back)[is_own], np.asarray(views['weak'].label)[is_own])


def test_same_key_same_views_other_key_other_views():
  streams, views = wbc()
  again = make(ConfigDict(WBC), streams, (32, 32))  # sorts its keys: strong before weak
  assert set(again) == set(views)
  chex.assert_trees_all_equal(again, views)
  other = make(WBC, streams, 32, jax.random.key(1))
  assert (other['weak'].geometry != views['weak'].geometry).any()
  assert (views['weak'].geometry != views['labeled'].geometry).any()


def test_everything_works_on_volumes():
  data = stream([(6, 14, 16)] * 3, (8, 16, 16), channels=1)
  recipes = dict(
    weak=dict(source='labeled', resize_long_side=18, rotate=20, flip=0.5),
    strong=dict(
      source='weak',
      blur=dict(sigma=(0.1, 1.0)),
      cutout=dict(p=1.0),
      cutmix=dict(p=1.0, area=(0.1, 0.5)),
    ),
  )

  def build(streams, key):
    views = make_views.make_views(recipes, streams, (5, 12, 12), key)
    return views, geometry.warp(views['weak'].label, views['weak'], views['strong'])

  views, (warped, seen) = jax.jit(build)(dict(labeled=data), KEY)
  strong = views['strong']
  assert strong.image.shape == (3, 5, 12, 12, 1)
  both = np.asarray(seen & strong.valid)
  assert 0.2 < both.mean() < 1
  np.testing.assert_array_equal(np.asarray(warped)[both], np.asarray(strong.label)[both])


def _half_marked(count=40):
  """Images whose left half is a cell."""
  label = np.zeros((count, 32, 32), np.uint8)
  label[:, :, :16] = 1
  label[:, :2] = IGNORE
  image = np.repeat(label[..., None] * 100, 3, -1)
  return {'image': image, 'label': label, 'extent': np.full((count, 2), 32, np.int32)}


@pytest.mark.parametrize('tries', [1, 6])
def test_a_crop_that_shows_too_little_does_not_count(tries):
  recipe = dict(source='labeled', flip=0.5, prominence=dict(min_fraction=0.5, tries=tries))
  view = make({'v': recipe}, {'labeled': _half_marked()}, 8)['v']
  label = np.asarray(view.label)
  counted = ~(label == IGNORE).all((1, 2))
  marked = (label == 1).mean((1, 2))
  assert (marked[counted] >= 0.5).all()
  shown = np.asarray(view.image[..., 0] > 0.1).mean((1, 2))
  if tries == 1:
    assert 0 < counted.sum() < len(label)
    assert (shown[~counted] < 0.9).any()  # of what does not count the image is still there
    return
  alone = make(
    {'v': recipe | dict(prominence=dict(min_fraction=0.5, tries=1))}, {'labeled': _half_marked()}, 8
  )
  first = ~(np.asarray(alone['v'].label) == IGNORE).all((1, 2))
  assert counted.sum() > first.sum()
  np.testing.assert_array_equal(
    label[first], np.asarray(alone['v'].label)[first]
  )  # the first stays


def test_without_prominence_crops_are_as_they_were():
  streams = {'labeled': _half_marked(4)}
  plain = make({'v': dict(source='labeled', flip=0.5)}, streams, 8)['v']
  free = dict(source='labeled', flip=0.5, prominence=dict(min_fraction=0.0, tries=3))
  prominent = make({'v': free}, streams, 8)['v']
  np.testing.assert_array_equal(plain.image, prominent.image)
  np.testing.assert_array_equal(plain.label, prominent.label)
