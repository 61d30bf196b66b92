"""A stage that ranks unlabeled images by how steady their masks were while a network learnt (ST++).

Yang et al. 2022, arXiv:2106.05095, section 3.3.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ssl_jax import build, parallel
from ssl_jax.data import dataset_stats
from ssl_jax.errors import UserError
from ssl_jax.evaluation import confusion
from ssl_jax.inference.images import predict_labels
from ssl_jax.inference.trained_networks import Network, read_config
from ssl_jax.io.run_log import replace_text
from ssl_jax.stages.progress_log import Journal
from ssl_jax.types import Source, Splits, StageSpec

INPUT_STAGES = {'of': 'train'}


def check(plan: StageSpec, earlier: Mapping[str, StageSpec], found: Splits) -> None:
  """Raises UserError where there is nothing to rank, or nothing to rank it by."""
  if found.unlabeled is None:
    raise UserError(f'stages.{plan.name} ranks unlabeled images, and there are none.')
  if earlier[plan.own['of']].config['snapshots'] < 2:
    raise UserError(
      f'stages.{plan.name} compares earlier networks with the last; let {plan.own["of"]} keep '
      f'some: snapshots=3.'
    )
  if not 0 < plan.own.get('share', 0.5) <= 1:
    raise UserError(f'stages.{plan.name}: share={plan.own["share"]} is not in 0..1.')


def stage(
  config: Mapping, folder: Path, stop: Callable[[], bool], *, of: str, share: float = 0.5
) -> dict[str, float]:
  """Ranks the unlabeled images for each seed of the training stage `of`.

  An image's reliability is the mean, over the earlier snapshots, of the mean IoU of their
  prediction against the last one's. Writes ranking.csv, the most reliable first, of which the first
  `share` are called reliable.
  """
  settings, unlabeled = read_config(folder.parent / of), build.splits(config['data']).unlabeled
  counts, steps = settings['snapshots'], settings['steps']
  kept = [round(steps * part / counts) for part in range(1, counts + 1)]
  network, means = None, []
  for seed, own in build.folders_of_seeds(settings, folder.parent / of).items():
    facts = build.read_stats(own)
    network = network or Network(settings, facts)
    out = build.folders_of_seeds(settings, folder)[seed]
    journal = Journal(out, range(len(unlabeled)))
    answers = [
      predict_labels(network.at(own, step)[0], _shown(unlabeled, journal.waiting)) for step in kept
    ]
    # Each network goes through the images in the same order.
    for said in journal.through(zip(*answers, strict=True), stop, folder.name):
      score = reliability([ids for _, ids, _ in said], len(facts.classes))
      journal.write(journal.waiting[said[0][0]], {'reliability': score})
    scores = np.array([line['reliability'] for line in journal.lines().values()])
    _write(out, unlabeled, scores, share)
    means.append(np.mean(scores))
  return {'reliability': float(np.mean(means))}


def reliability(masks: list[np.ndarray], classes: int) -> float:
  """Mean IoU (0..100) of each earlier mask with the last, over the classes of either; the mean."""
  *earlier, last = masks
  counted = [confusion.confusion_matrix(last, mask, classes) for mask in earlier]
  return float(np.mean([confusion.mean_iou(matrix) for matrix in counted]))


def _shown(source: Source, indices: Sequence[int]) -> Iterator[np.ndarray]:
  return (dataset_stats.unit(source[index]['image']) for index in indices)


def _write(folder: Path, source: Source, scores: np.ndarray, share: float) -> None:
  order = np.argsort(-scores, kind='stable')
  reliable = round(share * len(order))
  text = io.StringIO()
  table = csv.writer(text)
  table.writerow(['index', 'name', 'reliability', 'reliable'])
  for place, i in enumerate(order):
    table.writerow([int(i), source[int(i)]['name'], f'{scores[i]:.3f}', int(place < reliable)])
  if parallel.is_main():
    replace_text(folder / 'ranking.csv', text.getvalue())
