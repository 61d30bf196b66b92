"""What predict writes for an image: masks, instances, overlays, maps, outlines, measurements."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.inference import averaging, instances
from ssl_jax.inference.writing import cleaning, maps, measurements, outline_files
from ssl_jax.inference.writing.cleaning import Cleaning
from ssl_jax.inference.writing.new_image import NewImage
from ssl_jax.inference.writing.outline_files import Shape
from ssl_jax.inference.writing.outputs import (
  GEOJSON,
  INSTANCES,
  MASK,
  MEASUREMENTS,
  OBJECTS,
  OVERLAY,
  PROBABILITIES,
  ROIS,
  UNCERTAINTY,
  Wanted,
)
from ssl_jax.io import images
from ssl_jax.io.formats.pixel_size import PixelSize, read_pixel_size


class ImagePrediction(NamedTuple):
  """What is predicted of an upright image; outlines are as it is drawn."""

  image: NewImage
  classes: Sequence[str]
  mask: Integer[np.ndarray, 'h w']  # class ids
  ids: Integer[np.ndarray, 'h w'] | None  # of instances
  probs: Float[np.ndarray, 'h w k']
  mean_entropy: Float[np.ndarray, 'h w'] | None
  shapes: Sequence[Shape]
  pixel: PixelSize | None


def decide(
  path: Path,
  image: NewImage,
  probs: Float[np.ndarray, 'new_h new_w k'],
  stats: DatasetStats,
  wanted: Wanted,
) -> ImagePrediction:
  """Returns the mask, instances and outlines of an image, cleaned as wanted.

  Args:
    path: of the image, whose metadata may name the size of a pixel.
    image: upright.
    probs: as `average` gives them, upright, perhaps at another scale.
    stats: of the training data.
    wanted: options.
  """
  size = image.pixels.shape[:2]
  if probs.shape[:2] != size:  # training saw its images at another scale
    probs = images.resize(probs, size, smooth=True)
  probs, mean_entropy = averaging.split(probs, wanted.spread)
  # Resized as probabilities and only then decided, which gives smoother borders than resized ids.
  mask, ids = decide_ids(probs, stats, wanted.cleaning)
  shapes: Sequence[Shape] = []
  if wanted.geojson or wanted.rois:
    drawn_ids = None if ids is None else image.as_drawn(ids)
    shapes = outline_files.shapes_of(image.as_drawn(mask), drawn_ids, stats.classes)
  pixel = read_pixel_size(path)
  return ImagePrediction(image, stats.classes, mask, ids, probs, mean_entropy, shapes, pixel)


def decide_ids(
  probs: Float[np.ndarray, 'h w k'], stats: DatasetStats, how: Cleaning
) -> tuple[Integer[np.ndarray, 'h w'], Integer[np.ndarray, 'h w'] | None]:
  """Returns the class ids of an image and, of a run of instances, their ids, cleaned.

  Args:
    probs: of the classes, at the size of the file.
    stats: of the training data.
    how: see cleaning.clean_predicted.
  """
  mask = probs.argmax(-1).astype(np.uint8)
  ids = None
  if stats.instances is not None:
    ids = instances.separate(probs, instances.native_min_size(stats))
  return cleaning.clean_predicted(mask, ids, how)


def write(kind: str, path: Path, prediction: ImagePrediction, wanted: Wanted) -> None:
  """Writes one file, in the position in which masks of the training were drawn."""
  mask, ids, probs = prediction.mask, prediction.ids, prediction.probs
  pixel, image = prediction.pixel, prediction.image
  area = None if pixel is None else pixel.area
  if kind == MASK:
    images.write_mask(path, image.as_drawn(mask))
  elif kind == INSTANCES and ids is not None:
    instances.write_labels(path, image.as_drawn(ids))
  elif kind == OBJECTS and ids is not None:
    instances.write_table(path, image.as_drawn(ids), image.as_drawn(image.pixels), area)
  elif kind == MEASUREMENTS:
    measurements.write_table(path, mask, image.pixels, prediction.classes, area)
  elif kind == PROBABILITIES:
    stored = maps.quantize(image.as_drawn(probs), wanted.bits)
    maps.write_image(path, stored, prediction.classes, pixel)
  elif kind == UNCERTAINTY:
    values, names = maps.uncertainty(probs, prediction.mean_entropy)
    maps.write_image(path, maps.quantize(image.as_drawn(values), wanted.bits), names, pixel)
  elif kind == GEOJSON:
    outline_files.write_geojson(path, prediction.shapes)
  elif kind == ROIS:
    outline_files.write_rois(path, prediction.shapes, image.as_drawn(mask).shape)
  elif kind == OVERLAY:
    # The overlay is for people, to whom the ids are nearly black, and is upright. It shows each
    # instance in a color of its own.
    shown = mask if ids is None else instances.as_colors(ids)
    images.write_image(path, images.overlay(image.pixels, shown))
