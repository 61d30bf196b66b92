"""Clusters are given to classes by labels of training images."""

import numpy as np
import pytest

from ssl_jax.errors import UserError
from ssl_jax.inference import cluster_matching
from ssl_jax.types import IGNORE

COUNTS = np.array([[50, 40], [45, 0], [5, 1]])  # three clusters, two classes


def test_one_to_one_gives_each_class_one_cluster():
  # Cluster 0 alone fits class 1, so class 0 has the second best.
  assert cluster_matching.one_to_one(COUNTS[:2]).tolist() == [[0, 1], [1, 0]]
  assert cluster_matching.one_to_one(COUNTS).sum() == 2


def test_overlap_gives_each_cluster_its_class():
  counts = np.array([[10, 40], [45, 0], [0, 0]])
  assert cluster_matching.overlap(counts).tolist() == [
    [0, 1],
    [1, 0],
    [1, 0],
  ]  # nobody is in the last


class _Source(list):
  pass


def test_matching_reads_labels_and_leaves_unknown_pixels_out():
  rng = np.random.default_rng(0)
  label = rng.integers(0, 2, (40, 33)).astype(np.uint8)
  image = np.stack([label == 0], -1).astype(np.float32)  # cluster 1 where the class is 0
  label = np.where(rng.random(label.shape) < 0.3, IGNORE, label).astype(np.uint8)

  def predict_fn(images):
    return np.concatenate([1 - images, images], -1)

  table = cluster_matching.match_clusters(
    predict_fn, _Source([{'image': image, 'label': label}]), 2, 'one-to-one'
  )
  assert table.tolist() == [[0, 1], [1, 0]]
  named = cluster_matching.as_classes(predict_fn, table)(image[None])
  np.testing.assert_array_equal(named[0].argmax(-1), 1 - image[..., 0])
  np.testing.assert_allclose(named.sum(-1), 1)


def test_a_class_has_the_sum_of_its_clusters(tmp_path):
  table = cluster_matching.overlap(np.array([[9, 1], [8, 2], [0, 5]]))
  named = cluster_matching.as_classes(lambda x: x, table)(np.array([[0.3, 0.3, 0.4]]))
  np.testing.assert_allclose(named, [[0.6, 0.4]], rtol=1e-6)
  cluster_matching.write_table(tmp_path, table)
  assert np.array_equal(cluster_matching.read_table(tmp_path), table)
  with pytest.raises(UserError, match='matched to classes when training ends'):
    cluster_matching.read_table(tmp_path / 'elsewhere')
