"""Patches around marked cells, and of the background between them, cut from whole images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer, Num
from scipy import ndimage

from ssl_jax.data.point_annotations import AnnotatedImage
from ssl_jax.types import BACKGROUND, IGNORE, Record, Source

TURNS = 8
"""Ways to turn and mirror a square."""


class Window(NamedTuple):
  """Where a patch is cut, and what is known of it."""

  image: int  # index of the image
  middle: tuple[int, int]  # row and column
  label: int  # class id; IGNORE where it is unknown
  point: tuple[float, float] | None  # row and column of the cell in the image; None: background
  turn: int = 0  # of TURNS


class Patches:
  """A Source of patches; beyond the border of its image a patch is mirrored.

  Args:
    images: whole images.
    windows: what to cut out of them.
    side: of a patch, in pixels.
    labeled: whether records have a label, a point and the name of their image.
    names: of the images.
  """

  def __init__(
    self, images: Source, windows: Sequence[Window], side: int, labeled: bool, names: Sequence[str]
  ):
    self.windows = windows
    self._images = images
    self._side = side
    self._labeled = labeled
    self._names = names

  def __len__(self) -> int:
    return len(self.windows)

  def __getitem__(self, index: int) -> Record:
    window = self.windows[index]
    image = self._images[window.image]['image']
    # Row and column of the first pixel; it may be negative, beyond the border.
    corner = np.array(window.middle) - self._side // 2
    row, column = window.middle
    name = self._names[window.image]
    patch = turn_patch(cut_patch(image, corner, self._side), window.turn)
    # x before y, as in the CSV of points.
    record = Record(image=patch, name=f'{name}_{column}_{row}_{window.turn}')
    if self._labeled:
      # From the image's coordinates to those of the patch. Background has no cell and gets NaN, by
      # which `centroids` in views/labels.py recognizes it.
      point = np.full(2, np.nan) if window.point is None else np.array(window.point) - corner
      record['label'] = np.int32(window.label)
      record['point'] = _turn_point(point, self._side, window.turn).astype(np.float32)
      record['of'] = name
    return record


def cut_patch(
  image: Num[np.ndarray, 'h w c'], corner: Integer[np.ndarray, '2'], side: int
) -> Num[np.ndarray, '{side} {side} c']:
  """Cuts the square that begins at `corner`; beyond the border the image is mirrored."""
  # [side] indices each; `rows[:, None]` with `columns` picks the whole square.
  rows = _mirror(np.arange(corner[0], corner[0] + side), image.shape[0])
  columns = _mirror(np.arange(corner[1], corner[1] + side), image.shape[1])
  return image[rows[:, None], columns]


def _mirror(index: np.ndarray, length: int) -> np.ndarray:
  """Brings indices beyond 0..length-1 back, by mirrors that stand on the edges of the image."""
  # Mirrored images repeat every 2 * length pixels: ... 1 0 | 0 1 2 ... n-1 | n-1 n-2 ...
  folded = index % (2 * length)
  return np.minimum(folded, 2 * length - 1 - folded)


def turn_patch(patch: Num[np.ndarray, 'n n c'], turn: int) -> Num[np.ndarray, 'n n c']:
  """Turns a patch by `turn % 4` quarters; it is mirrored before if `turn` is 4 or more."""
  if turn >= 4:
    patch = patch[:, ::-1]
  return np.ascontiguousarray(np.rot90(patch, turn % 4))


def _turn_point(point: Float[np.ndarray, '2'], side: int, turn: int) -> Float[np.ndarray, '2']:
  """Where a point of a patch is when the patch is turned."""
  # The same steps as in `turn_patch`, or the point would leave its cell.
  row, column = point
  if turn >= 4:
    column = side - 1 - column
  for _ in range(turn % 4):
    # A quarter turn of np.rot90, which is counter-clockwise.
    row, column = side - 1 - column, row
  return np.array([row, column])


def cell_windows(annotated_images: Sequence[AnnotatedImage]) -> list[Window]:
  """Returns a window for each cell, with the cell in its middle."""
  windows = []
  for index, annotated in enumerate(annotated_images):
    for (row, column), label in zip(annotated.cells, annotated.classes, strict=True):
      # Windows begin at whole pixels; `point` keeps the exact position.
      middle = (round(row), round(column))
      windows.append(Window(index, middle, int(label), (row, column)))
  return windows


def jitter_windows(
  windows: Sequence[Window], jitter: int, rng: np.random.Generator
) -> list[Window]:
  """Moves each window by at most `jitter` pixels on either axis; its cell stays where it is."""
  # [n, 2] whole pixels, down and right.
  moves = rng.integers(-jitter, jitter, (len(windows), 2), endpoint=True).tolist()
  moved = []
  for window, (down, right) in zip(windows, moves, strict=True):
    row, column = window.middle
    moved.append(window._replace(middle=(row + down, column + right)))
  return moved


def background_windows(
  images: Source,
  annotated_images: Sequence[AnnotatedImage],
  count: int,
  min_distance: float,
  step: int,
  rng: np.random.Generator,
) -> list[Window]:
  """Draws windows of the background from a grid on each image.

  Args:
    images: whole images.
    annotated_images: their cells.
    count: how many to draw of all images together, or all where there are fewer.
    min_distance: of a window's middle to every cell, in pixels.
    step: the distance of the grid's lines; where each grid begins is drawn.
    rng: of the draws.
  """
  windows = []
  for index, annotated in enumerate(annotated_images):
    height, width = images[index]['image'].shape[:2]
    # [H, W] in pixels
    distance = _distance_to_cells(annotated.cells, (height, width))
    # A random start: otherwise the background of all images would come from the same positions.
    first_row, first_column = rng.integers(0, step, 2)
    for row in range(first_row, height, step):
      for column in range(first_column, width, step):
        if distance[row, column] >= min_distance:
          windows.append(Window(index, (row, column), BACKGROUND, None))
  # Over all images together: a crowded image gives few, one without cells many.
  drawn = rng.permutation(len(windows))[:count]
  # Sorted, so that windows of one image follow each other.
  return [windows[i] for i in sorted(drawn)]


def _distance_to_cells(
  cells: Float[np.ndarray, 'n 2'], shape: tuple[int, int]
) -> Float[np.ndarray, 'h w']:
  """The distance of each pixel to the nearest cell; infinite where there is none."""
  if len(cells) == 0:
    return np.full(shape, np.inf)
  # A point on the right or lower edge is rounded to the pixel beyond it, hence the clip.
  rows, columns = np.round(cells).astype(int).T
  is_free = np.ones(shape, bool)
  is_free[np.clip(rows, 0, shape[0] - 1), np.clip(columns, 0, shape[1] - 1)] = False
  # The exact Euclidean distance of each pixel to the nearest pixel that is False.
  return np.asarray(ndimage.distance_transform_edt(is_free))


def grid_windows(images: Source, step: int) -> list[Window]:
  """Returns windows, `step` pixels apart, of images in which nobody has marked anything."""
  windows = []
  for index in range(len(images)):
    height, width = images[index]['image'].shape[:2]
    # Half a step from the border, so that the outer windows lie mostly inside.
    for row in range(step // 2, height, step):
      for column in range(step // 2, width, step):
        windows.append(Window(index, (row, column), IGNORE, None))
  return windows


def draw_windows(windows: Sequence[Window], count: int, rng: np.random.Generator) -> list[int]:
  """Draws the indices of `count` windows of known class, equally many of each class.

  What a rare class lacks, the others share.
  """
  of_class: dict[int, list[int]] = {}
  # The lists of all classes are in random order, so their first entries are a random draw.
  for index in rng.permutation(len(windows)):
    label = windows[index].label
    if label != IGNORE:
      of_class.setdefault(label, []).append(int(index))
  # The rarest class first: what it cannot give is then shared by all that come after it.
  rarest_first = sorted(of_class.values(), key=len)
  drawn = []
  for position, indices in enumerate(rarest_first):
    classes_left = len(rarest_first) - position
    equal_share = -(-(count - len(drawn)) // classes_left)  # rounded up
    drawn += indices[:equal_share]
  return sorted(drawn)


def balance_windows(windows: Sequence[Window], rng: np.random.Generator) -> list[Window]:
  """Adds turned copies of windows of rarer classes until all classes have equally many."""
  classes = sorted({window.label for window in windows if window.label != IGNORE})
  of_class = {label: [w for w in windows if w.label == label] for label in classes}
  largest = max((len(members) for members in of_class.values()), default=0)
  copies = []
  for members in of_class.values():
    order = rng.permutation(len(members))
    for extra in range(largest - len(members)):
      window = members[order[extra % len(members)]]
      # Each round through the members turns them in another way than the rounds before.
      turn = (window.turn + 1 + extra // len(members)) % TURNS
      # Only the turn changes: the patch is cut again from its image when asked for.
      copies.append(window._replace(turn=turn))
  return [*windows, *copies]
