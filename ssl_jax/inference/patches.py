"""Predictions for patches that are labeled as a whole."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ssl_jax.data.dataset_stats import to_float
from ssl_jax.types import PredictFn, Record, Source

BATCH = 128
"""Patches that go through a network together."""


class Prediction(NamedTuple):
  """What a network predicts of one patch."""

  record: Record  # the patch, as its source gives it
  probs: Float[np.ndarray, ' classes']
  x: np.floating  # of its cell, as a fraction of the patch's side
  y: np.floating


def predict_source(predict_fn: PredictFn, source: Source) -> Iterator[Prediction]:
  """Yields the prediction for each patch of a source, in order."""
  for start in range(0, len(source), BATCH):
    records = [source[i] for i in range(start, min(start + BATCH, len(source)))]
    images = np.stack([to_float(record['image']) for record in records])
    probabilities, points = predict_patches(predict_fn, images, BATCH)
    for record, probs, (x, y) in zip(records, probabilities, points, strict=True):
      yield Prediction(record, probs, x, y)


def predict_patches(
  predict_fn: PredictFn, patches: Float[np.ndarray, 'n h w c'], batch: int
) -> tuple[Float[np.ndarray, 'n classes'], Float[np.ndarray, 'n 2']]:
  """Returns the class probabilities of patches, and x and y of their cells.

  x and y are fractions of the patch's sides; a network that has no such heads means the middle.

  Args:
    predict_fn: gives a dict with 'class' and perhaps 'x' and 'y'.
    patches: at most `batch` images in [0, 1].
    batch: size that the batch is filled up to, so that one compiled program serves all.
  """
  # Copies of the last patch, whose predictions are cut off below.
  missing = batch - len(patches)
  filled = np.pad(patches, [(0, missing), (0, 0), (0, 0), (0, 0)], mode='edge')
  # Each output is [batch, ...].
  outputs = predict_fn(filled)
  middle = np.full(batch, 0.5)
  points = np.stack([outputs.get('x', middle), outputs.get('y', middle)], -1)
  return outputs['class'][: len(patches)], points[: len(patches)]
