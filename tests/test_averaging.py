"""The mean of networks and of copies of an image, and how far they disagree."""

import numpy as np
import pytest
from scipy import stats

from ssl_jax.inference import averaging
from ssl_jax.inference.images import ImagePredictor, predict_tiled
from ssl_jax.inference.sliding_window import WindowedPredictor, predict_probabilities


def of_pixels(batch):
  """A network that sees each pixel by itself."""
  return np.concatenate([batch, 1 - batch], -1)


def of_rows(batch):
  """A network that is fooled by what is up: its prediction falls from row to row."""
  falling = np.linspace(1, 0, batch.shape[1], dtype=np.float32)[None, :, None, None]
  first = np.broadcast_to(falling, (*batch.shape[:3], 1))
  return np.concatenate([first, 1 - first], -1)


def images(*shape):
  return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


@pytest.mark.parametrize(
  ('dimensions', 'turned', 'count'), [(2, False, 4), (2, True, 8), (3, False, 8)]
)
def test_every_copy_comes_back_to_its_place(dimensions, turned, count):
  batch = images(2, *(5, 7, 6)[:dimensions], 3)
  copies = averaging.copies_of(dimensions, turned)
  assert copies[0] == averaging.AS_IS
  assert len({copy.of(batch).tobytes() for copy in copies}) == len(copies) == count
  for copy in copies:
    np.testing.assert_array_equal(copy.undone(copy.of(batch)), batch)


def test_what_depends_on_the_position_alone_cancels_out():
  batch = images(1, 6, 6, 1)
  mirrored = averaging.average([of_rows], averaging.copies_of(2, False))
  np.testing.assert_allclose(mirrored(batch), 0.5, atol=1e-6)
  pixels = averaging.average([of_pixels], averaging.copies_of(2, True))
  np.testing.assert_allclose(pixels(batch), of_pixels(batch), atol=1e-6)


def test_networks_of_images_are_padded_once_for_all():
  networks = [ImagePredictor(of_pixels, 4), ImagePredictor(of_rows, 6)]
  both = averaging.average(networks)
  assert both.multiple == 12
  batch = images(2, 12, 12, 1)
  expected = np.mean([of_pixels(batch), of_rows(batch)], 0)
  np.testing.assert_array_equal(both(batch), expected)


def test_cells_are_averaged_by_the_names_of_their_outputs():
  def one(batch):
    return {'class': batch.mean((1, 2)), 'x': np.full(len(batch), 0.2)}

  def other(batch):
    return {'class': 1 - batch.mean((1, 2)), 'x': np.full(len(batch), 0.6)}

  outputs = averaging.average([one, other])(images(3, 4, 4, 2))
  np.testing.assert_allclose(outputs['class'], 0.5)
  np.testing.assert_allclose(outputs['x'], 0.4)


def test_entropy_is_that_of_scipy_as_a_fraction():
  probs = np.array([[0.7, 0.2, 0.1], [1, 0, 0], [1 / 3, 1 / 3, 1 / 3]], np.float32)
  expected = stats.entropy(probs, axis=-1) / np.log(3)
  np.testing.assert_allclose(averaging.entropy(probs), expected, atol=1e-6)
  assert averaging.entropy(probs)[1] == 0
  assert averaging.entropy(probs)[2] == pytest.approx(1)


def test_networks_that_are_sure_of_different_things_disagree():
  sure = np.array([[1.0, 0.0]], np.float32)
  opposite = sure[:, ::-1]
  unsure = np.full((1, 2), 0.5, np.float32)
  for pair, disagreement in (((sure, opposite), 1), ((unsure, unsure), 0), ((sure, sure), 0)):
    mean_entropy = np.mean([averaging.entropy(probs) for probs in pair], 0)
    found = averaging.disagreement(np.mean(pair, 0), mean_entropy)
    np.testing.assert_allclose(found, disagreement, atol=1e-6)


def test_the_spread_goes_through_tiles_and_windows():
  networks = [ImagePredictor(of_pixels, 1), ImagePredictor(lambda x: of_pixels(x)[..., ::-1], 1)]
  image = images(70, 90, 1)
  both = averaging.average(networks, spread=True)
  probs, mean_entropy = averaging.split(predict_tiled(both, image, 32 * 32), True)
  np.testing.assert_allclose(probs, 0.5, atol=1e-5)
  expected = averaging.entropy(of_pixels(image))
  np.testing.assert_allclose(mean_entropy, expected, atol=1e-5)
  windowed = [WindowedPredictor(network.predict_fn, (4, 4, 4)) for network in networks]
  both = averaging.average(windowed, averaging.copies_of(3, False), spread=True)
  assert isinstance(both, WindowedPredictor)
  volume = images(7, 9, 5, 1)
  found = predict_probabilities(both, volume, (4, 4, 4), more=1)
  probs, mean_entropy = averaging.split(found, True)
  np.testing.assert_allclose(probs, 0.5, atol=1e-5)
  np.testing.assert_allclose(mean_entropy, averaging.entropy(of_pixels(volume)), atol=1e-5)
