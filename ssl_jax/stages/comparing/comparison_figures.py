"""What a comparison shows of its two sides: test images, or patches and their classes."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ssl_jax import run_folder
from ssl_jax.evaluation import confusion, figures, statistics
from ssl_jax.evaluation.evaluate import PATCHES_FILE
from ssl_jax.io import mask_store
from ssl_jax.io.run_log import read_log
from ssl_jax.stages.learning.training_sources import required
from ssl_jax.types import Source, Splits

ROWS = 4
"""Images that a picture shows."""

PATCHES = 12
"""Patches that a picture shows of each side."""

CURVE = 'test/balanced_accuracy'
"""The figure that curves.png shows over training."""

NO_TEST = 'A comparison shows test images, and the data hold none out.'

Sides = Mapping[str, Sequence[np.ndarray]]
"""Stage -> confusion matrices [images, k, k] of the test images, by seed; the control first."""


def of_masks(folder: Path, splits: Splits, sides: Sides) -> None:
  """Draws test images with the masks of the first seed of each side.

  picture.png has images from all over the test set, extremes.png those with the highest and the
  lowest mIoU.

  Raises:
    UserError: if there are no test images.
  """
  test = required(splits.test, NO_TEST)
  # [images] for each side: mean_iou takes a whole stack of matrices.
  miou = {stage: np.asarray(confusion.mean_iou(seeds[0])) for stage, seeds in sides.items()}
  # Ranked by the sum over both sides, so that neither side chooses the images.
  easiest_first = np.argsort(-sum(miou.values()), kind='stable')
  half = ROWS // 2
  hardest = easiest_first[max(len(easiest_first) - half, half) :]  # no image is drawn twice
  # Evenly spaced, because neighbors in a data set are often alike; `unique` for small sets.
  spread = np.unique(np.linspace(0, len(test) - 1, ROWS).astype(int))
  for name, indices in (('picture', spread), ('extremes', [*easiest_first[:half], *hardest])):
    rows, names, scores = [], [], []
    for index in map(int, indices):
      record = test[index]
      masks = []
      for stage in sides:
        seed_folder = run_folder.seed_folders(folder.parent / stage)[0]
        masks.append(mask_store.read_mask(seed_folder / 'test', record['name']))
      rows.append([record['image'], record['label'], *masks])
      names.append(record['name'])
      # A caption for each column: the image and the truth have none.
      scores.append(['', '', *(f'mIoU {values[index]:.1f} %' for values in miou.values())])
    titles = ['image', 'truth', *sides]
    figures.picture(folder / f'{name}.png', rows, titles, names, scores, splits.classes)
  print(f'Pictures: {folder / "picture.png"}, the easiest and the hardest in extremes.png')


def of_cells(folder: Path, splits: Splits, sides: Sides) -> None:
  """Draws what two sides predict of patches.

  confusion.png and curves.png are of all seeds, centroids.png (where in a patch its cell is) and
  picture.png (some patches) of the first.

  Raises:
    UserError: if there are no test images.
  """
  test = required(splits.test, NO_TEST)
  # Summed over images and seeds: [k, k].
  matrices = {stage: np.sum([m.sum(0) for m in seeds], 0) for stage, seeds in sides.items()}
  figures.confusion_matrices(folder / 'confusion.png', matrices, splits.classes)
  tables = {stage: _read_patches(folder.parent / stage) for stage in sides}
  _draw_centroids(folder / 'centroids.png', tables, test[0]['image'].shape[0])
  # A fixed seed, so that comparisons of one data set show the same patches.
  chosen = np.random.default_rng(0).permutation(len(test))[:PATCHES]
  rows = {}
  for stage, table in tables.items():
    rows[stage] = [_patch(test, splits.classes[0], table[i], i) for i in map(int, chosen)]
  figures.patches(folder / 'picture.png', rows)
  curves = {stage: _curve(folder.parent / stage) for stage in sides}
  figures.curves(folder / 'curves.png', curves, 'step', 'test balanced accuracy, %')
  print(f'Pictures: {folder}/picture.png, confusion.png, centroids.png, curves.png')


def _read_patches(stage: Path) -> list[dict[str, str]]:
  """The rows that the first seed of a stage has written of the test's patches."""
  path = run_folder.seed_folders(stage)[0] / 'test' / PATCHES_FILE
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def _draw_centroids(path: Path, tables: Mapping[str, list[dict[str, str]]], side: int) -> None:
  """Draws x and y of the patches that have a cell: the truth, and what each side predicts."""
  any_table = next(iter(tables.values()))  # the truth is the same in all
  with_cell = [i for i, row in enumerate(any_table) if row['true_x'] != 'nan']
  points = {
    'truth': np.array(
      [(float(any_table[i]['true_x']), float(any_table[i]['true_y'])) for i in with_cell]
    )
  }
  for stage, table in tables.items():
    points[stage] = np.array([(float(table[i]['x']), float(table[i]['y'])) for i in with_cell])
  figures.centroids(path, points, side)


def _patch(test: Source, background: str, row: Mapping[str, str], index: int) -> figures.Patch:
  """A patch with its true and its predicted cell; the background has none."""
  truth = predicted = None
  if row['class'] != background:
    truth = (float(row['true_x']), float(row['true_y']))
  if row['predicted'] != background:
    predicted = (float(row['x']), float(row['y']))
  # Patches that are classified correctly need no second line.
  title = row['class']
  if row['predicted'] != row['class']:
    title += f'\npredicted {row["predicted"]}'
  return figures.Patch(test[index]['image'], truth, predicted, title)


def _curve(stage: Path) -> figures.Line:
  """The test's balanced accuracy at each evaluation, mean over seeds; only to look at."""
  by_seed = []
  for seed_folder in run_folder.seed_folders(stage):
    lines = [line for line in read_log(seed_folder) if CURVE in line]
    by_seed.append({line['step']: line[CURVE] for line in lines})
  # Only evaluations that every seed has reached, so that each mean is over all of them.
  steps = sorted(set.intersection(*map(set, by_seed)))
  means, lows, highs = [], [], []
  for step in steps:
    mean, low, high = statistics.mean_interval(np.array([scores[step] for scores in by_seed]))
    means.append(mean)
    lows.append(mean if np.isnan(low) else low)  # of one seed there is no interval
    highs.append(mean if np.isnan(high) else high)
  return figures.Line(steps, means, lows, highs)
