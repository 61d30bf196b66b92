"""Cells in whole images: windows slide over them, each answers for what lies near its middle."""

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from ssl_jax import images
from ssl_jax.evaluate import Answer, patch_answers
from ssl_jax.types import BACKGROUND, IGNORE

WINDOWS = 256
"""Windows that go through the network together."""


class Cells(NamedTuple):
  """What was found in an image."""

  at: np.ndarray  # [n, 2] row and column, as an index of a pixel
  classes: np.ndarray  # [n] ids
  scores: np.ndarray  # [n] mean probability that there is a cell, of the windows that voted for it


def slide(
  answer: Answer,
  image: np.ndarray,
  size: int,
  stride: int = 8,
  score: float = 0.5,
  radius: float = 12.0,
) -> Cells:
  """The cells of an image [H, W, C] in [0, 1], by windows of `size` pixels, `stride` apart.

  A window votes for a cell that it places at most `stride` pixels from its middle, on either axis,
  and of which it is at least `score` sure. Votes are joined and the weaker of close ones go (see
  `elect`). Beyond the border the image is mirrored.
  """
  half = size // 2
  padded = np.pad(image, [(half, size), (half, size), (0, 0)], mode='symmetric')
  rows, columns = (np.arange(_first(n, stride), n, stride) for n in image.shape[:2])
  middles = np.stack(np.meshgrid(rows, columns, indexing='ij'), -1).reshape(-1, 2)
  places, answers = [], []
  for start in range(0, len(middles), WINDOWS):
    here = middles[start : start + WINDOWS]
    shown = np.stack([padded[r : r + size, c : c + size] for r, c in here])
    probs, parts = patch_answers(answer, shown, WINDOWS)
    beside = parts[:, ::-1] * size - 0.5 - half  # of the pixel in the middle; rows first
    kept = (1 - probs[:, BACKGROUND] >= score) & (np.abs(beside) <= stride).all(-1)
    places.append((here + beside)[kept])
    answers.append(probs[kept])
  at, probs = np.concatenate(places), np.concatenate(answers)
  inside = ((at >= -0.5) & (at <= np.array(image.shape[:2]) - 0.5)).all(-1)
  return elect(at[inside], probs[inside], radius)


def _first(length: int, stride: int) -> int:
  """Where windows begin, so that they leave the same margin at both ends."""
  return ((length - 1) % stride) // 2


def elect(at: np.ndarray, probs: np.ndarray, radius: float) -> Cells:
  """The cells that votes [n, 2] with probabilities [n, k] are for.

  Each vote is joined with those within half the `radius`: their mean place, weighed by how sure
  they are of a cell, their mean certainty, and the class that has most of their probability. Then
  those closer than `radius` to one with more certainty in all go (non-maximum suppression).
  """
  if not len(at):
    return Cells(np.zeros((0, 2)), np.zeros(0, int), np.zeros(0))
  sure = 1 - probs[:, BACKGROUND]
  near = KDTree(at).query_ball_point(at, radius / 2)
  places = np.stack([np.average(at[own], axis=0, weights=sure[own]) for own in near])
  classes = np.stack([np.delete(probs[own].sum(0), BACKGROUND) for own in near]).argmax(-1) + 1
  scores = np.array([sure[own].mean() for own in near])
  kept = suppress(places, np.array([sure[own].sum() for own in near]), radius)
  return Cells(places[kept], classes[kept], scores[kept])


def suppress(at: np.ndarray, weights: np.ndarray, radius: float) -> list[int]:
  """Non-maximum suppression: indices of those that have none heavier closer than `radius`."""
  tree, gone, kept = KDTree(at), np.zeros(len(at), bool), []
  for index in np.argsort(-weights, kind='stable'):
    if not gone[index]:
      kept.append(int(index))
      gone[tree.query_ball_point(at[index], np.nextafter(radius, 0))] = True
  return kept


def pairs(found: np.ndarray, truth: np.ndarray, distance: float) -> list[tuple[int, int]]:
  """One-to-one pairs of points at most `distance` apart: as many as can be, then the closest."""
  if not len(found) or not len(truth):
    return []
  apart = cdist(found, truth)
  near = apart <= distance
  far = 1 + distance * (min(apart.shape) + 1)  # one more pair outweighs all distances
  chosen = linear_sum_assignment(np.where(near, apart, far))
  return [(i, j) for i, j in zip(*chosen, strict=True) if near[i, j]]


def count(
  cells: Cells, at: np.ndarray, classes: np.ndarray, names: Sequence[str], distance: float
) -> np.ndarray:
  """Hits, false and missed [classes, 3] against the points of an image.

  Row 0 is that of cells of whatever class. A point of unknown class counts there; found under some
  class, it is neither a hit nor false.
  """
  counts = np.zeros((len(names), 3), np.int64)
  counts[0] = _tally(len(pairs(cells.at, at, distance)), len(cells.at), len(at))
  for number in range(1, len(names)):
    mine, true = cells.at[cells.classes == number], at[classes == number]
    hits = pairs(mine, true, distance)
    others = np.delete(mine, [i for i, _ in hits], axis=0)
    unknown = len(pairs(others, at[classes == IGNORE], distance))
    counts[number] = _tally(len(hits), len(mine) - unknown, len(true))
  return counts


def _tally(hits: int, found: int, true: int) -> tuple[int, int, int]:
  return hits, found - hits, true - hits


def f1_scores(counts: np.ndarray, names: Sequence[str]) -> dict[str, float]:
  """In percent: detection_f1, _precision and _recall (any class), f1/<class>, and their mean f1."""
  hits, false, missed = counts.T.astype(float)
  each = 100 * 2 * hits / np.maximum(2 * hits + false + missed, 1)
  true = hits + missed > 0
  return {
    'detection_f1': float(each[0]),
    'detection_precision': float(100 * hits[0] / max(hits[0] + false[0], 1)),
    'detection_recall': float(100 * hits[0] / max(hits[0] + missed[0], 1)),
    'f1': float(each[1:][true[1:]].mean()) if true[1:].any() else float('nan'),
    **{f'f1/{names[i]}': float(each[i]) for i in range(1, len(names)) if true[i]},
  }


def as_csv(cells: Cells, names: Sequence[str]) -> str:
  """x (from the left edge) and y (from the top) in pixels, class and score; a line for each."""
  text = io.StringIO()
  table = csv.writer(text)
  table.writerow(['x', 'y', 'class', 'score'])
  for (row, column), number, score in zip(*cells, strict=True):
    table.writerow([f'{column + 0.5:.2f}', f'{row + 0.5:.2f}', names[number], f'{score:.4f}'])
  return text.getvalue()


def draw(image: np.ndarray, at: np.ndarray, classes: np.ndarray, radius: int = 6) -> np.ndarray:
  """The image with a ring of its class's colour around each cell; grey where it is unknown."""
  shown = Image.fromarray(images.to_channels(images.to_uint8(image), 3))
  pen = ImageDraw.Draw(shown)
  for (row, column), number in zip(at, classes, strict=True):
    place = (1 + (number - 1) % (len(images.PALETTE) - 1)) if number != IGNORE else None
    colour = images.GREY if place is None else images.PALETTE[place]
    box = (column - radius, row - radius, column + radius, row + radius)
    pen.ellipse(box, outline=tuple(colour.tolist()), width=2)
  return np.asarray(shown)
