"""Test images of a report, with masks that a reader can lay over them one by one."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer, Num, UInt8
from PIL import Image

from ssl_jax.evaluation import confusion
from ssl_jax.evaluation.comparison.repetitions import Repetition
from ssl_jax.io import images
from ssl_jax.reports import report_planes
from ssl_jax.types import Source

LARGEST = 384
"""Pixels of the longer side of an image in a report."""

LARGEST_MONTAGE = 640
"""The same of three planes of a volume in one picture."""

EACH = 2
"""Images of each kind: the best, the worst, and those that changed most."""


class Choice(NamedTuple):
  """A test image that a report shows, and why."""

  index: int  # in the test set
  reason: str
  scores: Mapping[str, float]  # mIoU in percent, by stage


class Picture(NamedTuple):
  """A test image as HTML shows it: data URIs of the image and of masks to lay over it."""

  name: str
  reason: str
  image: str
  masks: Mapping[str, str]  # by title: the truth, then each stage
  scores: Mapping[str, float]


def choose(sides: Mapping[str, Repetition]) -> list[Choice]:
  """Chooses the test images to show: the best, the worst, and those that changed most.

  Args:
    sides: the first repetition of the control and, last, of the method.
  """
  scores = {}
  for name, side in sides.items():
    scores[name] = np.asarray(confusion.mean_iou(side.matrices), np.float64)
  control, ours = next(iter(scores.values())), scores[next(reversed(scores))]
  change = ours - control
  orders = {
    'best': np.argsort(-ours, kind='stable'),
    'worst': np.argsort(ours, kind='stable'),
    'improved most': np.argsort(-change, kind='stable'),
    'got worse most': np.argsort(change, kind='stable'),
  }
  # Of two images none is the second best.
  count = 1 if len(ours) < 2 * EACH else EACH
  chosen: dict[int, Choice] = {}
  for reason, order in orders.items():
    # NaN (no class is there) sorts last and is nothing to show.
    known = [int(i) for i in order if not np.isnan(change[i]) and int(i) not in chosen]
    if reason == 'improved most':
      known = [i for i in known if change[i] > 0]
    if reason == 'got worse most':
      known = [i for i in known if change[i] < 0]
    for i in known[:count]:
      chosen[i] = Choice(i, reason, {name: float(values[i]) for name, values in scores.items()})
  return list(chosen.values())


def picture(
  choice: Choice,
  source: Source,
  masks: Mapping[str, np.ndarray],
  spacing: Sequence[float] | None = None,
) -> Picture:
  """Makes the picture of a test image; of a volume, of three planes where the truth marks most.

  Args:
    choice: which image.
    source: the test images.
    masks: class ids [*space] by stage, at the size of the image.
    spacing: of volumes: mm of a voxel along z, y and x; None: they are cubes.
  """
  record = source[choice.index]
  image, all_masks = record['image'], {'truth': record['label'], **masks}
  name, largest = record['name'], LARGEST
  if image.ndim == 4:
    place = report_planes.marked_place(np.asarray(record['label']))
    name, largest = f'{name}, {place.text()}', LARGEST_MONTAGE
    image = report_planes.montage(image, place, spacing)
    for title, mask in all_masks.items():
      all_masks[title] = report_planes.montage(mask, place, spacing)
  size = _shown_size(image, largest)
  layers = {}
  for title, mask in all_masks.items():
    layers[title] = _uri(_layer(np.asarray(mask), size), 'PNG')
  return Picture(name, choice.reason, _shown(image, size), layers, choice.scores)


def with_mask(
  image: Num[np.ndarray, 'h w c'], mask: Integer[np.ndarray, 'h w'] | None
) -> tuple[str, str]:
  """Returns an image and a mask to lay over it as data URIs; of no mask an empty text."""
  size = _shown_size(image)
  layer = '' if mask is None else _uri(_layer(mask, size), 'PNG')
  return _shown(image, size), layer


def heat(image: Num[np.ndarray, 'h w c'], values: Float[np.ndarray, 'h w']) -> str:
  """Returns values of at least 0 as orange to lay over an image, clear where they are 0."""
  size = _shown_size(image)
  small = Image.fromarray(values.astype(np.float32)).resize(size[::-1], Image.Resampling.BILINEAR)
  opacity = np.clip(np.asarray(small) / max(float(values.max()), 1e-6), 0, 1) * 230
  color = np.broadcast_to(np.array([255, 110, 0], np.uint8), (*size, 3))
  return _uri(Image.fromarray(np.dstack([color, opacity.astype(np.uint8)])).quantize(64), 'PNG')


def _shown(image: Num[np.ndarray, 'h w c'], size: tuple[int, int]) -> str:
  """An image of any kind as an 8-bit JPEG."""
  pixels = images.to_rgb(image)
  jpeg = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR)
  return _uri(jpeg, 'JPEG')


def _shown_size(image: np.ndarray, largest: int = LARGEST) -> tuple[int, int]:
  """Rows and columns, not more than the image has."""
  height, width = image.shape[:2]
  factor = min(largest / max(height, width), 1.0)
  return max(round(height * factor), 1), max(round(width * factor), 1)


def _layer(mask: Integer[np.ndarray, 'h w'], size: tuple[int, int]) -> Image.Image:
  """A mask in the colors of its classes, half transparent, and clear where there is none."""
  resized = Image.fromarray(mask.astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST)
  ids = np.asarray(resized)
  colors: UInt8[np.ndarray, 'h w 3'] = images.colorize(ids)
  # The outline is opaque, so that objects that touch are told apart.
  opacity = np.where(images.outline(ids), 255, 110) * (ids != 0)
  return Image.fromarray(np.dstack([colors, opacity.astype(np.uint8)])).quantize(64)


def _uri(image: Image.Image, form: str) -> str:
  """An image as text that an HTML page can hold."""
  data = io.BytesIO()
  image.save(data, format=form, **({'quality': 85} if form == 'JPEG' else {'optimize': True}))
  return f'data:image/{form.lower()};base64,{base64.b64encode(data.getvalue()).decode()}'
