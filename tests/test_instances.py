"""Id masks as three classes, instances from probabilities, and their scores."""

import csv
import itertools

import numpy as np
import pytest
import tifffile
from scipy import ndimage, optimize

from ssl_jax.data.masks import instances
from ssl_jax.evaluation import instances as scores
from ssl_jax.inference import instances as inference


def discs(places, size=(64, 64)):
  """Ids 1, 2, ... of discs or balls (center, radius); earlier ones lie on top."""
  grid = np.stack(np.meshgrid(*map(np.arange, size), indexing='ij'), -1)
  ids = np.zeros(size, np.uint16)
  for number, (center, radius) in enumerate(places, start=1):
    ids[(((grid - center) ** 2).sum(-1) <= radius**2) & (ids == 0)] = number
  return ids


TOUCHING = discs([((20, 20), 10), ((20, 40), 10), ((50, 30), 6)])


def one_hot(classes):
  return np.eye(3, dtype=np.float32)[classes]


def test_a_border_goes_around_each_object_and_parts_those_that_touch():
  classes = instances.to_classes(TOUCHING)
  assert classes.dtype == np.uint8
  np.testing.assert_array_equal(classes > 0, TOUCHING > 0)
  # At the outer side, and on both sides of where the two touch; bodies are in the middle.
  assert (classes[20, [10, 11, 29, 30, 31, 32, 48, 49]] == instances.BORDER).all()
  assert (classes[20, 13:28] == instances.BODY).all()
  assert (classes[20, 35:47] == instances.BODY).all()
  assert classes[50, 30] == instances.BODY


def test_the_border_is_as_wide_as_the_object_is_large():
  def width(radius):
    classes = instances.to_classes(discs([((40, 40), radius)], (80, 80)))
    return int((classes[40, :40] == instances.BORDER).sum())

  assert 0 < width(4) < width(10) < width(20) < width(30)
  assert width(30) == pytest.approx(0.2 * 30, abs=1)


def test_the_end_of_the_image_is_no_edge_of_an_object():
  ids = discs([((0, 30), 10)], (40, 60))
  assert instances.to_classes(ids)[0, 30] == instances.BODY
  assert (instances.to_classes(np.ones((9, 9), np.uint8)) == instances.BODY).all()


def test_an_object_too_small_for_a_body_is_all_body():
  ids = np.zeros((9, 9), np.uint8)
  ids[4, 4] = 7
  ids[2:7, 5:8] = 9
  classes = instances.to_classes(ids)
  assert classes[4, 4] == instances.BODY
  assert set(classes[ids == 9]) == {instances.BODY, instances.BORDER}
  ids = np.zeros((9, 9), np.uint8)
  ids[3, 2:6] = 1
  ids[6, 2:6] = 2
  assert (instances.to_classes(ids)[ids > 0] == instances.BODY).all()
  # Ids of single pixels, side by side.
  ids = np.arange(1, 26).reshape(5, 5)
  assert (instances.to_classes(ids) == instances.BODY).all()


def test_a_border_does_not_cut_a_thin_body_in_two():
  ids = discs([((20, 16), 10), ((20, 44), 10)])
  ids[18:23, 20:40] = 1
  ids[ids == 2] = 1
  classes = instances.to_classes(ids)
  assert ndimage.label(classes == instances.BODY)[1] == 1
  assert (classes == instances.BORDER).any()


@pytest.mark.parametrize('kind', [np.uint8, np.uint16, np.int32, np.uint32])
def test_any_ids_and_kinds_of_numbers(kind):
  ids = np.where(TOUCHING > 0, TOUCHING * 80 + 5, 0).astype(kind)
  np.testing.assert_array_equal(instances.to_classes(ids), instances.to_classes(TOUCHING))
  compact = instances.compact(ids)
  assert compact.dtype == np.uint16
  np.testing.assert_array_equal(compact, TOUCHING)


def test_large_ids_and_masks_without_background():
  large = np.array([[0, 2**31 + 7], [2**31 + 8, 0]], np.uint32)
  np.testing.assert_array_equal(instances.compact(large), [[0, 1], [2, 0]])
  np.testing.assert_array_equal(instances.compact(np.array([[4, 4], [9, 9]])), [[1, 1], [2, 2]])
  assert instances.compact(np.zeros((3, 3), int)).max() == 0
  assert instances.compact(np.arange(70_000).reshape(100, 700)).dtype == np.uint32


def test_each_piece_of_an_id_has_a_body():
  ids = np.zeros((20, 20), np.uint8)
  ids[2:9, 2:18] = 1
  ids[10:18, 2:18] = 1
  assert ndimage.label(instances.to_classes(ids) == instances.BODY)[1] == 2


def test_bodies_never_touch_and_are_one_piece_for_each_connected_instance():
  rng = np.random.default_rng(0)
  for size, count in (((96, 96), 30), ((30, 30, 24), 20)):
    places = []
    for _ in range(count):
      center, radius = rng.uniform(0, size), rng.uniform(4, 8)
      # They may overlap, but none is the crescent that is left behind another.
      if all(np.linalg.norm(center - other) > 0.8 * (radius + r) for other, r in places):
        places.append((center, radius))
    assert len(places) > 5
    ids = instances.compact(discs(places, size))
    classes = instances.to_classes(ids)
    bodies, found = ndimage.label(classes == instances.BODY, instances.neighbors(len(size)))
    for number in range(1, found + 1):
      assert len(np.unique(ids[bodies == number])) == 1
    pieces = 0
    for number in range(1, int(ids.max()) + 1):
      pieces += ndimage.label(ids == number, instances.neighbors(len(size)))[1]
    assert found == pieces


@pytest.mark.parametrize('dimensions', [2, 3])
def test_what_was_made_into_classes_is_found_again(dimensions):
  places = [((20, 20), 10), ((20, 40), 10), ((50, 30), 6), ((45, 40), 8)]
  size = (64, 64)
  if dimensions == 3:
    places, size = [((*center, 12), radius) for center, radius in places], (64, 64, 24)
  ids = discs(places, size)
  found = inference.separate(one_hot(instances.to_classes(ids)))
  assert found.max() == ids.max() == 4
  matches = scores.match(ids, found)
  assert scores.scores([matches])['ap90'] == 100


def test_small_instances_are_dropped_and_numbers_have_no_gaps():
  classes = instances.to_classes(discs([((10, 10), 2), ((30, 30), 8), ((50, 50), 8)]))
  assert inference.separate(one_hot(classes)).max() == 3
  assert np.unique(inference.separate(one_hot(classes), 50)).tolist() == [0, 1, 2]
  assert inference.separate(one_hot(classes), 10_000).max() == 0


def test_a_border_without_a_body_is_no_instance():
  classes = np.zeros((16, 16), np.uint8)
  classes[4:8, 4:8] = instances.BORDER
  assert inference.separate(one_hot(classes)).max() == 0


def test_the_default_size_is_far_below_that_of_small_instances():
  assert instances.least_size(np.array([100] * 20)) == 25
  assert instances.least_size(np.array([2, 3])) == 1
  assert instances.least_size([]) == 1


def test_scores_by_hand():
  truth = np.zeros((10, 20), int)
  truth[0:4, 0:5] = 1  # 20 pixels
  truth[6:10, 0:5] = 2
  truth[0:4, 10:15] = 5
  predicted = np.zeros((10, 20), int)
  predicted[0:4, 0:4] = 3  # 16 of the first: IoU 0.8
  predicted[6:10, 0:3] = 1  # 12 of the second: IoU 0.6
  predicted[8:10, 16:20] = 2  # nothing
  predicted[0:4, 10:20] = 9  # twice the third: IoU 0.5, which is not above 0.5
  matches = scores.match(truth, predicted)
  # TP, FP, FN at 0.5: the first and the second match.
  np.testing.assert_array_equal(matches.counts[0], [[0, 2], [1, 2]])
  figures = scores.scores([matches])
  assert figures['ap50'] == figures['ap55'] == pytest.approx(100 * 2 / 5)
  # An IoU of exactly 0.6 is not above it.
  assert figures['ap60'] == figures['ap75'] == pytest.approx(100 * 1 / 6)
  assert figures['ap80'] == figures['ap90'] == 0
  assert figures['ap'] == pytest.approx((2 * 40 + 4 * 100 / 6) / 9)
  assert figures['f1'] == pytest.approx(100 * 2 * 2 / (2 * 2 + 2 + 1))
  assert figures['pq'] == pytest.approx(100 * 1.4 / (2 + 1 + 0.5))
  assert figures['count_error'] == 1


def test_scores_of_a_set_are_of_all_instances_together():
  one = np.zeros((8, 8), int)
  one[:4] = 1
  four = np.repeat(np.repeat(np.array([[1, 2], [3, 4]]), 4, 0), 4, 1)
  # All four found, and the one missed.
  figures = scores.scores([scores.match(four, four), scores.match(one, np.zeros_like(one))])
  assert figures['ap50'] == 80
  assert figures['ap_per_image'] == 50
  assert figures['count_error'] == 0.5
  nothing = scores.match(np.zeros_like(one), np.zeros_like(one))
  figures = scores.scores([nothing])
  assert figures['ap_per_image'] == 100
  assert np.isnan(figures['ap50'])


@pytest.mark.parametrize('size', [(24, 24), (12, 12, 12)])
def test_scores_equal_those_of_the_best_assignment(size):
  """Every pair is compared, and the assignment with the most matches is searched for."""
  rng = np.random.default_rng(1)
  for _ in range(10):
    sides = [
      discs([(rng.uniform(0, size), rng.uniform(2, 6)) for _ in range(6)], size) for _ in range(2)
    ]
    # Alike, so that there are matches.
    sides[1] = np.where(rng.random(size) < 0.8, sides[0], sides[1])
    true, found = (np.unique(side[side > 0]) for side in sides)
    iou = np.zeros((len(true), len(found)))
    for (i, t), (j, p) in itertools.product(enumerate(true), enumerate(found)):
      both = (sides[0] == t) & (sides[1] == p)
      iou[i, j] = both.sum() / ((sides[0] == t) | (sides[1] == p)).sum()
    matches = scores.match(*sides)
    for place, percent in enumerate(scores.PERCENTS):
      hit = iou > percent / 100
      rows, columns = optimize.linear_sum_assignment(hit, maximize=True)
      hits = int(hit[rows, columns].sum())
      wanted = [[0, len(found) - hits], [len(true) - hits, hits]]
      np.testing.assert_array_equal(matches.counts[place], wanted)
    assert matches.iou == pytest.approx(iou[iou > 0.5].sum())


def read_table(path):
  with path.open() as file:
    return list(csv.DictReader(file))


def test_files_of_an_image(tmp_path):
  image = np.stack([np.full((64, 64), 100), TOUCHING * 10], -1).astype(np.uint16)
  probs = one_hot(instances.to_classes(TOUCHING))
  ids = inference.separate(probs, 5)
  folder = tmp_path / 'instances'
  folder.mkdir()
  inference.write_labels(folder / 'a.tif', ids)
  inference.write_table(folder / 'a.csv', ids, image)
  shown = inference.as_colors(ids)
  found = tifffile.imread(tmp_path / 'instances' / 'a.tif')
  assert found.dtype == np.uint16
  np.testing.assert_array_equal(found, TOUCHING)
  assert set(np.unique(shown)) == {0, 1, 2, 3}
  rows = read_table(tmp_path / 'instances' / 'a.csv')
  assert list(rows[0]) == ['id', 'area', 'x', 'y', 'mean_intensity_1', 'mean_intensity_2']
  assert [int(row['id']) for row in rows] == [1, 2, 3]
  assert float(rows[2]['area']) == (TOUCHING == 3).sum()
  assert (float(rows[2]['x']), float(rows[2]['y'])) == (30, 50)
  assert (float(rows[2]['mean_intensity_1']), float(rows[2]['mean_intensity_2'])) == (100, 30)
  none = inference.separate(np.zeros((4, 4, 3), np.float32), 5)
  inference.write_table(folder / 'b.csv', none, image[:4, :4, :1])
  inference.write_counts(tmp_path)
  rows = read_table(tmp_path / 'counts.csv')
  assert [(row['name'], row['instances']) for row in rows] == [('a', '3'), ('b', '0')]


def test_many_instances_take_32_bits():
  assert inference.label_dtype(np.array([2**16 - 1])) == np.uint16
  assert inference.label_dtype(np.array([2**16])) == np.uint32


def test_an_unsure_bridge_does_not_join_and_a_faint_body_is_found():
  probs = np.zeros((20, 60, 3), np.float32)
  probs[..., 0] = 1
  for columns, sure in ((slice(5, 15), 0.9), (slice(15, 20), 0.6), (slice(20, 30), 0.9)):
    probs[5:15, columns] = 1 - sure, sure, 0
  probs[5:15, 40:50] = 0.4, 0.6, 0
  found = inference.separate(probs)
  assert found.max() == 3
  assert found[10, 10] != found[10, 25]
  assert (found > 0).sum() == 10 * 35
