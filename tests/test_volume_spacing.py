"""The spacing that follows from the volumes."""

import numpy as np

from ssl_jax.data.volumes.volume_spacing import header_notes, median_spacing
from ssl_jax.io.formats.nifti_geometry import Geometry


def _geometry(*spacing, notes=()):
  return Geometry(np.eye(4), np.zeros((3, 2)), (8, 8, 8), spacing, 0, notes)


def test_it_is_the_median_of_each_axis():
  volumes = [_geometry(0.5, 0.6, 1.0), _geometry(0.7, 0.6, 1.1), _geometry(0.9, 0.8, 1.2)]
  assert median_spacing(volumes) == (0.7, 0.6, 1.1)


def test_micrometers_keep_their_digits():
  assert median_spacing([_geometry(*[float(np.float32(0.004))] * 3)] * 2) == (0.004, 0.004, 0.004)


def test_thick_slices_take_the_thinner_ones():
  """As nnU-Net: at the median, slices of half the volumes would be blurred."""
  volumes = [_geometry(1.0, 1.0, float(z)) for z in range(2, 13)]
  assert median_spacing(volumes) == (1.0, 1.0, 3.0)
  # Never thinner than the other axes.
  volumes = [_geometry(1.0, 1.0, z) for z in (0.2, *[5.0] * 5)]
  x, y, z = median_spacing(volumes)
  assert (x, y) == (1.0, 1.0)
  assert 1.0 <= z < 5


def test_files_of_one_note_are_named_together(tmp_path):
  tilted = _geometry(1.0, 1.0, 1.0, notes=('tilted',))
  volumes = {tmp_path / f'v{i}.nii': tilted for i in range(12)}
  volumes[tmp_path / 'good.nii'] = _geometry(1.0, 1.0, 1.0)
  (note,) = header_notes(volumes)
  assert note.startswith('v0.nii, v1.nii')
  assert note.endswith('v9.nii and 2 more: tilted')
