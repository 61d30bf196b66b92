"""Sliding windows: the same as on the whole volume, whatever the batch, in bounded memory."""

import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from ssl_jax.inference import sliding_window, window_defaults


def local(windows):
  """Each voxel's classes from itself and its neighbors in a window."""
  blurred = np.stack([ndimage.uniform_filter(x[..., 0], 3, mode='nearest') for x in windows])
  return np.stack([blurred, 1 - blurred, 0.5 + 0 * blurred], -1).astype(np.float32)


def pointwise(windows):
  return np.concatenate([windows, 1 - windows, 0 * windows + 0.4], -1)


def _volume(*shape, seed=0):
  return np.random.default_rng(seed).uniform(size=(*shape, 1)).astype(np.float32)


@pytest.mark.parametrize('blend', window_defaults.BLENDS)
@pytest.mark.parametrize('shape', [(20, 17, 9), (8, 8, 8), (5, 20, 3)])
def test_a_local_operator_gives_the_same_as_on_the_whole(shape, blend):
  volume = _volume(*shape)
  ids = sliding_window.predict_volume(pointwise, volume, (8, 6, 4), 0.25, blend)
  np.testing.assert_array_equal(ids, pointwise(volume[None])[0].argmax(-1))
  assert ids.dtype == np.uint8


def test_neighbors_are_seen_where_windows_overlap_enough():
  volume = ndimage.gaussian_filter(_volume(24, 20, 16), (2, 2, 2, 0))
  volume = (volume - volume.min()) / np.ptp(volume)
  whole = local(volume[None])[0].argmax(-1)
  ids = sliding_window.predict_volume(local, volume, (12, 12, 12), 0.5, 'gaussian')
  assert (ids == whole).mean() > 0.995


@pytest.mark.parametrize('shape', [(20, 17, 9), (8, 6, 4), (5, 20, 3)])
def test_networks_see_windows_alone(shape):
  calls = []

  def predict_fn(windows):
    calls.append(windows.shape)
    return pointwise(windows) / (1.4)

  volumes = np.stack([_volume(*shape), _volume(*shape, seed=1)])
  probs = sliding_window.WindowedPredictor(predict_fn, (8, 6, 4))(volumes)
  np.testing.assert_allclose(probs, pointwise(volumes) / 1.4, rtol=1e-5)
  assert {call[1:] for call in calls} == {(8, 6, 4, 1)}


@pytest.mark.parametrize('batch', [2, 3, 7])
def test_the_batch_changes_nothing(batch):
  volume, calls = _volume(19, 14, 11), []

  def predict_fn(windows):
    calls.append(windows.shape)
    return local(windows)

  alone = sliding_window.predict_volume(predict_fn, volume, (8, 8, 8), 0.5, 'gaussian')
  calls.clear()
  np.testing.assert_array_equal(
    sliding_window.predict_volume(predict_fn, volume, (8, 8, 8), 0.5, 'gaussian', batch), alone
  )
  assert set(calls) == {(batch, 8, 8, 8, 1)}  # one program


def test_every_voxel_is_covered_and_neighbors_share_their_part():
  for length in range(8, 60):
    starts = sliding_window.window_starts(length, 8, 0.25)
    assert starts[0] == 0
    assert starts[-1] == length - 8
    assert max(np.diff(starts), default=0) <= 6


@pytest.mark.parametrize(
  ('predict', 'bytes_a_voxel'),
  [
    (lambda volume: sliding_window.predict_volume(pointwise, volume, (8, 8, 8)), 1),
    (lambda volume: sliding_window.WindowedPredictor(pointwise, (8, 8, 8)).labels(volume), 5),
  ],
)
def test_host_memory_grows_by_the_result_alone(predict, bytes_a_voxel):
  """Beyond the result a longer volume needs nothing: the slab is as thick as the window."""
  peaks = {}
  for length in (50, 500):
    volume = _volume(length, 24, 24)
    tracemalloc.start()
    predict(volume)
    peaks[length] = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
  more = (500 - 50) * 24 * 24
  assert peaks[500] - peaks[50] < (bytes_a_voxel + 2) * more  # all probabilities: 12 more


@pytest.mark.parametrize('shape', [(20, 17, 9), (8, 6, 4), (5, 20, 3)])
def test_labels_are_the_likeliest_classes_of_the_whole(shape):
  predictor = sliding_window.WindowedPredictor(lambda windows: local(windows) / 1.5, (8, 6, 4))
  volume = _volume(*shape)
  (probs,) = predictor(volume[None])
  ids, confidence = predictor.labels(volume)
  np.testing.assert_array_equal(ids, probs.argmax(-1))
  np.testing.assert_allclose(confidence, probs.max(-1), rtol=1e-5)
  assert (ids.dtype, confidence.dtype) == (np.uint8, np.float32)
