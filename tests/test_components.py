"""The largest connected components, against SciPy."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from ssl_jax.methods import components

keep_largest = jax.jit(components.keep_largest, static_argnames='num_classes')


def _by_scipy(classes, number):
  touching = np.ones((3,) * classes.ndim)
  numbered, count = ndimage.label(classes == number, touching)
  sizes = ndimage.sum_labels(classes == number, numbered, range(1, count + 1))
  return sizes, [numbered == i for i in range(1, count + 1)]


@pytest.mark.parametrize('space', [(17, 12), (5, 8, 7)])
def test_the_largest_component_of_each_class_is_that_of_scipy(space):
  smooth = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(4, *space)), 1.0)
  classes = np.digitize(smooth, [-0.05, 0.1]).astype(np.int32)
  kept = np.asarray(keep_largest(classes, num_classes=3))
  for image, ours in zip(classes, kept, strict=True):
    for number in (1, 2):
      sizes, masks = _by_scipy(image, number)
      assert sum((ours == number).tolist() == mask.tolist() for mask in masks) == 1
      assert (ours == number).sum() == max(sizes)
    # Nothing has become a class that it was not.
    assert ((ours == image) | (ours == 0)).all()


def test_a_winding_component_stays_whole():
  winding = np.zeros((1, 9, 9), np.int32)
  winding[0, ::2] = 1
  for row, column in ((1, 8), (3, 0), (5, 8), (7, 0)):
    winding[0, row, column] = 1
  np.testing.assert_array_equal(keep_largest(winding, num_classes=2), winding)


def test_of_two_that_are_as_large_one_stays():
  two = np.array([[[1, 1, 0, 1, 1], [0, 0, 0, 0, 0]]], np.int32)
  assert int((keep_largest(two, num_classes=2) == 1).sum()) == 2
  nothing = np.zeros((1, 3, 3), np.int32)
  np.testing.assert_array_equal(keep_largest(nothing, num_classes=2), nothing)
