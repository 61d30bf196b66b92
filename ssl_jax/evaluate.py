"""Scoring a network on a split, image by image at its native size."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssl_jax import data, images, metrics
from ssl_jax.inference import predict_many
from ssl_jax.types import Source


class Evaluation(NamedTuple):
  """Scores of a split in percent, and what they were read from."""

  scores: dict[str, float]
  matrices: np.ndarray  # [images, classes, classes] pixel counts
  masks: dict[str, np.ndarray]  # class ids [H, W] by image name

  def write(self, folder: Path) -> None:
    """Writes matrices.npz and masks/NAME.png."""
    (folder / 'masks').mkdir(parents=True, exist_ok=True)
    np.savez(folder / 'matrices.npz', matrices=self.matrices, names=np.array([*self.masks]))
    for name, mask in self.masks.items():
      images.write_mask(folder / 'masks' / f'{name}.png', mask)


def evaluate(
  probabilities: Callable[[np.ndarray], np.ndarray], source: Source, classes: tuple[str, ...]
) -> Evaluation:
  """Predicts every image of a labelled split at its native size and counts its pixels."""
  records = [source[i] for i in range(len(source))]
  masks: dict[int, np.ndarray] = {}
  for index, probs in predict_many(probabilities, (data.unit(r['image']) for r in records)):
    masks[index] = probs.argmax(-1).astype(np.uint8)
  count = functools.partial(metrics.confusion_matrix, classes=len(classes))
  matrices = np.stack([count(r['label'], masks[i]) for i, r in enumerate(records)])
  named = {record['name']: masks[i] for i, record in enumerate(records)}
  return Evaluation(metrics.scores(matrices.sum(0), classes), matrices, named)
