"""Cells in whole images: windows slide over them, each answers for what lies near its middle."""

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy.spatial import KDTree

from ssl_jax.evaluation.evaluate import predict_patches
from ssl_jax.io import images
from ssl_jax.types import BACKGROUND, IGNORE, PredictFn

WINDOWS = 256
"""Windows that go through the network together."""


class Cells(NamedTuple):
  """What was found in an image."""

  at: np.ndarray  # [n, 2] row and column, as an index of a pixel
  classes: np.ndarray  # [n] ids
  scores: np.ndarray  # [n] mean probability that there is a cell, of the windows that voted for it


def slide(
  answer: PredictFn,
  image: np.ndarray,
  size: int,
  stride: int = 8,
  score: float = 0.5,
  radius: float = 12.0,
) -> Cells:
  """The cells of an image [H, W, C] in [0, 1], by windows of `size` pixels, `stride` apart.

  A window votes for a cell that it places at most `stride` pixels from its middle, on either axis,
  and of which it is at least `score` sure. Votes are joined and the weaker of close ones go (see
  `cluster_votes`). Beyond the border the image is mirrored.
  """
  half = size // 2
  padded = np.pad(image, [(half, size), (half, size), (0, 0)], mode='symmetric')
  rows, columns = (np.arange(_first(n, stride), n, stride) for n in image.shape[:2])
  middles = np.stack(np.meshgrid(rows, columns, indexing='ij'), -1).reshape(-1, 2)
  places, answers = [], []
  for start in range(0, len(middles), WINDOWS):
    here = middles[start : start + WINDOWS]
    shown = np.stack([padded[r : r + size, c : c + size] for r, c in here])
    probs, parts = predict_patches(answer, shown, WINDOWS)
    beside = parts[:, ::-1] * size - 0.5 - half  # of the pixel in the middle; rows first
    kept = (1 - probs[:, BACKGROUND] >= score) & (np.abs(beside) <= stride).all(-1)
    places.append((here + beside)[kept])
    answers.append(probs[kept])
  at, probs = np.concatenate(places), np.concatenate(answers)
  inside = ((at >= -0.5) & (at <= np.array(image.shape[:2]) - 0.5)).all(-1)
  return cluster_votes(at[inside], probs[inside], radius)


def _first(length: int, stride: int) -> int:
  """Where windows begin, so that they leave the same margin at both ends."""
  return ((length - 1) % stride) // 2


def cluster_votes(at: np.ndarray, probs: np.ndarray, radius: float) -> Cells:
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
  kept = non_max_suppression(places, np.array([sure[own].sum() for own in near]), radius)
  return Cells(places[kept], classes[kept], scores[kept])


def non_max_suppression(at: np.ndarray, weights: np.ndarray, radius: float) -> list[int]:
  """Non-maximum suppression: indices of those that have none heavier closer than `radius`."""
  tree, gone, kept = KDTree(at), np.zeros(len(at), bool), []
  for index in np.argsort(-weights, kind='stable'):
    if not gone[index]:
      kept.append(int(index))
      gone[tree.query_ball_point(at[index], np.nextafter(radius, 0))] = True
  return kept


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
