"""Final scores of the seeds of a stage."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ssl_jax import parallel, run_folder
from ssl_jax.data import dataset_stats
from ssl_jax.evaluation import confusion
from ssl_jax.evaluation.comparison import headline
from ssl_jax.evaluation.evaluate import Evaluation
from ssl_jax.io.run_log import read_log
from ssl_jax.parsing import stage_list
from ssl_jax.settings import Learning
from ssl_jax.stages.labeling.ensembles import trained_stages
from ssl_jax.types import CELLS, Figures, Splits


def mean_over_seeds(done: Mapping[int, Figures]) -> Figures:
  """Returns the figures of one seed; of several, their means and, as seed_N/..., each one's."""
  # No prefix and no mean for a single seed.
  if len(done) == 1:
    return dict(next(iter(done.values())))
  # A mean of some of the seeds would mislead, so a figure that one of them lacks has none.
  shared = set.intersection(*(set(figures) for figures in done.values()))
  result: Figures = {}
  for name in sorted(shared):
    result[name] = float(np.mean([figures[name] for figures in done.values()]))
  for seed, figures in done.items():
    for name, value in figures.items():
      result[f'seed_{seed}/{name}'] = value
  return result


def shares_to_expect(learning: Learning, splits: Splits) -> dict[str, float] | None:
  """Returns the fraction of each class among the labels, by which a lost class is noticed.

  None where the outputs are clusters, which no label has named, and of patches, whose labels are
  drawn equally while their images are not.
  """
  if learning.match or splits.task == CELLS:
    return None
  return dataset_stats.class_fractions(splits.labeled, splits.classes)


def learns_from_labels_alone(stage: Path) -> bool:
  """Returns whether a stage is a supervised control: its networks learn from drawn labels alone."""
  # An ensemble is a control only if all its members are.
  for trained in trained_stages(stage):
    settings = run_folder.read_settings(trained)
    if not all(stage_list.learns_from_labels(method) for method in settings.methods):
      return False
    # Any other stream holds pseudo-labels of an earlier stage.
    if not {*settings.batch} <= {'labeled', 'unlabeled'}:
      return False
  return True


def write_evaluation(evaluation: Evaluation, folder: Path, split: str, splits: Splits) -> Figures:
  """Writes the final evaluation of a split, and returns its scores as SPLIT/NAME in percent.

  SPLIT/best_seen_NAME is the best of the primary metric over all evaluations of the training.
  """
  if parallel.is_main():
    checksum = dataset_stats.data_checksum(splits)
    evaluation.write(folder / split, splits.draw, checksum, splits.classes)
  primary, _ = headline.primary_metric(splits)
  for sentence in _truth_notes(evaluation, splits.classes):
    print(f'{split}: {sentence}')
  # Without a known pixel there are no scores, and NaN would spoil the means over seeds.
  scores = {
    f'{split}/{name}': value for name, value in evaluation.scores.items() if not np.isnan(value)
  }
  key = f'{split}/{primary}'
  seen = [line[key] for line in read_log(folder) if key in line]
  if seen:
    # For monitoring only: it was chosen by looking at the scores that it reports.
    scores[f'{split}/best_seen_{primary}'] = max(seen)
  return scores


def _truth_notes(evaluation: Evaluation, classes: Sequence[str]) -> list[str]:
  """Sentences on what the masks of a split do not show."""
  matrix = evaluation.matrices.sum(0)
  notes = []
  unknown = int((evaluation.matrices.sum((1, 2)) == 0).sum())
  if unknown:
    notes.append(
      f'{unknown} of {len(evaluation.matrices)} images have no known pixel and are in no score.'
    )
  absent = confusion.absent_classes(matrix, classes)
  if absent:
    notes.append(f'no image holds {", ".join(absent)}; left out of the means.')
  only_predicted = [
    name for name in confusion.classes_without_truth(matrix, classes) if name not in absent
  ]
  if only_predicted:
    notes.append(
      f'no image holds {", ".join(only_predicted)}, which the network predicts: its score is 0.'
    )
  return notes
