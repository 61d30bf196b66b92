"""Distances between surfaces: known shapes, anisotropic voxels, empty masks, the usual package."""

import numpy as np
import pytest

from ssl_jax.evaluation import surface_distance


def ball(radius, center, spacing, shape=(40, 36, 30)):
  grid = np.indices(shape)
  return sum(((grid[i] - center[i]) * spacing[i]) ** 2 for i in range(3)) <= radius**2


def box(corner, sides, shape=(20, 20, 20)):
  mask = np.zeros(shape, bool)
  mask[tuple(slice(c, c + s) for c, s in zip(corner, sides, strict=True))] = True
  return mask


def test_flat_and_cut_cubes_have_their_areas():
  areas = surface_distance.element_areas((1.0, 2.0, 3.0))
  assert areas[0] == areas[255] == 0
  assert areas[0b11110000] == pytest.approx(6)  # a wall across the first axis
  assert areas[0b11001100] == pytest.approx(3)
  assert areas[0b10101010] == pytest.approx(2)
  corner = np.linalg.norm(np.cross([-0.5, 1.0, 0], [-0.5, 0, 1.5])) / 2
  for bit in range(8):
    assert areas[1 << bit] == pytest.approx(corner)
    assert areas[255 - (1 << bit)] == pytest.approx(corner)


def test_the_area_of_a_ball_is_about_that_of_a_ball():
  for spacing in ((1.0, 1.0, 1.0), (0.8, 0.8, 1.0)):
    between = surface_distance.surfaces(*[ball(10, (19, 17, 14), spacing)] * 2, spacing)
    assert between.areas.sum() == pytest.approx(4 * np.pi * 100, rel=0.1)  # steps make it rougher
    assert not between.to_predicted.any()


@pytest.mark.parametrize(
  ('spacing', 'dices', 'distance'),
  [
    ((1, 1, 1), (0.239108, 0.517246, 0.841081), 2.44949),
    ((1, 2, 3), (0.364816, 0.487628, 0.68854), 3.605551),
    ((0.8, 0.8, 2.5), (0.325515, 0.487161, 0.674058), 4.13884),
  ],
)
def test_two_balls_are_as_far_apart_as_the_surface_distance_package_says(spacing, dices, distance):
  pair = ball(9, (18, 15, 13), spacing), ball(7.5, (19, 15, 12), spacing)
  between = surface_distance.surfaces(*pair, spacing)
  computed = [surface_distance.surface_dice(between, tolerance) for tolerance in (0.5, 1, 2)]
  np.testing.assert_allclose(computed, dices, atol=1e-6)
  assert surface_distance.hausdorff(between) == pytest.approx(distance, abs=1e-5)


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_a_box_that_was_moved_is_off_by_as_many_millimeters(axis):
  spacing, corner = (1.5, 2.0, 4.0), [4, 4, 4]
  moved = list(corner)
  moved[axis] += 3
  between = surface_distance.surfaces(box(corner, (8, 8, 8)), box(moved, (8, 8, 8)), spacing)
  assert surface_distance.hausdorff(between, 100) == pytest.approx(3 * spacing[axis])
  assert surface_distance.surface_dice(between, 3 * spacing[axis]) == 1
  assert 0 < surface_distance.surface_dice(between, 0.1) < 1


def test_a_mask_at_the_edge_of_the_volume_has_a_surface_there():
  whole = np.ones((4, 5, 6), bool)
  between = surface_distance.surfaces(whole, whole, (1, 1, 1))
  walls = 2 * (4 * 5 + 5 * 6 + 4 * 6)
  assert 0.8 * walls < between.areas.sum() < walls  # the corners of the box are cut


def test_empty_masks():
  nothing, something = np.zeros((6, 6, 6), bool), box((1, 1, 1), (3, 3, 3), (6, 6, 6))
  both = surface_distance.surfaces(nothing, nothing, (1, 1, 1))
  assert surface_distance.surface_dice(both, 1) == 1
  assert surface_distance.hausdorff(both) == 0
  for pair in ((nothing, something), (something, nothing)):
    between = surface_distance.surfaces(*pair, (1, 1, 1))
    assert surface_distance.surface_dice(between, 1e9) == 0
    assert surface_distance.hausdorff(between) == np.inf
