"""Final scores of the seeds of a stage."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ssl_jax import parallel
from ssl_jax.data import dataset_stats
from ssl_jax.evaluation import confusion
from ssl_jax.evaluation.evaluate import Evaluation
from ssl_jax.inference.trained_networks import read_config
from ssl_jax.io.run_log import read_log
from ssl_jax.stages.ensembles import trained_stages
from ssl_jax.types import CELLS, Splits


def mean_over_seeds(done: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
  """The figures of one seed; of several, their means and, as seed_N/..., each one's own."""
  if len(done) == 1:
    return dict(next(iter(done.values())))
  shared = set.intersection(*(set(figures) for figures in done.values()))
  means = {name: float(np.mean([own[name] for own in done.values()])) for name in sorted(shared)}
  return means | {f'seed_{n}/{name}': v for n, own in done.items() for name, v in own.items()}


def shares_to_expect(config: Mapping, found: Splits) -> dict[str, float] | None:
  """The shares of the classes among labels, by which a lost class is seen.

  None where the outputs are clusters that no label has named, and of patches, whose labels are
  drawn equally while their images are not.
  """
  if config.get('match') or found.task == CELLS:
    return None
  return dataset_stats.class_shares(found.labeled, found.classes)


def learns_from_labels_alone(stage: Path) -> bool:
  """Whether a stage is a supervised control: networks of drawn labels, and nothing beside them."""
  each = [read_config(trained) for trained in trained_stages(stage)]
  return all(
    {*own['methods']} <= {'supervised', 'centroids'} and {*own['batch']} <= {'labeled', 'unlabeled'}
    for own in each
  )


def keep(found: Evaluation, folder: Path, name: str, classes: Sequence[str]) -> dict[str, float]:
  """Writes the final evaluation of a split; its scores, and the best that were ever seen."""
  if parallel.is_main():
    found.write(folder / name)
  headline, _ = confusion.PRIMARY_METRIC[found.task]
  if missing := confusion.absent_classes(found.matrices.sum(0), classes):
    print(f'{name}: no image holds {", ".join(missing)}; left out of the means.')
  # Not a result: it was chosen by looking at the scores it reports.
  watched = [line[key] for line in read_log(folder) if (key := f'{name}/{headline}') in line]
  scores = {f'{name}/{key}': value for key, value in found.scores.items()}
  return scores | ({f'{name}/best_seen_{headline}': max(watched)} if watched else {})
