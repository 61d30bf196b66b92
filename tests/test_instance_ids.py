"""Ids that number objects are told from those that name classes, by sizes and places."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from ssl_jax.data.masks.instance_ids import look_like_instances
from ssl_jax.data.masks.mask_facts import measure
from ssl_jax.io.masks import StoredMask

SIDE = 60


def ball(center, radius, shape):
  grid = np.indices(shape)
  return sum((grid[i] - center[i]) ** 2 for i in range(len(shape))) < radius**2


def places(rng, count, dims):
  """Places apart from each other, in random order."""
  cells = rng.permutation(3**dims)[:count]
  return [20 * np.array(np.unravel_index(cell, (3,) * dims)) + 10 for cell in cells]


def facts_of(masks):
  return [measure(StoredMask(mask), Path(f'{i}.png')) for i, mask in enumerate(masks)]


def cells(rng, count=3, dims=2):
  """Objects of one kind anywhere, numbered as they were drawn."""
  ids = np.zeros((SIDE,) * dims, np.uint16)
  for k, place in enumerate(places(rng, count, dims)):
    ids[ball(place + rng.uniform(-2, 2, dims), rng.uniform(4, 7), ids.shape)] = k + 1
  return ids


def labeled(rng, count=3):
  """The same, numbered from top to bottom as ndimage.label does."""
  return ndimage.label(cells(rng, count))[0].astype(np.uint16)


def organs(rng, dims=2):
  """Classes: each about where it always is."""
  ids = np.zeros((SIDE,) * dims, np.uint8)
  for k, place in enumerate([(12, 15, 30), (32, 45, 20), (48, 18, 40)]):
    center = np.array(place[:dims]) + rng.normal(0, 2, dims)
    ids[ball(center, rng.uniform(5, 8), ids.shape)] = k + 1
  return ids


def sizes(rng):
  """Classes: anywhere, each of its own size."""
  ids = np.zeros((SIDE, SIDE), np.uint8)
  for k, place in enumerate(places(rng, 3, 2)):
    ids[ball(place, (3, 5, 8)[k] * rng.uniform(0.9, 1.1), ids.shape)] = k + 1
  return ids


@pytest.mark.parametrize('draw', [cells, labeled])
@pytest.mark.parametrize('count', [1, 4, 12])
def test_three_objects_an_image_may_be_instances(draw, count):
  rng = np.random.default_rng(1)
  assert look_like_instances(facts_of(draw(rng) for _ in range(count)))


def test_objects_in_a_volume_may_be_instances():
  rng = np.random.default_rng(0)
  assert look_like_instances(facts_of(cells(rng, dims=3) for _ in range(5)))


def test_numbers_of_objects_may_differ():
  rng = np.random.default_rng(2)
  assert look_like_instances(facts_of(cells(rng, 1 + i % 4) for i in range(10)))


@pytest.mark.parametrize('draw', [organs, sizes])
def test_classes_of_one_piece_each_are_none(draw):
  rng = np.random.default_rng(3)
  assert not look_like_instances(facts_of(draw(rng) for _ in range(8)))


def test_organs_of_a_few_volumes_are_none():
  rng = np.random.default_rng(4)
  assert not look_like_instances(facts_of(organs(rng, 3) for _ in range(4)))


def test_one_or_two_ids_are_classes():
  rng = np.random.default_rng(5)
  for count in (1, 2):
    assert not look_like_instances(facts_of(cells(rng, count) for _ in range(8)))


def test_classes_in_several_pieces_are_none():
  stripes = (np.arange(SIDE)[:, None] // 3 % 4 + np.zeros(SIDE, int)).astype(np.uint8)
  assert not look_like_instances(facts_of([stripes] * 6))


def test_many_ids_of_one_piece_are_instances_unless_their_sizes_are_those_of_organs():
  rng = np.random.default_rng(6)
  assert look_like_instances(facts_of([cells(rng, 8)]))

  def many_organs():
    ids = np.zeros((SIDE, SIDE), np.uint8)
    for k, place in enumerate(places(rng, 6, 2)):
      ids[ball(place, (1.2, 2, 3, 5, 7, 9)[k], ids.shape)] = k + 1
    return ids

  assert not look_like_instances(facts_of(many_organs() for _ in range(4)))
  assert not look_like_instances([])
