"""Classes that the masks show and a trained network predicts nowhere."""

from pathlib import Path

import numpy as np

from ssl_jax import run_folder
from ssl_jax.evaluation import confusion
from ssl_jax.evaluation.evaluate import MATRICES_FILE

SPLITS = {'val': 'validation', 'test': 'test'}
"""Splits that a stage is scored on, and what their images are called."""


def sentences(stage: Path, network: str) -> list[str]:
  """Returns a sentence for each class that a stage never predicts on the images of a split.

  A class that the images do not show is in none.

  Args:
    stage: folder of a `train` or `score` stage.
    network: what its network is called.
  """
  folders = run_folder.seed_folders(stage)
  lines = []
  for split, word in SPLITS.items():
    # Class -> how many repetitions never predict it.
    missed: dict[str, int] = {}
    for folder in folders:
      for name in _missed_in(folder / split / MATRICES_FILE):
        missed[name] = missed.get(name, 0) + 1
    for name, count in missed.items():
      repetitions = f' in {count} of {len(folders)} repetitions' if len(folders) > 1 else ''
      lines.append(f'{network} never predicts {name} on the {word} images{repetitions}.')
  return lines


def _missed_in(path: Path) -> list[str]:
  """The classes that the truth of a split holds and the prediction nowhere; none without scores."""
  if not path.exists():
    return []
  stored = np.load(path)
  # Files of earlier versions do not name the classes.
  if 'classes' not in stored:
    return []
  classes = [str(name) for name in stored['classes']]
  return confusion.never_predicted(stored['matrices'].sum(0), classes)
