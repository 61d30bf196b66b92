"""Test scores of the repetitions of a stage, and how two stages compare over them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

from ssl_jax.errors import UserError
from ssl_jax.evaluation import statistics
from ssl_jax.evaluation.evaluate import MATRICES_FILE
from ssl_jax.evaluation.statistics import Difference, Score


class Repetition(NamedTuple):
  """What a repetition of a stage was scored on, and how."""

  matrices: Integer[np.ndarray, 'n k k']  # confusion matrices of its test images
  names: tuple[str, ...]  # of the images
  groups: tuple[str, ...]  # of each image: the patient, say, or the image itself
  overlap: float | None = None  # types.Draw
  own_test: bool = False  # types.Draw
  checksum: int = 0  # of all its data
  classes: tuple[str, ...] = ()  # names
  objects: Integer[np.ndarray, 'n t 2 2'] | None = None  # of instances, see instances.Matches


class Compared(NamedTuple):
  """Two stages over their repetitions."""

  difference: Difference
  labels_vary: bool  # whether repetitions have other labeled images
  tests_vary: bool  # whether repetitions have other test images


def read_repetition(folder: Path) -> Repetition:
  """Returns what the seed of a stage in `folder` was scored on.

  Raises:
    UserError: if it has no scores on test images.
  """
  file = folder / 'test' / MATRICES_FILE
  if not file.exists():
    raise UserError(f'{file} is missing: comparing needs a stage that was scored on test images.')
  stored = np.load(file)
  names = tuple(str(name) for name in stored['names'])
  # Files of earlier versions hold matrices and names only.
  if 'groups' not in stored:
    return Repetition(stored['matrices'], names, names)
  overlap = float(stored['overlap'])
  return Repetition(
    stored['matrices'],
    names,
    tuple(str(group) for group in stored['groups']),
    None if np.isnan(overlap) else overlap,
    bool(stored['own_test']),
    int(stored['checksum']),
    tuple(str(name) for name in stored['classes']),
    stored.get('objects'),
  )


def compare(
  ours: Sequence[Repetition], control: Sequence[Repetition], score: Score, percent: bool = True
) -> Compared:
  """Compares two stages repetition by repetition.

  Args:
    ours: repetitions of one stage.
    control: those of the other, with the same test images.
    score: of summed confusion matrices [*n, k, k].
    percent: whether scores are of 0 to 100.

  Raises:
    UserError: if they are not the same repetitions.
  """
  _check_pairs(ours, control)
  # All test images of a repetition are pooled into one matrix.
  scores = [np.array([float(score(r.matrices.sum(0))) for r in side]) for side in (ours, control)]
  return compare_scores(ours, control, scores[0], scores[1], score, percent)


def compare_scores(
  ours: Sequence[Repetition],
  control: Sequence[Repetition],
  our_scores: np.ndarray,
  control_scores: np.ndarray,
  score: Score | None,
  percent: bool = True,
) -> Compared:
  """As `compare`, of scores that are known; without `score` test images count as given.

  Raises:
    UserError: if they are not the same repetitions.
  """
  _check_pairs(ours, control)
  tests_vary = len({repetition.names for repetition in ours}) > 1
  overlaps = [r.overlap for r in ours if r.overlap is not None]
  labels_vary = bool(overlaps) and len({repetition.checksum for repetition in ours}) > 1
  # Where all repetitions have the same labels, nothing can be said of others.
  overlap = float(np.mean(overlaps)) if labels_vary else 0.0
  variance = 0.0
  if score is not None and not tests_vary:
    groups = ours[0].groups
    variance = statistics.variance_over_images(
      [r.matrices for r in ours], [r.matrices for r in control], groups, score
    )
  difference = statistics.mean_difference(
    our_scores,
    control_scores,
    overlap=overlap,
    image_variance=variance,
    units=len({group for repetition in ours for group in repetition.groups}),
    percent=percent,
  )
  return Compared(difference, labels_vary, tests_vary)


def _check_pairs(ours: Sequence[Repetition], control: Sequence[Repetition]) -> None:
  if len(ours) != len(control):
    raise UserError(
      f'{len(ours)} repetitions cannot be paired with {len(control)}; finish both stages.'
    )
  for one, other in zip(ours, control, strict=True):
    if one.names != other.names:
      raise UserError(
        'Two stages that are compared were scored on other test images; run both anew.'
      )


def fraction_worse(
  ours: Sequence[Repetition], control: Sequence[Repetition], score: Score
) -> float:
  """Returns the percentage of test images whose own score is lower than the control's.

  An image whose score is not known on either side (no class is there) counts as no worse.
  """
  worse = []
  for one, other in zip(ours, control, strict=True):
    worse.append(np.asarray(score(one.matrices)) < np.asarray(score(other.matrices)))
  return float(100 * np.concatenate(worse).mean())
