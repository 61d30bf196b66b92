"""From a volume to what a network sees, and back."""

import nibabel
import numpy as np
import pytest

from ssl_jax.data import volume_preprocessing
from ssl_jax.errors import UserError
from ssl_jax.io import nifti

CT = volume_preprocessing.Preparation(spacing=(1.0, 1.0, 1.0), window=(-300.0, 300.0), above=0.0)
NATIVE = CT._replace(spacing=None)


def _volume(tmp_path, spacing=(1.0, 1.0, 2.0), shape=(12, 14, 9)):
  voxels = np.full(shape, -1000, np.int16)
  voxels[2:10, 3:12, 1:8] = np.random.default_rng(0).integers(1, 200, (8, 9, 7))
  voxels[4, 5, 3] = 900
  nibabel.save(nibabel.Nifti1Image(voxels, np.diag([*spacing, 1.0])), tmp_path / 'a.nii.gz')
  return nifti.read_volume(tmp_path / 'a.nii.gz'), voxels


def test_an_image_is_cropped_resampled_and_scaled(tmp_path):
  volume, voxels = _volume(tmp_path)
  place = CT.place(volume)
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
  image = how.image(volume, how.place(volume))
  assert np.mean(image == 0) == pytest.approx(0.05, abs=0.02)
  assert np.mean(image == 1) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize('above', [0.0, None])
def test_labels_go_there_and_back(tmp_path, above):
  volume, voxels = _volume(tmp_path, spacing=(2.0, 2.0, 2.0))
  ids = ((voxels > 100) * 2).astype(np.uint8)
  how = CT._replace(above=above)  # 1 mm: each voxel becomes eight
  place = how.place(volume)
  prepared = how.labels(ids, volume, place)
  assert prepared.shape == how.image(volume, place).shape[:3]
  np.testing.assert_array_equal(how.back(prepared, place), ids)


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
    volume_preprocessing.Preparation(**knobs).check()
