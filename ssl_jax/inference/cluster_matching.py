"""Matches clusters, which were learned without labels, to classes by labels of training images."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Num
from scipy.optimize import linear_sum_assignment

from ssl_jax.data.dataset_stats import to_float
from ssl_jax.errors import UserError
from ssl_jax.inference.images import ImagePredictor, of_sizes, predict_many
from ssl_jax.io.run_log import DONE, read_json, replace_text
from ssl_jax.types import IGNORE, PredictFn, Source

FILE = 'clusters.json'

Table = Num[np.ndarray, 'clusters classes']
"""Pixels that a cluster and a class share; or 1 where a cluster means a class, else 0."""


def one_to_one(counts: Table) -> Table:
  """Gives each class one cluster, such that most pixels in all are right (Hungarian method).

  Clusters beyond the number of classes mean no class.
  """
  table = np.zeros_like(counts, float)
  # It minimizes a cost by default; here the pixels on which both agree are a gain.
  table[linear_sum_assignment(counts, maximize=True)] = 1
  return table


def overlap(counts: Table) -> Table:
  """Gives each cluster the class that it overlaps most; an empty one the most frequent class."""
  # An empty cluster has no overlap; it gets the counts of the whole training set.
  rows = np.where(counts.sum(1, keepdims=True) > 0, counts, counts.sum(0))
  return np.eye(counts.shape[1])[rows.argmax(1)]


RULES: dict[str, Callable[[Table], Table]] = {'one-to-one': one_to_one, 'overlap': overlap}
"""What `match.how` may be in a config."""


def match_clusters(predict_fn: PredictFn, training: Source, num_classes: int, how: str) -> Table:
  """Returns which class each cluster means (1, else 0), by labels of training images.

  Labels of test images are never used for it.
  """
  records = [training[i] for i in range(len(training))]
  # The number of clusters is only known from the first prediction; adding to 0.0 gives the shape.
  counts: np.ndarray | float = 0.0
  predict_fn = of_sizes(predict_fn, [np.shape(record['image']) for record in records])
  for index, probs in predict_many(predict_fn, (to_float(record['image']) for record in records)):
    label = records[index]['label'].ravel()
    cluster = probs.argmax(-1).ravel()
    # Pixels without a class vote for no match.
    known = label != IGNORE
    # One number for each (cluster, class), so that one bincount gives the whole table.
    pairs = cluster[known].astype(np.int64) * num_classes + label[known]
    shape = (probs.shape[-1], num_classes)
    counts = counts + np.bincount(pairs, minlength=int(np.prod(shape))).reshape(shape)
  return RULES[how](np.asarray(counts))


def as_classes(predict_fn: PredictFn, table: Table) -> PredictFn:
  """Returns a predict function whose class probabilities are the sums of the class's clusters."""
  if isinstance(predict_fn, ImagePredictor):
    return predict_fn._replace(predict_fn=as_classes(predict_fn.predict_fn, table))
  table = table.astype(np.float32)
  # [..., clusters] @ [clusters, classes]; a cluster that means no class adds to none.
  return lambda images: np.asarray(predict_fn(images)) @ table


def write_table(folder: Path, table: Table) -> None:
  """Writes the table beside a seed's checkpoints."""
  replace_text(folder / FILE, json.dumps(table.tolist()))


def read_table(folder: Path) -> Table:
  """Returns the table of a seed.

  Raises:
    UserError: if there is none, because its training has not finished.
  """
  # Written beside the checkpoints, so that `predict` needs no labels.
  path = folder / FILE
  if not path.exists():
    raise UserError(f'{path} is missing: clusters are matched to classes when training ends.')
  remedy = f'delete {folder / DONE}, and the command of the run writes it again'
  return np.array(read_json(path, remedy, list))
