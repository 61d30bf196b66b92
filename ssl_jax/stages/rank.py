"""A stage that ranks unlabeled images by how stable their masks were during training (ST++).

Yang et al. 2022, arXiv:2106.05095, section 3.3.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ssl_jax import build, parallel, run_folder
from ssl_jax.data import dataset_stats
from ssl_jax.data.source_sizes import sizes_of
from ssl_jax.errors import UserError
from ssl_jax.evaluation import confusion
from ssl_jax.inference.images import of_sizes, predict_labels
from ssl_jax.inference.trained_networks import TrainedNetwork
from ssl_jax.io.run_log import replace_text
from ssl_jax.parsing.stage_list import StageSpec
from ssl_jax.settings import Loop, Seeds, Settings
from ssl_jax.stages.learning.progress_log import Journal
from ssl_jax.stages.learning.training_sources import required
from ssl_jax.types import Figures, Source, Splits

INPUT_STAGES = {'of': 'train'}
USES = ('seed', 'num_seeds', 'data')


def check(spec: StageSpec, earlier: Mapping[str, StageSpec], splits: Splits) -> None:
  """Checks that there are images to rank, and checkpoints to rank them by.

  Raises:
    UserError: if one of these is missing, or `fraction` makes no sense.
  """
  where = f'stages.{spec.name}'
  teacher = spec.stage_kwargs['of']
  required(splits.unlabeled, f'{where} ranks unlabeled images, and there are none.')
  # A single snapshot is the last network, which has nothing to be compared with.
  if earlier[teacher].settings.num_snapshots < 2:
    raise UserError(
      f'{where} compares earlier networks with the last; let {teacher} keep some: num_snapshots=3.'
    )
  fraction = spec.stage_kwargs.get('fraction', 0.5)
  # At 0 no image would be reliable, and the next stage would have nothing to learn from.
  if not 0 < fraction <= 1:
    raise UserError(f'{where}: fraction={fraction} is not above 0 and at most 1.')


def stage(
  settings: Settings,
  folder: Path,
  stop: Callable[[], bool],
  *,
  of: str,
  fraction: float = 0.5,
) -> Figures:
  """Ranks the unlabeled images for each seed of a training stage, and returns their mean score.

  The reliability of an image is the mean, over the earlier snapshots, of the mean IoU of their
  prediction against the last one's, in percent. It writes ranking.csv, the most reliable image
  first.

  Args:
    settings: of this stage.
    folder: of this stage.
    stop: asked after each image whether to stop.
    of: the training stage.
    fraction: of the images, the first in the ranking, are called reliable.

  Raises:
    UserError: if a checkpoint is missing.
    Stopped: if it was asked to stop; what is done is saved.
  """
  trained_folder = folder.parent / of
  trained_settings = run_folder.read_settings(trained_folder)
  seeds = trained_settings.part(Seeds)
  # The last of them is the final network, against which the earlier ones are held.
  snapshots = _snapshot_steps(trained_settings.part(Loop))
  own_folders = run_folder.folders_of_seeds(seeds, folder)
  network = None
  means = []
  for seed, checkpoints_folder in run_folder.folders_of_seeds(seeds, trained_folder).items():
    stats = run_folder.read_stats(checkpoints_folder)
    if network is None:  # one compiled program serves all seeds
      network = TrainedNetwork(trained_settings, stats)
    seed_folder = own_folders[seed]
    unlabeled = required(
      build.splits_of_seed(settings, seed).unlabeled,
      f'stages.{folder.name} ranks unlabeled images, and there are none.',
    )
    journal = Journal(seed_folder, range(len(unlabeled)))
    predictions = []
    # One generator for each snapshot; they advance together below, so only the masks of the current
    # images are in memory.
    for step in snapshots:
      predict_fn, _ = network.predict_fn(checkpoints_folder, step)
      # Of all images, also those that a stage before a kill was done with.
      predict_fn = of_sizes(predict_fn, sizes_of(unlabeled))
      predictions.append(predict_labels(predict_fn, _images(unlabeled, journal.waiting)))
    # Each network goes through the images in the same order.
    for of_image in journal.through(zip(*predictions, strict=True), stop, folder.name):
      position = of_image[0][0]
      masks = [mask for _, mask, _ in of_image]
      # If masks still change late in training, the network is unsure of the image.
      line = {'reliability': reliability(masks, len(stats.classes))}
      journal.write(journal.waiting[position], line)
    # [images], in the order of the source.
    scores = np.array([line['reliability'] for line in journal.lines().values()])
    _write_ranking(seed_folder, unlabeled, scores, fraction)
    means.append(np.mean(scores))
  return {'reliability': float(np.mean(means))}


def _snapshot_steps(loop: Loop) -> list[int]:
  """The steps whose checkpoints a training keeps for good."""
  count = loop.num_snapshots
  # The same steps as in training.loop.train, which keeps these checkpoints.
  return [round(loop.steps * part / count) for part in range(1, count + 1)]


def reliability(masks: Sequence[np.ndarray], num_classes: int) -> float:
  """Returns the mean, over the earlier masks, of their mean IoU with the last one, in percent.

  An IoU is the mean over the classes that either mask holds.
  """
  *earlier, last = masks
  scores = []
  for mask in earlier:
    scores.append(confusion.mean_iou(confusion.confusion_matrix(last, mask, num_classes)))
  return float(np.mean(scores))


def reliable_count(fraction: float | int, images: int) -> int:
  """Returns how many images are reliable: int(fraction * images), as ST++'s code, at least 1."""
  # 0.29 * 100 is 28.999999999999996: a hair is added, so that rounding cannot take an image away.
  return max(int(fraction * images + 1e-9), 1)


def _images(source: Source, indices: Sequence[int]) -> Iterator[np.ndarray]:
  for index in indices:
    yield dataset_stats.to_float(source[index]['image'])


def _write_ranking(folder: Path, source: Source, scores: np.ndarray, fraction: float) -> None:
  """Writes ranking.csv: index, name, reliability, and whether the image is among the reliable."""
  # Stable, so that equal scores keep the order of the source on every machine.
  order = np.argsort(-scores, kind='stable')
  reliable = reliable_count(fraction, len(order))
  text = io.StringIO()
  table = csv.writer(text)
  table.writerow(['index', 'name', 'reliability', 'reliable'])
  for place, index in enumerate(order.tolist()):
    name = source[index]['name']
    table.writerow([index, name, f'{scores[index]:.3f}', int(place < reliable)])
  if parallel.is_main():
    replace_text(folder / 'ranking.csv', text.getvalue())
