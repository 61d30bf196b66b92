"""Outlines of masks, and the files of QuPath and ImageJ that hold them."""

import json
import zipfile

import numpy as np
import pytest
import roifile
from matplotlib.path import Path as MatplotlibPath

from ssl_jax.inference.writing import outline_files, outlines

RING = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)


def filled(shape, rings):
  """Which pixels have their centers inside an odd number of rings: an independent rasterization."""
  rows, columns = np.indices(shape)
  centers = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], -1)
  inside = np.zeros(len(centers), bool)
  for ring in rings:
    inside ^= MatplotlibPath(np.asarray(ring, float), closed=False).contains_points(centers)
  return inside.reshape(shape)


def rings_of(outline):
  return [ring for polygon in outline.polygons for ring in (polygon.outer, *polygon.holes)]


def test_a_pixel_is_the_square_around_it():
  mask = np.zeros((4, 5), np.uint8)
  mask[2, 3] = 7
  [outline] = outlines.of_components(mask)
  assert (outline.id, outline.pixels) == (7, 1)
  [polygon] = outline.polygons
  assert polygon.outer.tolist() == [[3, 2], [4, 2], [4, 3], [3, 3]]
  assert polygon.holes == ()


def test_holes_are_rings_of_the_other_direction():
  [outline] = outlines.of_components(RING)
  [polygon] = outline.polygons
  assert polygon.outer.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
  [hole] = polygon.holes
  assert sorted(hole.tolist()) == [[1, 1], [1, 2], [2, 1], [2, 2]]
  x, y = hole.T
  assert np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)) == -2  # twice the area


def test_pixels_that_touch_at_a_corner_are_two_polygons():
  mask = np.eye(2, dtype=np.uint8)
  assert len(list(outlines.of_components(mask))) == 2
  [outline] = outlines.of_instances(mask)
  assert (outline.pixels, len(outline.polygons)) == (2, 2)


def test_a_ring_closed_by_a_corner_is_a_polygon_with_a_hole():
  mask = RING.copy()
  mask[0, 0] = 0  # the hole meets the outside at a corner
  [outline] = outlines.of_components(mask)
  [polygon] = outline.polygons
  assert len(polygon.holes) == 1
  corners = [tuple(corner) for corner in polygon.outer.tolist()]
  assert len(corners) == len(set(corners))


@pytest.mark.parametrize('seed', range(30))
def test_outlines_that_are_filled_give_the_mask_again(seed):
  rng = np.random.default_rng(seed)
  mask = rng.integers(1, 4, rng.integers(1, 16, 2)) * (rng.random() > rng.random(16)[0])
  mask = np.where(rng.random(mask.shape) < 0.35, 0, mask)
  for read in (outlines.of_components, outlines.of_instances):
    again = np.zeros_like(mask)
    for outline in read(mask):
      inside = filled(mask.shape, rings_of(outline))
      assert inside.sum() == outline.pixels
      again[inside] = outline.id
      for ring in rings_of(outline):
        assert len(np.unique(ring, axis=0)) == len(ring)  # no ring touches itself
    np.testing.assert_array_equal(again, mask)


@pytest.fixture
def mask():
  rng = np.random.default_rng(3)
  ids = rng.integers(0, 3, (12, 9)).astype(np.uint8)
  ids[3:9, 2:8] = 2
  ids[5:7, 4:6] = 0
  return ids


CLASSES = ('background', 'cytoplasm', 'nucleus')


def test_geojson_has_what_qupath_reads(tmp_path, mask):
  shapes = outline_files.shapes_of(mask, None, CLASSES)
  outline_files.write_geojson(tmp_path / 'a.geojson', shapes)
  collection = json.loads((tmp_path / 'a.geojson').read_text())
  assert collection['type'] == 'FeatureCollection'
  again = np.zeros_like(mask)
  colors = {'cytoplasm': [86, 180, 233], 'nucleus': [230, 159, 0]}
  for feature in collection['features']:
    assert feature['type'] == 'Feature'
    assert feature['properties']['objectType'] == 'annotation'
    classification = feature['properties']['classification']
    assert classification['color'] == colors[classification['name']]
    assert feature['geometry']['type'] == 'Polygon'
    rings = feature['geometry']['coordinates']
    assert all(ring[0] == ring[-1] for ring in rings)
    inside = filled(mask.shape, [ring[:-1] for ring in rings])
    assert inside.sum() == feature['properties']['measurements']['Area px^2']
    again[inside] = CLASSES.index(classification['name'])
  np.testing.assert_array_equal(again, mask)


def test_instances_are_detections_one_feature_each(tmp_path, mask):
  shapes = outline_files.shapes_of(mask, mask.astype(np.int32), CLASSES)
  outline_files.write_geojson(tmp_path / 'a.geojson', shapes)
  features = json.loads((tmp_path / 'a.geojson').read_text())['features']
  assert [feature['properties']['name'] for feature in features] == ['object 1', 'object 2']
  assert {feature['properties']['objectType'] for feature in features} == {'detection'}
  assert {feature['geometry']['type'] for feature in features} == {'MultiPolygon'}


@pytest.mark.parametrize('is_instance', [False, True])
def test_rois_lie_on_the_pixels_of_the_mask(tmp_path, mask, is_instance):
  ids = mask.astype(np.int32) if is_instance else None
  path = tmp_path / 'a.zip'
  outline_files.write_rois(path, outline_files.shapes_of(mask, ids, CLASSES), mask.shape)
  again = np.zeros_like(mask)
  rois = roifile.roiread(path)
  assert isinstance(rois, list)
  for roi in rois:
    inside = filled(mask.shape, roi.coordinates(multi=True))
    rows, columns = np.nonzero(inside)
    assert (roi.left, roi.right) == (columns.min(), columns.max() + 1)
    assert (roi.top, roi.bottom) == (rows.min(), rows.max() + 1)
    word, number = roi.name.split()
    again[inside] = int(number) if is_instance else CLASSES.index(word)
  np.testing.assert_array_equal(again, mask)
  assert {roi.roitype.name for roi in rois} >= ({'RECT'} if is_instance else {'RECT', 'TRACED'})


def test_points_of_cells_are_their_centers(tmp_path):
  points = np.array([[4.0, 7.0], [0.0, 0.0]])
  ids = np.array([2, 1])
  outline_files.write_points_geojson(tmp_path / 'a.geojson', points, ids, np.ones(2), CLASSES)
  features = json.loads((tmp_path / 'a.geojson').read_text())['features']
  assert features[0]['geometry'] == {'type': 'Point', 'coordinates': [7.5, 4.5]}
  outline_files.write_points_rois(tmp_path / 'a.zip', points, ids, CLASSES)
  with zipfile.ZipFile(tmp_path / 'a.zip') as archive:
    first, second = (roifile.ImagejRoi.frombytes(archive.read(n)) for n in archive.namelist())
  assert (first.name, second.name) == ('cytoplasm', 'nucleus')
  np.testing.assert_allclose(second.coordinates(), [[7.5, 4.5]])
