"""Scoring a split of patches, with and without a network that says where a cell is."""

import csv

import numpy as np
import pytest

from ssl_jax.evaluation.evaluate import evaluate
from ssl_jax.inference.patches import predict_patches
from ssl_jax.types import CELLS

CLASSES = ('background', 'a', 'b')
NAN = float('nan')
ROWS = [  # of, class, (row, column), predicted class
  ('one', 1, (2.0, 3.0), 1),
  ('one', 0, (NAN, NAN), 0),
  ('two', 2, (4.0, 4.0), 1),
  ('two', 2, (4.5, 1.5), 2),
]


class Patches:
  """Patches whose brightness is what is probs of them."""

  def __len__(self):
    return len(ROWS)

  def __getitem__(self, index):
    of, label, point, predicted = ROWS[index]
    image = np.full((9, 9, 1), predicted, np.uint8)
    return dict(image=image, name=f'p{index}', of=of, label=label, point=np.array(point))


def predict_fn(patches):
  probs = np.eye(3)[np.round(patches[:, 0, 0, 0] * 255).astype(int)]
  return {'class': probs, 'x': np.full(len(patches), 0.25), 'y': np.full(len(patches), 0.5)}


def test_patches_are_counted_by_image(tmp_path):
  evaluation = evaluate(predict_fn, Patches(), CLASSES, CELLS)
  assert evaluation.names == ['one', 'two']
  assert evaluation.matrices.tolist() == [
    [[1, 0, 0], [0, 1, 0], [0, 0, 0]],
    [[0, 0, 0], [0, 0, 0], [0, 1, 1]],
  ]
  assert evaluation.scores['balanced_accuracy'] == pytest.approx(100 * (1 + 1 + 0.5) / 3)
  # x is 2.25 and y 4.5 from the edges, 1.75 and 4 as indices of pixels
  off = [np.hypot(3 - 1.75, 2 - 4), np.hypot(4 - 1.75, 0), np.hypot(1.5 - 1.75, 0.5)]
  assert evaluation.scores['pixels_off'] == pytest.approx(np.mean(off))
  middle = [np.hypot(1, 2), 0, np.hypot(2.5, 0.5)]
  assert evaluation.scores['pixels_off_middle'] == pytest.approx(np.mean(middle))
  evaluation.write(tmp_path)
  with (tmp_path / 'patches.csv').open(newline='') as file:
    rows = list(csv.DictReader(file))
  assert [row['predicted'] for row in rows] == ['a', 'background', 'a', 'b']
  assert (rows[0]['x'], rows[0]['true_x'], rows[0]['true_y']) == ('2.25', '3.5', '2.5')
  kept = np.load(tmp_path / 'matrices.npz')
  assert kept['task'] == CELLS
  assert kept['names'].tolist() == ['one', 'two']


def test_a_network_that_has_no_position_means_the_middle():
  def without_position(patches):
    return {'class': predict_fn(patches)['class']}

  probs, points = predict_patches(without_position, np.zeros((2, 9, 9, 1)), 8)
  assert probs.shape == (2, 3)
  assert points.tolist() == [[0.5, 0.5]] * 2


def test_batches_are_filled_up_so_that_one_program_serves_all():
  seen = []

  def watched(patches):
    seen.append(len(patches))
    return predict_fn(patches)

  evaluate(watched, Patches(), CLASSES, CELLS)
  assert seen == [128]
