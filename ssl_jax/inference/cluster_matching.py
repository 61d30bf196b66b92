"""Clusters that were found without labels are given to classes, by labels of training images."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from ssl_jax.data import dataset_stats
from ssl_jax.errors import UserError
from ssl_jax.inference.images import predict_many
from ssl_jax.io.run_log import replace_text
from ssl_jax.types import IGNORE, PredictFn, Source

FILE = 'clusters.json'
Table = Float[np.ndarray, 'clusters classes']


def one_to_one(counts: Table) -> Table:
  """Each class has the cluster that makes most pixels right in all; others stay without."""
  table = np.zeros_like(counts, float)
  table[linear_sum_assignment(counts, maximize=True)] = 1
  return table


def overlap(counts: Table) -> Table:
  """Each cluster means the class that it overlaps most; an empty one the most frequent class."""
  rows = np.where(counts.sum(1, keepdims=True) > 0, counts, counts.sum(0))
  return np.eye(counts.shape[1])[rows.argmax(1)]


HOW: dict[str, Callable[[Table], Table]] = {'one-to-one': one_to_one, 'overlap': overlap}


def match_clusters(probabilities: PredictFn, training: Source, classes: int, how: str) -> Table:
  """Which class a cluster means, 0 or 1 each, by labeled training images; never by the test's."""
  records = [training[i] for i in range(len(training))]
  counts: np.ndarray | float = 0.0
  for index, probs in predict_many(
    probabilities, (dataset_stats.unit(r['image']) for r in records)
  ):
    label, cluster = records[index]['label'].ravel(), probs.argmax(-1).ravel()
    known = label != IGNORE
    pairs = cluster[known].astype(np.int64) * classes + label[known]
    shape = probs.shape[-1], classes
    counts = counts + np.bincount(pairs, minlength=np.prod(shape)).reshape(shape)
  return HOW[how](counts)


def as_classes(probabilities: PredictFn, table: Table) -> PredictFn:
  """PredictFn of classes: each is the sum of its clusters'."""
  table = table.astype(np.float32)
  return lambda images: np.asarray(probabilities(images)) @ table


def write(folder: Path, table: Table) -> None:
  """Keeps the table beside a seed's checkpoints."""
  replace_text(folder / FILE, json.dumps(table.tolist()))


def read(folder: Path) -> Table:
  """The table of a seed; raises UserError where training has not come to its end."""
  path = folder / FILE
  if not path.exists():
    raise UserError(f'{path} is missing: clusters are matched to classes when training ends.')
  return np.array(json.loads(path.read_text()))
