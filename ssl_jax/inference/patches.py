"""Predictions for patches that are labeled as a whole."""

from collections.abc import Iterator

import numpy as np

from ssl_jax.data.dataset_stats import unit
from ssl_jax.types import PredictFn, Source

PATCHES = 128
"""Patches that go through a network together."""


def answered(answer: PredictFn, source: Source) -> Iterator[tuple[dict, np.ndarray, tuple]]:
  """Each patch, the probabilities of its class, and x and y in parts of it."""
  for start in range(0, len(source), PATCHES):
    records = [source[i] for i in range(start, min(start + PATCHES, len(source)))]
    shown = np.stack([unit(record['image']) for record in records])
    for record, probs, at in zip(records, *predict_patches(answer, shown, PATCHES), strict=True):
      yield record, probs, tuple(at)


def predict_patches(
  answer: PredictFn, patches: np.ndarray, batch: int
) -> tuple[np.ndarray, np.ndarray]:
  """PredictFn [n, k], and x and y [n, 2] in parts of the patch, of at most `batch` patches.

  A network that does not say where a cell is means the middle. Batches are filled up to `batch`, so
  that one program serves all.
  """
  filled = np.pad(patches, [(0, batch - len(patches)), (0, 0), (0, 0), (0, 0)], mode='edge')
  said = answer(filled)
  middle = np.full(batch, 0.5)
  at = np.stack([said.get('x', middle), said.get('y', middle)], -1)
  return said['class'][: len(patches)], at[: len(patches)]
