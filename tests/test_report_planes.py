"""Three planes of a volume in one picture."""

import numpy as np

from ssl_jax.reports import report_planes
from ssl_jax.reports.report_planes import GAP, Place


def test_planes_go_through_what_is_marked_most():
  mask = np.zeros((4, 5, 6), np.uint8)
  mask[1, 2:4, 3] = 1
  mask[2, 3, 3] = 2
  mask[3] = 255  # unknown, which marks nothing
  assert report_planes.marked_place(mask) == Place(1, 3, 3)
  assert report_planes.marked_place(np.zeros((4, 6, 8), np.uint8)) == Place(2, 3, 4)


def test_planes_lie_in_line_and_show_the_head_upwards():
  z, y, x = np.indices((2, 3, 4))
  volume = 100 * z + 10 * y + x
  shown = report_planes.montage(volume, Place(1, 2, 3))
  assert shown.shape == (2 + GAP + 3, 4 + GAP + 3)
  np.testing.assert_array_equal(shown[:2, :4], volume[::-1, 2])
  np.testing.assert_array_equal(shown[:2, 4 + GAP :], volume[::-1, :, 3])
  np.testing.assert_array_equal(shown[2 + GAP :, :4], volume[1])
  # Between them it is dark.
  assert (shown[2 : 2 + GAP] == 3).all()


def test_voxels_have_their_true_proportions():
  volume = np.arange(2 * 3 * 4 * 1).reshape(2, 3, 4, 1)
  shown = report_planes.montage(volume, Place(0, 0, 0), spacing=(3.0, 1.0, 1.0))
  assert shown.shape == (6 + GAP + 3, 4 + GAP + 3, 1)
  np.testing.assert_array_equal(shown[:6, :4, 0], np.repeat(volume[::-1, 0, :, 0], 3, axis=0))
