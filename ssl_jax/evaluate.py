"""Scoring a network on a split, image by image at its native size."""

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
  names: tuple[str, ...]


def evaluate(
  probabilities: Callable[[np.ndarray], np.ndarray],
  source: Source,
  classes: tuple[str, ...],
  masks: Path | None = None,
) -> Evaluation:
  """Predicts every image of a labelled split; `masks` is a folder to write the class ids to."""
  records = [source[i] for i in range(len(source))]
  answers = predict_many(probabilities, (data.unit(r['image']) for r in records))
  matrices = np.zeros((len(records), len(classes), len(classes)), np.int64)
  for index, probs in answers:
    record, predicted = records[index], probs.argmax(-1).astype(np.uint8)
    matrices[index] = metrics.confusion_matrix(record['label'], predicted, len(classes))
    if masks is not None:
      masks.mkdir(parents=True, exist_ok=True)
      images.write_mask(masks / f'{record["name"]}.png', predicted)
  names = tuple(record['name'] for record in records)
  return Evaluation(metrics.scores(matrices.sum(0), classes), matrices, names)
