"""From a volume to what a network sees, and back."""

import nibabel
import numpy as np
import pytest

from ssl_jax.data.volume_preprocessing import (
  VolumePreprocessing,
  foreground_box,
  resample,
  resampled_size,
  scale_window,
)
from ssl_jax.errors import UserError
from ssl_jax.io import nifti

CT = VolumePreprocessing(spacing=(1.0, 1.0, 1.0), window=(-300.0, 300.0), foreground_threshold=0.0)
NATIVE = CT._replace(spacing=None)


def _volume(tmp_path, spacing=(1.0, 1.0, 2.0), shape=(12, 14, 9)):
  voxels = np.full(shape, -1000, np.int16)
  voxels[2:10, 3:12, 1:8] = np.random.default_rng(0).integers(1, 200, (8, 9, 7))
  voxels[4, 5, 3] = 900
  nibabel.save(nibabel.Nifti1Image(voxels, np.diag([*spacing, 1.0])), tmp_path / 'a.nii.gz')
  return nifti.read_volume(tmp_path / 'a.nii.gz'), voxels


def test_an_image_is_cropped_resampled_and_scaled(tmp_path):
  volume, voxels = _volume(tmp_path)
  place = CT.placement(volume)
  assert place == ((12, 14, 9), ((2, 10), (3, 12), (1, 8)))
  image = CT.image(volume, place)
  assert image.shape == (14, 9, 8, 1)  # z at 1 mm, y, x
  assert image.dtype == np.float32
  native = NATIVE.image(volume, place)
  assert native.shape == (7, 9, 8, 1)
  expected = (voxels[2:10, 3:12, 1:8].T + 300) / 600
  expected[2, 2, 2] = 0  # 900 is outside the window
  np.testing.assert_allclose(native[..., 0], expected, atol=1e-6)
  clipped = NATIVE._replace(clip=True).image(volume, place)
  assert clipped[2, 2, 2, 0] == 1
  assert CT.image(volume, place, coarser=2.0).shape == (7, 5, 4, 1)


def test_without_a_window_each_volume_has_its_own_ends(tmp_path):
  volume, _ = _volume(tmp_path)
  how = NATIVE._replace(window=None, clip=True, percentiles=(5.0, 95.0))
  image = how.image(volume, how.placement(volume))
  assert np.mean(image == 0) == pytest.approx(0.05, abs=0.02)
  assert np.mean(image == 1) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize('foreground_threshold', [0.0, None])
def test_labels_go_there_and_back(tmp_path, foreground_threshold):
  volume, voxels = _volume(tmp_path, spacing=(2.0, 2.0, 2.0))
  ids = ((voxels > 100) * 2).astype(np.uint8)
  how = CT._replace(foreground_threshold=foreground_threshold)  # 1 mm: each voxel becomes eight
  place = how.placement(volume)
  prepared = how.labels(ids, volume, place)
  assert prepared.shape == how.image(volume, place).shape[:3]
  np.testing.assert_array_equal(how.restore(prepared, place), ids)


@pytest.mark.parametrize(
  ('knobs', 'says'),
  [
    (dict(spacing=(1.0, 0.0, 1.0)), 'data.spacing'),
    (dict(window=(300.0, -300.0)), 'data.window'),
    (dict(percentiles=(1.0,)), 'data.percentiles'),
  ],
)
def test_knobs_that_cannot_be_are_refused(knobs, says):
  with pytest.raises(UserError, match=says):
    VolumePreprocessing(**knobs).check()


def test_the_grid_is_rounded():
  assert resampled_size((122, 101, 7), (3.0, 0.5, 1.2), (1.0, 1.0, 1.0)) == [366, 51, 8]


def test_a_line_is_resampled_as_a_line():
  """Away from the edges, which go on flat."""
  ramp = np.broadcast_to(np.arange(12.0)[:, None, None], (12, 3, 2)).astype(np.float32)
  fine = resample(ramp, (24, 3, 2))
  np.testing.assert_allclose(fine[1:-1, 0, 0], (np.arange(24) + 0.5)[1:-1] / 2 - 0.5, atol=1e-5)
  np.testing.assert_allclose(resample(fine, (12, 3, 2))[1:-1], ramp[1:-1], atol=1e-5)


def test_labels_there_and_back_are_the_same():
  labels = np.random.default_rng(0).integers(0, 4, (9, 8, 7)).astype(np.uint8)
  fine = resample(labels, (27, 24, 21), nearest=True)
  assert fine.dtype == np.uint8
  np.testing.assert_array_equal(resample(fine, (9, 8, 7), nearest=True), labels)


def test_the_foreground_is_the_smallest_box():
  voxels = np.zeros((6, 7, 8))
  voxels[2, 3, 4] = voxels[4, 5, 4] = 1
  assert foreground_box(voxels) == (slice(2, 5), slice(3, 6), slice(4, 5))
  assert foreground_box(voxels, margin=2) == (slice(0, 6), slice(1, 7), slice(2, 7))
  assert foreground_box(0 * voxels) == (slice(0, 6), slice(0, 7), slice(0, 8))


def test_what_is_outside_the_window_becomes_nothing():
  voxels = np.array([-1000.0, -300.0, 0.0, 300.0, 301.0]).reshape(5, 1, 1)
  found = scale_window(voxels, -300, 300)
  np.testing.assert_allclose(found.ravel(), [0, 0, 0.5, 1, 0])
  clipped = scale_window(voxels, -300, 300, clip=True)
  np.testing.assert_allclose(clipped.ravel(), [0, 0, 0.5, 1, 1])
