"""What a network predicts of its own training images, whose masks may lack instances."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ssl_jax import parallel
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.evaluation import confusion, figures
from ssl_jax.evaluation.evaluate import MATRICES_FILE, Evaluation, evaluate
from ssl_jax.evaluation.image_grid import Panel
from ssl_jax.io import images, mask_store
from ssl_jax.stages.comparing.seed_scores import write_evaluation
from ssl_jax.types import IGNORE, Figures, PredictFn, Source, Splits

ROWS = 3
"""Images that a picture shows."""

BARS = ('dice', 'jaccard', 'precision', 'recall')
"""Scores that bars.png shows."""

COVERED = 0.5
"""Fraction of an instance's pixels from which on it counts as found."""


def score(
  predict_fn: PredictFn,
  splits: Splits,
  stats: DatasetStats,
  folder: Path,
  count_absent: bool = False,
) -> Figures:
  """Returns scores on training images in percent: train/..., complete/... and removed/...

  `train` is against the masks that the network learned from, `complete` against those with all
  instances, where the data set has them. `count_absent` is that of confusion.per_image.
  """
  absent = dict(count_absent=count_absent)
  # Against these masks a network that finds removed instances looks worse than it is.
  by_given_masks = evaluate(predict_fn, splits.labeled, stats.classes, **absent)
  scores = write_evaluation(by_given_masks, folder, 'train', splits)
  # Real data: nobody knows which instances the masks lack.
  if splits.complete is None:
    return scores
  by_complete_masks = evaluate(predict_fn, splits.complete, stats.classes, **absent)
  scores |= write_evaluation(by_complete_masks, folder, 'complete', splits)
  return scores | recovered(by_complete_masks, splits.complete)


def recovered(evaluation: Evaluation, complete: Source) -> dict[str, float]:
  """Returns how much of the removed instances was predicted nevertheless, in percent.

  removed/recall is of pixels, removed/found of instances, which count as found where at least half
  of their pixels have the right class; kept/recall is the recall of what was not removed. There is
  no figure where nothing was removed.
  """
  of_removed, of_kept, of_instances = [], [], []
  for i in range(len(complete)):
    record = complete[i]
    label, removed = np.asarray(record['label']), record['removed']
    right = evaluation.masks[record['name']] == label
    # [H, W], disjoint: pixels of removed instances and of the foreground that the masks still have.
    is_removed = removed > 0
    is_kept = (label > 0) & (label != IGNORE) & ~is_removed
    of_removed.append(right[is_removed])
    of_kept.append(right[is_kept])
    # Instances are numbered from 1.
    hits = np.bincount(removed[is_removed], right[is_removed], minlength=1)[1:]
    sizes = np.bincount(removed[is_removed], minlength=1)[1:]
    # Fraction of each instance's pixels with the right class; the maximum guards numbers without
    # pixels.
    of_instances.append(hits / np.maximum(sizes, 1))
  # Pooled over images, so that an image with one removed instance does not weigh as much as one
  # with many.
  removed_pixels = np.concatenate(of_removed)
  kept_pixels = np.concatenate(of_kept)
  instances = np.concatenate(of_instances)
  if not len(removed_pixels):
    return {}
  result = {
    'removed/recall': float(100 * removed_pixels.mean()),
    'removed/found': float(100 * (instances >= COVERED).mean()),
    'removed/instances': float(len(instances)),
  }
  if len(kept_pixels):
    result['kept/recall'] = float(100 * kept_pixels.mean())
  return result


def draw(folder: Path, done: Mapping[int, Figures], splits: Splits, first: Path) -> None:
  """Draws bars.png (scores by split, means over seeds) and picture.png (some training images).

  Args:
    folder: to draw into.
    done: the figures of each seed.
    splits: of the data set.
    first: folder of the first seed, whose masks the picture shows.
  """
  if not parallel.is_main():
    return
  # Splits that this data set has, as the first seed's figures show.
  scored = [s for s in ('train', 'complete', 'val', 'test') if f'{s}/miou' in done[min(done)]]
  groups = {split: {bar: _mean_score(done, split, bar) for bar in BARS} for split in scored}
  figures.bars(folder / 'bars.png', groups, 'mean over images, %')
  # Where the complete masks are known, the picture is scored against them.
  split, mask_name = 'train', 'the mask it learned from'
  if 'complete' in scored:
    split, mask_name = 'complete', 'the complete mask'
  miou = np.asarray(confusion.mean_iou(np.load(first / split / MATRICES_FILE)['matrices']))
  rows, names, scores = [], [], []
  # Evenly spaced over the training images.
  for i in np.unique(np.linspace(0, len(splits.labeled) - 1, ROWS).astype(int)):
    record = splits.labeled[int(i)]
    predicted = mask_store.read_mask(first / 'train', record['name'])
    label = np.asarray(record['label'])
    image, label, mask = figures.in_plane(record['image'], label, predicted)
    rgb = images.to_rgb(image)
    rows.append([rgb, images.colorize(label), images.colorize(mask), Panel(rgb, mask)])
    names.append(record['name'])
    # One caption for each of the four columns.
    scores.append(['', '', f'mIoU {miou[i]:.1f} % with {mask_name}', ''])
  titles = ['image', 'mask it learned from', 'prediction', 'prediction over the image']
  figures.beside(folder / 'picture.png', rows, titles, names, scores, splits.classes)
  print(f'Pictures: {folder}/picture.png, bars.png')


def _mean_score(done: Mapping[int, Figures], split: str, bar: str) -> float:
  """The mean of a score per image, over seeds and classes."""
  start = f'{split}/{bar}_per_image/'
  values = []
  for of_seed in done.values():
    values += [value for name, value in of_seed.items() if name.startswith(start)]
  # No image holds a class: nothing to draw.
  return float(np.mean(values)) if values else 0.0
