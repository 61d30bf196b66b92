"""Masks of any size: whole, in batches, in tiles."""

import numpy as np
import pytest

from ssl_jax.inference.images import (
  ImagePredictor,
  predict_averaged,
  predict_labels,
  predict_many,
  predict_tiled,
  resize,
)
from ssl_jax.inference.sliding_window import WindowedPredictor


def _local(images):
  """A 'network' that looks at single pixels, and remembers what it was given."""
  seen.append(images.shape)
  return np.concatenate([images[..., :1], 1 - images[..., :1]], -1)


seen: list[tuple] = []


@pytest.fixture(autouse=True)
def _forget():
  seen.clear()


def _image(*size, seed=0):
  return np.random.default_rng(seed).random((*size, 3), np.float32)


def test_every_image_comes_back_at_its_own_size_and_place():
  images = [_image(*size, seed=i) for i, size in enumerate([(30, 41), (64, 64), (5, 7), (33, 40)])]
  predictions = dict(predict_many(_local, images, batch=2))
  assert sorted(predictions) == [0, 1, 2, 3]
  for index, image in enumerate(images):
    np.testing.assert_allclose(predictions[index][..., 0], image[..., 0])


def test_a_network_that_takes_any_size_sees_each_image_at_its_own():
  sizes = [(100, 120), (101, 119), (100, 120)]
  list(predict_many(_local, (_image(*size) for size in sizes), batch=2))
  # One program for each size: the image that is alone is shown twice.
  assert sorted(seen) == [(2, 100, 120, 3), (2, 101, 119, 3)]


def test_images_of_similar_sizes_share_a_program_of_a_network_with_levels():
  sizes = [(100 + i, 120 - i) for i in range(20)]
  images = [_image(*size, seed=i) for i, size in enumerate(sizes)]
  predictions = dict(predict_many(ImagePredictor(_local, 32), images, batch=4))
  assert set(seen) == {(4, 128, 128, 3)}
  for index, image in enumerate(images):
    np.testing.assert_allclose(predictions[index][..., 0], image[..., 0])


def test_images_are_reflected_at_the_bottom_and_right():
  shown = []

  def keep(images):
    shown.append(images)
    return images

  image = np.arange(15.0).reshape(3, 5, 1)
  list(predict_many(ImagePredictor(keep, 4), [image], batch=1))
  # 10 to 14 is the last row; after it comes the one before, and after 14 comes 13.
  np.testing.assert_array_equal(
    shown[0][0, 2:, :, 0], [[10, 11, 12, 13, 14, 13, 12, 11], [5, 6, 7, 8, 9, 8, 7, 6]]
  )


def test_large_images_go_fewer_at_a_time():
  list(predict_many(_local, [_image(64, 64)] * 5, batch=8, budget=3 * 64 * 64))
  assert seen == [(3, 64, 64, 3)] * 2


@pytest.mark.parametrize('size', [(200, 90), (64, 300), (65, 64)])
def test_tiles_equal_the_whole_for_a_local_operator(size):
  image = _image(*size)
  probs = predict_tiled(_local, image, budget=64 * 64)
  np.testing.assert_allclose(probs[..., 0], image[..., 0], rtol=1e-5)
  np.testing.assert_allclose(probs.sum(-1), 1, rtol=1e-5)
  assert all(np.prod(shape[1:3]) <= 64 * 64 for shape in seen)
  assert len(seen) > 1


def test_only_images_over_the_budget_are_tiled():
  images = [_image(64, 64), _image(64, 65)]
  predictions = dict(predict_many(_local, images, batch=1, budget=64 * 64))
  assert seen[0] == (1, 64, 64, 3)
  assert len(seen) == 3  # one whole, two tiles
  np.testing.assert_allclose(predictions[1][..., 0], images[1][..., 0], rtol=1e-5)


def test_borders_of_tiles_weigh_little():
  """Where a tile's border meets another tile's middle, the middle wins."""

  def spoilt(images):
    probs = np.zeros((*images.shape[:3], 2), np.float32)
    probs[..., 0] = 1
    probs[:, :, :2] = probs[:, :, -2:] = (0, 1)
    return probs

  probs = predict_tiled(spoilt, _image(64, 200), budget=64 * 64)
  assert probs[:, 2:-2].argmax(-1).max() == 0


def test_averaging_keeps_what_does_not_depend_on_scale_or_side():
  images = [np.full((*size, 3), 0.25, np.float32) for size in [(30, 41), (64, 64), (5, 7)]]
  predictions = dict(predict_averaged(_local, images, chunk=2))
  assert sorted(predictions) == [0, 1, 2]
  for index, probs in predictions.items():
    assert probs.shape == (*images[index].shape[:-1], 2)
    np.testing.assert_allclose(probs, np.float32([0.25, 0.75]) + 0 * probs, atol=1e-6)


def test_averaging_is_the_mean_over_scales_and_mirrored_copies():
  def leans(images):  # says where a pixel is: left 0, right 1
    right = np.arange(images.shape[2]) / images.shape[2]
    return np.broadcast_to(right[:, None], (*images.shape[:-1], 1)).astype(np.float32)

  image = _image(32, 32)
  ((_, once),) = predict_averaged(leans, [image], scales=(1.0,), flip=False)
  np.testing.assert_allclose(once[0, :, 0], np.arange(32) / 32, atol=1e-6)
  ((_, both),) = predict_averaged(leans, [image], scales=(1.0,))
  np.testing.assert_allclose(both, 31 / 64, atol=1e-6)
  ((_, scaled),) = predict_averaged(_local, [image], scales=(1.0, 2.0), flip=False)
  there_and_back = resize(resize(image[..., :1], (64, 64)), (32, 32))
  np.testing.assert_allclose(scaled[..., :1], (image[..., :1] + there_and_back) / 2, atol=1e-5)


def test_resize_aligns_corners():
  ramp = np.float32([0, 1, 2]).reshape(1, 3, 1)
  np.testing.assert_allclose(resize(ramp, (1, 5))[0, :, 0], [0, 0.5, 1, 1.5, 2], atol=1e-6)
  assert resize(_image(4, 6), (8, 3)).shape == (8, 3, 3)


def test_volumes_go_one_by_one_as_they_are():
  rng = np.random.default_rng(0)
  volumes = [rng.uniform(size=(*s, 3)).astype(np.float32) for s in ((9, 20, 17), (80, 33, 16))]
  predictions = dict(predict_many(_local, volumes, batch=2, budget=100))
  for index, volume in enumerate(volumes):
    np.testing.assert_allclose(predictions[index][..., 0], volume[..., 0], rtol=1e-5)
  assert seen == [(1, *volume.shape) for volume in volumes]


def test_averaging_over_scales_works_on_volumes():
  volume = np.full((8, 12, 10, 1), 0.25, np.float32)
  ((_, probs),) = predict_averaged(_local, [volume], scales=(1.0, 1.5))
  assert probs.shape[:3] == (8, 12, 10)
  np.testing.assert_allclose(probs[..., 0], 0.25, rtol=1e-5)


@pytest.mark.parametrize('kwargs', [{}, {'scales': (1.0, 1.5)}, {'flip': True}])
def test_labels_are_the_likeliest_classes_and_their_probabilities(kwargs):
  images = [_image(30, 41), _image(64, 64, seed=1)]
  averaged = dict(predict_averaged(_local, images, **{'scales': (1.0,), 'flip': False, **kwargs}))
  for index, ids, confidence in predict_labels(_local, images, **kwargs):
    np.testing.assert_array_equal(ids, averaged[index].argmax(-1))
    np.testing.assert_array_equal(confidence, averaged[index].max(-1))


@pytest.mark.parametrize('flip', [False, True])
def test_labels_of_volumes_come_from_windows(flip):
  rng = np.random.default_rng(0)
  volumes = [rng.uniform(size=(*s, 3)).astype(np.float32) for s in ((9, 20, 17), (30, 8, 16))]
  probs = list(predict_labels(WindowedPredictor(_local, (8, 8, 8)), volumes, flip=flip))
  assert [index for index, *_ in probs] == [0, 1]
  for index, ids, _ in probs:
    np.testing.assert_array_equal(ids, (volumes[index][..., 0] < 0.5).astype(np.uint8))
  assert set(seen) == {(1, 8, 8, 8, 3)}
