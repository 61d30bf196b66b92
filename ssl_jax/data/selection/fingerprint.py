"""What the training images are like: sizes, channels, intensities, class shares, object sizes.

The self-configuration decides from it (configuration_rules.py), as that of nnU-Net does from its
fingerprint (Isensee et al. 2021). Images of val and test are never looked at.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy import ndimage

from ssl_jax.data import dataset_stats
from ssl_jax.data.masks.instances import BODY
from ssl_jax.io.formats import stored_image
from ssl_jax.types import BACKGROUND, CELLS, IGNORE, MASKS, Source, Splits

SAMPLED = 64
"""Images of a stream that are looked at, evenly spaced; all of a small set."""

SAMPLED_PIXELS = 10_000
"""Pixels of an image of which intensities are measured."""

SPECK = 4
"""Components of fewer pixels are slips of a pen, not objects."""

COLOR = 0.05
"""Saturation above which images are in color; JPEG's rounding gives gray images about 0.01."""

DARK = 0.25
"""Median brightness below which the background is dark, as in fluorescence."""

NEIGHBORS = np.ones((3, 3), int)
"""Pixels that touch by a side or a corner belong to one object."""


@dataclasses.dataclass(frozen=True)
class ClassFacts:
  """What the labels say of one class other than the background."""

  name: str
  share: float  # of the labeled pixels, or of the labeled patches
  present: float  # fraction of the labeled images that show it
  objects: int = 0  # number of objects that were measured; 0 in volumes and patches
  diameter: float = 0.0  # median over its objects, in pixels
  diameter_p95: float = 0.0  # 95th percentile


@dataclasses.dataclass(frozen=True)
class Fingerprint:
  """What self-configuration knows of a data set; sizes are in pixels or voxels of its files."""

  task: str
  labeled: int  # images, volumes or patches
  unlabeled: int
  channels: int
  bits: int  # 8, or 16 for all that is deeper
  smallest: tuple[int, ...]  # side by side: rows, columns; or z, y, x
  median: tuple[int, ...]
  largest: tuple[int, ...]
  modality: str  # 'color', 'gray bright' or 'gray dark'
  gray_as_color: bool  # three channels that are equal
  saturation: float  # (max - min) / max over the channels, means over pixels
  brightness: float  # median over pixels, in [0, 1]
  mean: tuple[float, ...]  # per channel, in [0, 1]
  std: tuple[float, ...]
  classes: tuple[ClassFacts, ...]  # without the background


def compute_fingerprint(splits: Splits) -> Fingerprint:
  """Measures a sample of the training images, labeled and unlabeled."""
  sources = [source for source in (splits.labeled, splits.unlabeled) if source is not None]
  images = [source[index]['image'] for source in sources for index in _sample(source)]
  sizes = np.array([image.shape[:-1] for image in images])
  # [n, C]: a few pixels of each image, so that a large one counts no more than a small one.
  pixels = np.concatenate([_some_pixels(image) for image in images])
  # Channels that are no colors have no saturation, also where there are three.
  no_colors = splits.kind is not None and stored_image.RGB not in splits.kind.layouts
  saturation = 0.0 if no_colors else _saturation(pixels)
  brightness = float(np.median(pixels.mean(-1)))
  channels = pixels.shape[-1]
  return Fingerprint(
    task=splits.task,
    labeled=len(splits.labeled),
    unlabeled=0 if splits.unlabeled is None else len(splits.unlabeled),
    channels=channels,
    bits=8 if splits.intensity is None and images[0].dtype == np.uint8 else 16,
    smallest=_whole(sizes.min(0)),
    median=_whole(np.median(sizes, 0)),
    largest=_whole(sizes.max(0)),
    modality=_modality(saturation, brightness),
    gray_as_color=channels == 3 and _saturation(pixels) < COLOR,
    saturation=round(saturation, 4),
    brightness=round(brightness, 4),
    mean=tuple(round(float(value), 4) for value in pixels.mean(0)),
    std=tuple(round(float(value), 4) for value in pixels.std(0)),
    classes=_class_facts(splits),
  )


def _sample(source: Source) -> list[int]:
  # Fewer of them where volumes are large.
  indices = dataset_stats.sampled_indices(source)
  chosen = np.linspace(0, len(indices) - 1, min(len(indices), SAMPLED)).astype(int)
  return [indices[i] for i in chosen]


def _whole(sides: Sequence[float] | np.ndarray) -> tuple[int, ...]:
  return tuple(int(side) for side in sides)


def _some_pixels(image: np.ndarray) -> Float[np.ndarray, 'n c']:
  """Evenly spaced pixels of an image, in [0, 1]."""
  flat = image.reshape(-1, image.shape[-1])
  return dataset_stats.to_float(np.asarray(flat[:: max(len(flat) // SAMPLED_PIXELS, 1)]))


def _saturation(pixels: Float[np.ndarray, 'n c']) -> float:
  """How far from gray the pixels are: 0 for gray, near 1 for one pure color."""
  if pixels.shape[-1] != 3:
    return 0.0
  # The ratio of means, because that of a nearly black pixel is noise.
  spread = pixels.max(-1) - pixels.min(-1)
  return float(spread.mean() / max(pixels.max(-1).mean(), 1e-6))


def _modality(saturation: float, brightness: float) -> str:
  if saturation >= COLOR:
    return 'color'
  return 'gray dark' if brightness < DARK else 'gray bright'


def _class_facts(splits: Splits) -> tuple[ClassFacts, ...]:
  """The facts of every class but the background, from a sample of the labels."""
  names = splits.classes
  indices = _sample(splits.labeled)
  counts = np.zeros(len(names))
  showing = np.zeros(len(names))
  diameters: list[list[float]] = [[] for _ in names]
  for index in indices:
    record = splits.labeled[index]
    label: Any = np.asarray(record['label'])
    of_image = np.bincount(label[label != IGNORE].ravel(), minlength=len(names))[: len(names)]
    counts += of_image
    showing += of_image > 0
    # In volumes the crop follows from their size, and patches show one cell each.
    if splits.task == MASKS and label.ndim == 2:
      # A border has no size of its own; that of an instance is measured, not that of its body.
      if 'instances' in record:
        diameters[BODY] += instance_diameters(np.asarray(record['instances'])).tolist()
        continue
      for class_id in np.flatnonzero(of_image):
        diameters[class_id] += object_diameters(label == class_id).tolist()
  facts = []
  for class_id, name in enumerate(names):
    if class_id == BACKGROUND:
      continue
    measured = diameters[class_id]
    facts.append(
      ClassFacts(
        name=name,
        share=round(float(counts[class_id] / max(counts.sum(), 1)), 5),
        # A patch is one cell, so 'absent from an image' has no meaning.
        present=1.0 if splits.task == CELLS else round(float(showing[class_id] / len(indices)), 4),
        objects=len(measured),
        diameter=round(float(np.median(measured)), 1) if measured else 0.0,
        diameter_p95=round(float(np.percentile(measured, 95)), 1) if measured else 0.0,
      )
    )
  return tuple(facts)


def object_diameters(mask: Bool[np.ndarray, 'h w']) -> Float[np.ndarray, ' n']:
  """The diameter of each object of a mask (connected component, not a speck), in pixels.

  It is that of the circle of the same area, but at most twice the width of the object's widest
  place: objects that touch, or a network of thin lines, do not count as one huge object.
  """
  return instance_diameters(ndimage.label(mask, NEIGHBORS)[0])


def instance_diameters(labels: Integer[np.ndarray, 'h w']) -> Float[np.ndarray, ' n']:
  """As `object_diameters`, of objects that have ids."""
  diameters = []
  for number, box in enumerate(ndimage.find_objects(labels), 1):
    if box is None:  # an id that no pixel has
      continue
    # The frame makes the border of the box, and so that of the image, count as the object's end.
    one = np.pad(labels[box] == number, 1)
    area = int(one.sum())
    if area < SPECK:
      continue
    # The distance of the innermost pixel's center to the outside, half a pixel beyond the edge.
    width = 2 * ndimage.distance_transform_edt(one).max() - 1
    diameters.append(min(2 * np.sqrt(area / np.pi), 2 * width))
  return np.array(diameters)
