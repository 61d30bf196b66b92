"""What a comparison shows of its two sides: the images, or the patches and how they were named."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ssl_jax import build
from ssl_jax.evaluation import confusion, figures, statistics
from ssl_jax.evaluation.evaluate import FILE
from ssl_jax.io import mask_store
from ssl_jax.io.run_log import read_log
from ssl_jax.types import Splits

ROWS = 4
"""Images that a picture shows."""
PATCHES = 12
CURVE = 'test/balanced_accuracy'

Sides = Mapping[str, Sequence[np.ndarray]]
"""Stage -> confusion matrices [images, k, k] of the test images, by seed; the control first."""


def of_masks(folder: Path, found: Splits, sides: Sides) -> None:
  """Draws picture.png, and extremes.png of the easiest and the hardest; of the first seed."""
  spread = np.unique(np.linspace(0, len(found.test) - 1, ROWS).astype(int))
  each = sum(confusion.mean_iou(seeds[0]) for seeds in sides.values())
  order = np.argsort(-each, kind='stable')
  extremes = [*order[: ROWS // 2], *order[max(len(order) - ROWS // 2, ROWS // 2) :]]
  for name, chosen in (('picture', spread), ('extremes', extremes)):
    table = []
    for record in (found.test[int(i)] for i in chosen):
      seeds = [_first(folder.parent / stage) / 'test' for stage in sides]
      predicted = [mask_store.read(seed, record['name']) for seed in seeds]
      table.append([record['image'], record['label'], *predicted])
    figures.picture(folder / f'{name}.png', table, ['image', 'truth', *sides])
  print(f'Pictures: {folder / "picture.png"}, the easiest and the hardest in extremes.png')


def of_cells(folder: Path, found: Splits, sides: Sides) -> None:
  """Draws confusion.png and curves.png of all seeds, centroids.png and picture.png of the first."""
  matrices = {stage: np.sum([m.sum(0) for m in seeds], 0) for stage, seeds in sides.items()}
  figures.confusion(folder / 'confusion.png', matrices, found.classes)
  rows = {stage: _read(_first(folder.parent / stage) / 'test' / FILE) for stage in sides}
  cells = [i for i, row in enumerate(next(iter(rows.values()))) if row['true_x'] != 'nan']
  side = found.test[0]['image'].shape[0]
  places = {'truth': _places([next(iter(rows.values()))[i] for i in cells], 'true_')}
  places |= {stage: _places([own[i] for i in cells], '') for stage, own in rows.items()}
  figures.centroids(folder / 'centroids.png', places, side)
  chosen = np.random.default_rng(0).permutation(len(found.test))[:PATCHES]
  shown = {stage: [_shown(found, own[i], i) for i in chosen] for stage, own in rows.items()}
  figures.patches(folder / 'picture.png', shown)
  lines = {stage: _curve(folder.parent / stage) for stage in sides}
  figures.curves(folder / 'curves.png', lines, 'step', 'test balanced accuracy, %')
  print(f'Pictures: {folder}/picture.png, confusion.png, centroids.png, curves.png')


def _first(stage: Path) -> Path:
  return build.seed_folders(stage)[0]


def _read(path: Path) -> list[dict]:
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def _places(rows: Sequence[Mapping], which: str) -> np.ndarray:
  return np.array([(float(row[f'{which}x']), float(row[f'{which}y'])) for row in rows])


def _shown(found: Splits, row: Mapping, index: int) -> figures.Shown:
  nothing = found.classes[0]
  true = None if row['class'] == nothing else (float(row['true_x']), float(row['true_y']))
  mine = None if row['predicted'] == nothing else (float(row['x']), float(row['y']))
  said = '' if row['predicted'] == row['class'] else f'\nnot {row["predicted"]}'
  return figures.Shown(found.test[int(index)]['image'], true, mine, row['class'] + said)


def _curve(stage: Path) -> figures.Line:
  """The test's headline at each evaluation, mean over seeds; to look at, nothing chooses by it."""
  each = [
    {line['step']: line[CURVE] for line in read_log(seed) if CURVE in line}
    for seed in build.seed_folders(stage)
  ]
  steps = sorted(set.intersection(*map(set, each)))
  found = [statistics.of_mean(np.array([own[step] for own in each])) for step in steps]
  mean, low, high = (np.array(part) for part in zip(*found, strict=True))
  low, high = (np.where(np.isnan(end), mean, end) for end in (low, high))
  return figures.Line(steps, mean, low, high)
