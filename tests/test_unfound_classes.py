"""Classes that masks show and a network predicts nowhere."""

import numpy as np

from ssl_jax.stages.labeling import unfound_classes

CLASSES = ['background', 'cell', 'nucleus']
FOUND = np.array([[8, 1, 0], [1, 5, 0], [0, 1, 1]])
MISSED = np.array([[8, 1, 0], [1, 5, 0], [1, 1, 0]])


def _write(folder, split, *matrices):
  (folder / split).mkdir(parents=True)
  path = folder / split / 'matrices.npz'
  np.savez(path, matrices=np.stack(matrices), classes=CLASSES)


def test_a_class_that_is_never_predicted_is_named(tmp_path):
  _write(tmp_path / 'control', 'test', MISSED, MISSED)
  _write(tmp_path / 'control', 'val', FOUND)
  assert unfound_classes.sentences(tmp_path / 'control', 'control') == [
    'control never predicts nucleus on the test images.'
  ]


def test_what_one_image_shows_is_found(tmp_path):
  _write(tmp_path / 'control', 'test', MISSED, FOUND)
  assert unfound_classes.sentences(tmp_path / 'control', 'control') == []


def test_repetitions_are_counted(tmp_path):
  for seed, matrix in enumerate((MISSED, FOUND, MISSED)):
    _write(tmp_path / 'fixmatch' / f'seed_{seed}', 'test', matrix)
  assert unfound_classes.sentences(tmp_path / 'fixmatch', 'fixmatch') == [
    'fixmatch never predicts nucleus on the test images in 2 of 3 repetitions.'
  ]


def test_without_scores_nothing_is_said(tmp_path):
  (tmp_path / 'final').mkdir()
  assert unfound_classes.sentences(tmp_path / 'final', 'final') == []
