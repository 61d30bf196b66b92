"""Specks and holes of masks."""

import math

import numpy as np
import pytest

from ssl_jax.inference.writing import cleaning
from ssl_jax.inference.writing.cleaning import Cleaning

MASK = np.array(
  [
    [1, 1, 1, 1, 0, 2],
    [1, 0, 1, 1, 0, 0],
    [1, 1, 1, 1, 0, 1],
    [0, 0, 0, 0, 0, 1],
    [2, 2, 0, 3, 0, 0],
  ],
  np.uint8,
)


def test_only_the_largest_part_of_each_class_is_kept():
  kept = cleaning.clean(MASK, Cleaning(largest=True))
  assert np.bincount(kept.ravel()).tolist() == [16, 11, 2, 1]
  assert kept[2, 5] == 0
  assert kept[0, 5] == 0


@pytest.mark.parametrize(('size', 'counts'), [(1, [13, 13, 3, 1]), (2, [15, 13, 2]), (3, [19, 11])])
def test_parts_of_fewer_pixels_become_background(size, counts):
  assert np.bincount(cleaning.clean(MASK, Cleaning(min_size=size)).ravel()).tolist() == counts


def test_a_hole_takes_the_class_around_it():
  filled = cleaning.fill_holes(MASK)
  assert filled[1, 1] == 1
  assert (filled != MASK).sum() == 1  # what reaches the edge is no hole


def test_larger_holes_stay():
  mask = np.ones((5, 6), np.uint8)
  mask[1, 1] = 0
  mask[3, 2:5] = 0
  filled = cleaning.fill_holes(mask, 2)
  assert filled[1, 1] == 1
  assert (filled[3, 2:5] == 0).all()
  assert (cleaning.fill_holes(mask, math.inf) == 1).all()


def test_a_hole_between_classes_takes_the_one_with_more_sides():
  mask = np.full((3, 3), 2, np.uint8)
  mask[:, 0] = 1
  mask[1, 1] = 0
  assert cleaning.fill_holes(mask)[1, 1] == 2
  mask[0, 1] = 1  # two sides each: the smaller id
  assert cleaning.fill_holes(mask)[1, 1] == 1


def test_a_nucleus_inside_of_its_cell_is_no_hole():
  mask = np.ones((5, 5), np.uint8)
  mask[1:4, 1:4] = 0
  mask[2, 2] = 2
  filled = cleaning.fill_holes(mask)
  assert filled[2, 2] == 2
  assert (np.delete(filled.ravel(), 12) == 1).all()


def test_volumes_are_cleaned_alike():
  mask = np.zeros((6, 6, 6), np.uint8)
  mask[1:5, 1:5, 1:5] = 3
  mask[2, 2, 2] = 0
  mask[0, 0, 0] = 3
  cleaned = cleaning.clean(mask, Cleaning(min_size=2, max_hole=1))
  expected = np.zeros_like(mask)
  expected[1:5, 1:5, 1:5] = 3
  np.testing.assert_array_equal(cleaned, expected)


def test_instances_are_filled_each_by_itself():
  ids = np.zeros((5, 9), np.int32)
  ids[:, :4] = 300
  ids[:, 5:] = 70000
  ids[2, 2] = ids[2, 7] = 0
  filled = cleaning.fill_holes(ids)
  assert (filled[2, 2], filled[2, 7]) == (300, 70000)
  assert (filled[:, 4] == 0).all()
