"""Patches around marked cells, and of the background between them, cut from whole images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ssl_jax.data.point_annotations import Scene
from ssl_jax.types import IGNORE, Source

TURNS = 8
"""Ways to turn and mirror a square."""


class Window(NamedTuple):
  """A square piece of an image, and what is known of its middle."""

  scene: int
  at: tuple[int, int]  # row and column of its middle
  label: int  # 0: background; IGNORE: unknown
  point: tuple[float, float] | None  # row and column of the cell, in the image
  turn: int = 0  # of TURNS


class Patches:
  """A Source of windows; each is `side` pixels a side, mirrored at the border of its image."""

  def __init__(
    self, images: Source, windows: Sequence[Window], side: int, labeled: bool, names: Sequence[str]
  ):
    self._images, self.windows, self._side, self._labeled = images, windows, side, labeled
    self._names = names

  def __len__(self) -> int:
    return len(self.windows)

  def __getitem__(self, index: int) -> dict:
    window = self.windows[index]
    image = self._images[window.scene]['image']
    corner = np.array(window.at) - self._side // 2
    name = f'{self._names[window.scene]}_{window.at[1]}_{window.at[0]}_{window.turn}'
    record = {'image': turned(cut(image, corner, self._side), window.turn), 'name': name}
    if self._labeled:
      point = np.full(2, np.nan) if window.point is None else np.array(window.point) - corner
      record['label'] = np.int32(window.label)
      record['point'] = _turned_point(point, self._side, window.turn).astype(np.float32)
      record['of'] = self._names[window.scene]
    return record


def cut(image: np.ndarray, corner: np.ndarray, side: int) -> np.ndarray:
  """A square [side, side, C] that begins at `corner`; beyond the border the image is mirrored."""
  rows, columns = (
    _mirrored(np.arange(start, start + side), length)
    for start, length in zip(corner, image.shape, strict=False)
  )
  return image[rows[:, None], columns]


def _mirrored(index: np.ndarray, length: int) -> np.ndarray:
  """Indices beyond 0..length-1 brought back by mirrors that stand on the edges of the image."""
  folded = index % (2 * length)
  return np.minimum(folded, 2 * length - 1 - folded)


def turned(patch: np.ndarray, turn: int) -> np.ndarray:
  """Turned by (turn % 4) quarters; from 4 on mirrored first."""
  patch = patch[:, ::-1] if turn >= 4 else patch
  return np.ascontiguousarray(np.rot90(patch, turn % 4))


def _turned_point(point: np.ndarray, side: int, turn: int) -> np.ndarray:
  row, column = point
  if turn >= 4:
    column = side - 1 - column
  for _ in range(turn % 4):
    row, column = side - 1 - column, row
  return np.array([row, column])


def nuclei(scenes: Sequence[Scene]) -> list[Window]:
  """A window for each cell, with it in its middle."""
  found = []
  for number, scene in enumerate(scenes):
    for (row, column), label in zip(scene.at, scene.classes, strict=True):
      found.append(Window(number, (round(row), round(column)), int(label), (row, column)))
  return found


def moved(windows: Sequence[Window], jitter: int, rng: np.random.Generator) -> list[Window]:
  """Each window moved by at most `jitter` pixels on either axis."""
  steps = rng.integers(-jitter, jitter, (len(windows), 2), endpoint=True).tolist()
  return [
    window._replace(at=(window.at[0] + down, window.at[1] + right))
    for window, (down, right) in zip(windows, steps, strict=True)
  ]


def background(
  images: Source, scenes: Sequence[Scene], count: int, clear: float, step: int,
  rng: np.random.Generator,
) -> list[Window]:  # fmt: skip
  """At most `count` windows with no cell within `clear` pixels of their middle, drawn from a grid.

  `step` is the distance of the grid's lines; where each image's grid begins is drawn.
  """
  found = []
  for number, scene in enumerate(scenes):
    shape = images[number]['image'].shape[:2]
    free = np.ones(shape, bool)
    free[tuple(np.clip(np.round(scene.at).astype(int).T, 0, np.array(shape)[:, None] - 1))] = False
    far = ndimage.distance_transform_edt(free) if len(scene.at) else np.full(shape, np.inf)
    starts = rng.integers(0, step, 2)
    for row in range(starts[0], shape[0], step):
      for column in range(starts[1], shape[1], step):
        if far[row, column] >= clear:
          found.append(Window(number, (row, column), 0, None))
  order = rng.permutation(len(found))[:count]
  return [found[i] for i in sorted(order)]


def grid(images: Source, step: int) -> list[Window]:
  """Windows of images in which nobody has marked anything, `step` pixels apart."""
  return [
    Window(number, (row, column), IGNORE, None)
    for number in range(len(images))
    for row in range(step // 2, images[number]['image'].shape[0], step)
    for column in range(step // 2, images[number]['image'].shape[1], step)
  ]


def draw(windows: Sequence[Window], count: int, rng: np.random.Generator) -> list[int]:
  """Indices of `count` windows of known class, as many of each class as there are."""
  each: dict[int, list[int]] = {}
  for index in rng.permutation(len(windows)):
    if windows[index].label != IGNORE:
      each.setdefault(windows[index].label, []).append(int(index))
  order = sorted(each.values(), key=len)
  chosen = []
  for place, indices in enumerate(order):  # what a rare class lacks, the others share
    chosen += indices[: -(-(count - len(chosen)) // (len(order) - place))]
  return sorted(chosen)


def balanced(windows: Sequence[Window], rng: np.random.Generator) -> list[Window]:
  """The windows, and turned copies of those of rarer classes until all classes are equal."""
  classes = sorted({window.label for window in windows if window.label != IGNORE})
  each = {label: [w for w in windows if w.label == label] for label in classes}
  most, copies = max((len(own) for own in each.values()), default=0), []
  for own in each.values():
    order = rng.permutation(len(own))
    for extra in range(most - len(own)):
      window = own[order[extra % len(own)]]
      turn = (window.turn + 1 + extra // len(own)) % TURNS
      copies.append(window._replace(turn=turn))
  return [*windows, *copies]
