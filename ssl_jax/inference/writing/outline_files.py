"""Outlines of objects, and points of cells, as files of QuPath (GeoJSON) and ImageJ (ROI)."""

import json
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import roifile
from jaxtyping import Float, Integer

from ssl_jax.errors import UserError
from ssl_jax.inference.writing import outlines
from ssl_jax.inference.writing.outlines import Outline, Polygon
from ssl_jax.io import atomic, overlays

ROI_LIMIT = 32767
"""Pixels; ImageJ keeps the corners of an outline as numbers of 16 bits with a sign."""


class Place(NamedTuple):
  """Which plane of a stack something lies in."""

  number: int  # of the plane, in the order of the file
  position: Mapping[str, int]  # index along t and z, as Planes.position gives it
  is_hyperstack: bool  # whether ImageJ opens the file as one: it then counts along each axis


class Shape(NamedTuple):
  """An object as both formats need it."""

  name: str
  class_id: int  # whose color it has
  class_name: str
  outline: Outline
  is_instance: bool
  place: Place | None = None  # None of single images


def shapes_of(
  mask: Integer[np.ndarray, 'h w'],
  ids: Integer[np.ndarray, 'h w'] | None,
  classes: Sequence[str],
  place: Place | None = None,
  counts: Counter[int] | None = None,
) -> list[Shape]:
  """Returns the instances of an image; without ids, the connected parts of each class.

  Args:
    mask: class ids.
    ids: of instances; None where the network predicts classes.
    classes: names.
    place: of a plane of a stack.
    counts: parts of each class in the planes before, which are added to: parts are numbered through
      a stack.
  """
  shapes = []
  if ids is not None:
    for outline in outlines.of_instances(ids):
      shapes.append(Shape(f'object {outline.id}', 1, 'object', outline, True, place))
    return shapes
  counts = Counter() if counts is None else counts
  for outline in outlines.of_components(mask):
    class_name = classes[outline.id]
    counts[outline.id] += 1
    name = f'{class_name} {counts[outline.id]}'
    shapes.append(Shape(name, outline.id, class_name, outline, False, place))
  return shapes


def write_geojson(path: Path, shapes: Iterable[Shape]) -> None:
  """Writes a feature for each shape: a detection of an instance, an annotation of a class.

  Shapes are written as they come, so that those of a stack are never in memory together.
  """
  _write_features(path, map(_feature, shapes))


def _feature(shape: Shape) -> dict[str, Any]:
  polygons = [_rings(polygon) for polygon in shape.outline.polygons]
  if len(polygons) == 1:
    geometry: dict[str, Any] = {'type': 'Polygon', 'coordinates': polygons[0]}
  else:
    geometry = {'type': 'MultiPolygon', 'coordinates': polygons}
  if shape.place is not None:
    # As QuPath writes the plane of an object: of all channels, z and t from 0.
    position = shape.place.position
    geometry['plane'] = {'c': -1, 'z': position.get('z', 0), 't': position.get('t', 0)}
  kind = 'detection' if shape.is_instance else 'annotation'
  properties = _properties(kind, shape.class_id, shape.class_name)
  properties |= {'name': shape.name, 'measurements': {'Area px^2': shape.outline.pixels}}
  return {'type': 'Feature', 'geometry': geometry, 'properties': properties}


def write_points_geojson(
  path: Path,
  points: Float[np.ndarray, 'n 2'],
  class_ids: Integer[np.ndarray, ' n'],
  scores: Float[np.ndarray, ' n'],
  classes: Sequence[str],
) -> None:
  """Writes a detection for each cell; `points` are rows and columns, as indices of pixels."""
  features = []
  for (row, column), class_id, score in zip(points, class_ids, scores, strict=True):
    # The center of the first pixel has the index 0 and is half a pixel from the edge.
    place = [round(float(column) + 0.5, 2), round(float(row) + 0.5, 2)]
    properties = _properties('detection', int(class_id), classes[class_id])
    properties['measurements'] = {'Score': round(float(score), 4)}
    geometry = {'type': 'Point', 'coordinates': place}
    features.append({'type': 'Feature', 'geometry': geometry, 'properties': properties})
  _write_features(path, features)


def write_points_rois(
  path: Path,
  points: Float[np.ndarray, 'n 2'],
  class_ids: Integer[np.ndarray, ' n'],
  classes: Sequence[str],
) -> None:
  """Writes a ZIP with a multi-point ROI for each class of which there are cells."""
  with atomic.replacing(path) as temporary, zipfile.ZipFile(temporary, 'w') as archive:
    for class_id, name in enumerate(classes):
      chosen = points[np.asarray(class_ids) == class_id]
      if not len(chosen):
        continue
      roi = roifile.ImagejRoi.frompoints(chosen[:, ::-1].astype(np.float32) + 0.5)
      roi.roitype = roifile.ROI_TYPE.POINT
      roi.name = name
      roi.stroke_color = bytes([255, *overlays.class_color(class_id)])
      archive.writestr(f'{class_id:06d}.roi', roi.tobytes(), zipfile.ZIP_DEFLATED)


def _rings(polygon: Polygon) -> list[list[list[int]]]:
  """The rings of a polygon, each of which ends where it begins."""
  return [[*ring.tolist(), ring[0].tolist()] for ring in (polygon.outer, *polygon.holes)]


def _properties(kind: str, class_id: int, class_name: str) -> dict[str, Any]:
  color = list(overlays.class_color(class_id))
  return {'objectType': kind, 'classification': {'name': class_name, 'color': color}}


def _write_features(path: Path, features: Iterable[dict[str, Any]]) -> None:
  with atomic.replacing(path) as temporary, temporary.open('w', encoding='utf-8') as file:
    file.write('{"type":"FeatureCollection","features":[')
    for number, feature in enumerate(features):
      file.write(',' if number else '')
      file.write(json.dumps(feature, separators=(',', ':')))
    file.write(']}')


def write_rois(path: Path, shapes: Iterable[Shape], size: Sequence[int]) -> None:
  """Writes a ZIP of ROIs, which ImageJ opens in its ROI Manager.

  A ROI without holes is what ImageJ's wand draws; another one is a composite, as it makes them
  itself.

  Args:
    path: of the ZIP.
    shapes: outlines.
    size: rows and columns of the image.

  Raises:
    UserError: if the image is larger than ImageJ's ROIs.
  """
  check_roi_size(path, size)
  with atomic.replacing(path) as temporary, zipfile.ZipFile(temporary, 'w') as archive:
    for number, shape in enumerate(shapes, start=1):
      # The number makes names of files unique, whatever the name of the class is.
      archive.writestr(f'{number:06d}.roi', _roi(shape).tobytes(), zipfile.ZIP_DEFLATED)


def check_roi_size(path: Path, size: Sequence[int]) -> None:
  """Raises UserError for a ZIP of ROIs of an image that is larger than they can be."""
  if max(size) > ROI_LIMIT:
    raise UserError(
      f'{path} cannot be written: ROIs of ImageJ end at {ROI_LIMIT} pixels, and this image has '
      f'{size[0]} x {size[1]}; use --geojson.'
    )


def _roi(shape: Shape) -> roifile.ImagejRoi:
  polygons = shape.outline.polygons
  first = polygons[0]
  roi = roifile.ImagejRoi.frompoints(first.outer)
  roi.roitype = roifile.ROI_TYPE.TRACED
  roi.options = roifile.ROI_OPTIONS(0)
  roi.name = shape.name
  roi.stroke_color = bytes([255, *overlays.class_color(shape.class_id)])
  _set_place(roi, shape.place)
  corners = np.concatenate([polygon.outer for polygon in polygons])
  # Edges of the box; the last ones are not one pixel further, as those of indices would be.
  roi.left, roi.top = (int(value) for value in corners.min(0))
  roi.right, roi.bottom = (int(value) for value in corners.max(0))
  if len(polygons) == 1 and not first.holes:
    return roi
  # A path of several rings, in coordinates of the image; ImageJ fills by the even-odd rule.
  path: list[float] = []
  for polygon in polygons:
    for ring in (polygon.outer, *polygon.holes):
      for index, (x, y) in enumerate(ring.tolist()):
        path += [0 if index == 0 else 1, x, y]  # move there, or draw a line to there
      path.append(4)  # close
  roi.roitype = roifile.ROI_TYPE.RECT
  roi.integer_coordinates = None
  roi.n_coordinates = 0
  roi.multi_coordinates = np.array(path, np.float32)
  roi.shape_roi_size = len(path)
  return roi


def _set_place(roi: roifile.ImagejRoi, place: Place | None) -> None:
  """Says in which plane of a stack an outline lies; ImageJ counts from 1, and 0 means all."""
  if place is None:
    return
  # ImageJ knows either the number of a slice or, in hyperstacks, one along each axis.
  if place.is_hyperstack:
    roi.z_position = place.position.get('z', 0) + 1
    roi.t_position = place.position.get('t', 0) + 1
  else:
    roi.position = place.number + 1
