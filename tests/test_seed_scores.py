"""What is said of the masks that a network is scored by, and which figures are kept."""

import math

import numpy as np

from ssl_jax.evaluation import confusion
from ssl_jax.evaluation.evaluate import Evaluation
from ssl_jax.stages.comparing.seed_scores import write_evaluation
from ssl_jax.types import MASKS, Splits

CLASSES = ('background', 'cell', 'nucleus')


def _write(folder, *matrices):
  matrices = np.stack([np.array(matrix) for matrix in matrices])
  scores = confusion.scores(matrices.sum(0), CLASSES)
  names = [f'im{i}' for i in range(len(matrices))]
  image = {'image': np.zeros((4, 4, 1), np.uint8), 'name': 'a', 'label': np.zeros((4, 4), np.uint8)}
  splits = Splits([image], None, None, [image], CLASSES)
  return write_evaluation(Evaluation(scores, matrices, names, MASKS), folder, 'test', splits)


def test_images_of_background_alone_have_a_score(tmp_path, capsys):
  figures = _write(tmp_path, np.diag([9, 0, 0]), [[6, 3, 0], [0, 0, 0], [0, 0, 0]])
  # 15 of 18 pixels; the cell that is not there scores 0.
  assert figures['test/miou'] == 100 * (15 / 18 + 0) / 2
  said = capsys.readouterr().out
  assert 'test: no image holds nucleus; left out of the means.' in said
  assert 'test: no image holds cell, which the network predicts: its score is 0.' in said


def test_an_unknown_image_is_in_no_score(tmp_path, capsys):
  figures = _write(tmp_path, np.diag([9, 3, 2]), np.zeros((3, 3), int))
  assert figures['test/miou'] == 100
  said = capsys.readouterr().out
  assert said == 'test: 1 of 2 images have no known pixel and are in no score.\n'


def test_without_a_known_pixel_there_is_no_figure(tmp_path):
  """NaN in done.json would be NaN in all means over seeds."""
  figures = _write(tmp_path, np.zeros((3, 3), int))
  assert not [name for name, value in figures.items() if math.isnan(value)]
  assert 'test/miou' not in figures
