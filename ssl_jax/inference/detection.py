"""Finds cells in whole images: sliding windows, each of which votes for a cell near its center."""

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer, Num
from scipy.spatial import KDTree

from ssl_jax.inference.patches import predict_patches
from ssl_jax.types import BACKGROUND, PredictFn

BATCH = 256
"""Windows that go through the network together."""


class Cells(NamedTuple):
  """The cells detected in an image."""

  points: Float[np.ndarray, 'n 2']  # row and column, as indices of pixels
  classes: Integer[np.ndarray, ' n']  # ids
  scores: Float[np.ndarray, ' n']  # mean probability of a cell, over the windows that voted for it


def detect_cells(
  predict_fn: PredictFn,
  image: Num[np.ndarray, 'h w c'],
  size: int,
  stride: int = 8,
  score: float | int = 0.5,
  radius: float | int = 12.0,
) -> Cells:
  """Returns the cells of an image.

  A window votes for a cell that it places at most `stride` pixels from its own center on either
  axis, so that each cell has votes of the windows around it alone. Beyond the border the image is
  mirrored.

  Args:
    predict_fn: gives a dict with 'class', and 'x' and 'y' as fractions of a window's side.
    image: in [0, 1].
    size: side of the windows in pixels, that of the patches in training.
    stride: pixels between the centers of neighboring windows.
    score: lowest probability of a cell with which a window votes.
    radius: pixels; of cells closer than this one is kept (see cluster_votes).
  """
  # `half` before the image, so that the window that starts at (r, c) of `padded` has its center at
  # (r, c) of the image. `size` behind it is more than enough for the last windows.
  half = size // 2
  padded = np.pad(image, [(half, size), (half, size), (0, 0)], mode='symmetric')
  rows, columns = (np.arange(_first_center(n, stride), n, stride) for n in image.shape[:2])
  # [windows, 2]: row and column of each center.
  centers = np.stack(np.meshgrid(rows, columns, indexing='ij'), -1).reshape(-1, 2)
  # Only votes are kept, so that memory does not grow with the number of windows.
  all_points, all_probs = [], []
  for start in range(0, len(centers), BATCH):
    batch = centers[start : start + BATCH]
    # [windows of this batch, size, size, C]
    windows = np.stack([padded[r : r + size, c : c + size] for r, c in batch])
    probs, fractions = predict_patches(predict_fn, windows, BATCH)
    # x, y from the window's edge become rows, columns from the pixel at its center.
    offsets = fractions[:, ::-1] * size - 0.5 - half
    is_cell = 1 - probs[:, BACKGROUND] >= score
    votes = is_cell & (np.abs(offsets) <= stride).all(-1)
    all_points.append((batch + offsets)[votes])
    all_probs.append(probs[votes])
  points, probs = np.concatenate(all_points), np.concatenate(all_probs)
  # Cells in the mirrored border are reflections. A pixel reaches half a unit beyond its index.
  inside = ((points >= -0.5) & (points <= np.array(image.shape[:2]) - 0.5)).all(-1)
  return cluster_votes(points[inside], probs[inside], radius)


def _first_center(length: int, stride: int) -> int:
  """Where the centers begin, so that they leave the same margin at both ends of an axis."""
  return ((length - 1) % stride) // 2


def cluster_votes(
  points: Float[np.ndarray, 'n 2'], probs: Float[np.ndarray, 'n k'], radius: float | int
) -> Cells:
  """Returns the cells that windows have voted for.

  Each vote is joined with those within half the `radius`: their mean position, weighted by the
  probability of a cell, their mean probability, and the class with the highest summed probability.
  Then, of cells closer than `radius`, the one with the highest summed probability is kept.

  Args:
    points: row and column that each vote is for.
    probs: class probabilities of each vote; the first is that of the background.
    radius: in pixels.
  """
  # Without votes there is nothing to stack below.
  if not len(points):
    return Cells(np.zeros((0, 2)), np.zeros(0, int), np.zeros(0))
  confidence = 1 - probs[:, BACKGROUND]
  positions, classes, scores, weights = [], [], [], []
  # Neighbors include the vote itself. Votes are merged anew for each vote, so that the same cell
  # comes out many times; the suppression below keeps it once.
  for neighbors in KDTree(points).query_ball_point(points, radius / 2):
    votes = confidence[neighbors]
    positions.append(np.average(points[neighbors], axis=0, weights=votes))
    # The best class of a cell: the background is left out, which moves the others down by one.
    classes.append(np.delete(probs[neighbors].sum(0), BACKGROUND).argmax() + 1)
    scores.append(votes.mean())
    # A sum, unlike the score: a cell that many windows agree on beats one confident outlier.
    weights.append(votes.sum())
  kept = non_max_suppression(np.stack(positions), np.array(weights), radius)
  return Cells(np.stack(positions)[kept], np.array(classes)[kept], np.array(scores)[kept])


def non_max_suppression(
  points: Float[np.ndarray, 'n 2'], weights: Float[np.ndarray, ' n'], radius: float | int
) -> list[int]:
  """Returns the indices of the points that have none of higher weight closer than `radius`."""
  tree = KDTree(points)
  suppressed = np.zeros(len(points), bool)
  kept = []
  # Stable, so that of equal weights the first wins on every machine.
  for index in np.argsort(-weights, kind='stable'):
    if not suppressed[index]:
      kept.append(int(index))
      # query_ball_point includes its radius; a point exactly that far away is not closer.
      suppressed[tree.query_ball_point(points[index], np.nextafter(radius, 0))] = True
  return kept


def cells_to_csv(cells: Cells, names: Sequence[str]) -> str:
  """Returns a line for each cell: x and y in pixels from the top left corner, class and score."""
  text = io.StringIO()
  table = csv.writer(text)
  table.writerow(['x', 'y', 'class', 'score'])
  for (row, column), class_id, score in zip(*cells, strict=True):
    # The center of the first pixel has the index 0 and is half a pixel from the edge.
    table.writerow([f'{column + 0.5:.2f}', f'{row + 0.5:.2f}', names[class_id], f'{score:.4f}'])
  return text.getvalue()
