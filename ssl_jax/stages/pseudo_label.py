"""A stage that writes masks for unlabeled images, for a later stage to learn from."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssl_jax import build, parallel, run_folder
from ssl_jax.data import dataset_stats
from ssl_jax.data.source_sizes import sizes_of
from ssl_jax.errors import UserError
from ssl_jax.evaluation import confusion, figures
from ssl_jax.inference.images import of_sizes, predict_labels
from ssl_jax.inference.trained_networks import Ensemble
from ssl_jax.io import mask_store
from ssl_jax.io.run_log import replace_text
from ssl_jax.parsing.stage_list import StageSpec
from ssl_jax.settings import Seeds, Settings
from ssl_jax.stages.labeling.ensembles import check_members
from ssl_jax.stages.labeling.pseudo_label_filter import Filter
from ssl_jax.stages.labeling.pseudo_label_quality import Quality
from ssl_jax.stages.learning.progress_log import Journal
from ssl_jax.stages.learning.training_sources import required
from ssl_jax.types import IGNORE, Figures, Source, Splits

INPUT_STAGES = {'of': 'train', 'ranking': 'rank', 'stable': 'pseudo_label'}
USES = ('seed', 'num_seeds', 'data')

SUBSETS = ('all', 'reliable', 'rest')
"""Which unlabeled images get masks: all, those that a ranking calls reliable, or the others."""


def check(spec: StageSpec, earlier: Mapping[str, StageSpec], splits: Splits) -> None:
  """Checks that there are images to label, and a way to choose them.

  Raises:
    UserError: if one of these is missing, or a number makes no sense.
  """
  stage_kwargs = spec.stage_kwargs
  where = f'stages.{spec.name}'
  check_members(spec, earlier)
  required(splits.unlabeled, f'{where} labels unlabeled images, and there are none.')
  subset = stage_kwargs.get('subset', 'all')
  if subset not in SUBSETS:
    raise UserError(f'{where}: subset={subset!r} is not one of {", ".join(SUBSETS)}.')
  # Only a ranking can tell reliable images from the rest.
  if (subset != 'all') != bool(stage_kwargs.get('ranking')):
    raise UserError(
      f'{where}: subset=reliable or subset=rest, and ranking (a rank stage), need each other.'
    )
  # At 1 hardly any pixel would keep its label.
  threshold = stage_kwargs.get('threshold', 0.0)
  if not 0 <= threshold < 1:
    raise UserError(f'{where}: threshold={threshold} is not at least 0 and below 1.')


class _Row(NamedTuple):
  """A line of labels.csv."""

  # Position in the unlabeled source, by which a later stage finds the image.
  index: int
  name: str
  confidence: str  # mean over the pixels, in 0..1
  coverage: str  # fraction of the pixels that have a label


def stage(
  settings: Settings,
  folder: Path,
  stop: Callable[[], bool],
  *,
  of: str | Sequence[str],
  ranking: str = '',
  subset: str = 'all',
  threshold: float = 0.0,
  scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.5, 2.0),
  flip: bool = True,
  min_voxels: int = 0,
  stable: str = '',
  agreement: float = 0.9,
) -> Figures:
  """Writes masks of unlabeled images for each seed, and returns figures about them in percent.

  Of each seed it writes masks/NAME.png (of volumes NAME.nii.gz), labels.csv and picture.png; where
  the data set knows the hidden truth also quality.csv. The figures are labels/...: how many pixels
  have a label and, with a hidden truth, how often it is right. A killed stage goes on with the
  next image.

  Args:
    settings: of this stage.
    folder: of this stage.
    stop: asked after each image whether to stop.
    of: the training stage whose network labels the images; of several stages the mean of their
      probabilities does.
    ranking: rank stage that says which images are reliable.
    subset: 'all' images, the 'reliable' ones, or the 'rest'.
    threshold: pixels whose probability is below it become IGNORE.
    scales: factors on the image's sides over which probabilities are averaged.
    flip: whether they are also averaged over mirror images.
    min_voxels: leaves out an image in which any class but the background has fewer pixels.
    stable: earlier pseudo_label stage whose masks the new ones are compared with.
    agreement: leaves out an image whose Dice (0..1) with the mask of `stable` is below it.

  Raises:
    UserError: if a checkpoint is missing, or no image is kept.
    Stopped: if it was asked to stop; what is done is saved.
  """
  run = folder.parent
  seeds = settings.part(Seeds)
  ensemble = Ensemble(run, of)
  figures_of_seeds = []
  for seed, seed_folder in run_folder.folders_of_seeds(seeds, folder).items():
    splits = build.splits_of_seed(settings, seed)
    unlabeled = required(
      splits.unlabeled, f'stages.{folder.name} labels unlabeled images, and there are none.'
    )
    stats = ensemble.stats(seed)
    predict_fn, _ = ensemble.predict_fn(seed)
    # ST++ labels the reliable images first, and the rest with a network that learned from those.
    indices = list(range(len(unlabeled)))
    if subset != 'all':
      ranking_folder = run_folder.folders_of_seeds(seeds, run / ranking)[seed]
      indices = _ranked(ranking_folder / 'ranking.csv', reliable=subset == 'reliable')
    # Masks of the earlier stage that are compared with the new ones, of the same seed.
    before = run_folder.folders_of_seeds(seeds, run / stable)[seed] if stable else None
    keeps = Filter(stats.classes, min_voxels, before, agreement)
    quality = Quality(stats.classes, splits.truth)
    journal = Journal(seed_folder, indices)
    # Of all images, also those that a stage before a kill was done with.
    predict_fn = of_sizes(predict_fn, sizes_of(unlabeled))
    # A generator: images are predicted one by one while the loop below runs.
    predictions = predict_labels(predict_fn, _images(unlabeled, journal.waiting), scales, flip)
    # `ids` and `confidence` are [*space]: the likeliest class and its probability. `position` is
    # the place among the waiting images, not the index in the data set.
    for position, ids, confidence in journal.through(predictions, stop, folder.name):
      index = journal.waiting[position]
      name = unlabeled[index]['name']
      # IGNORE keeps uncertain pixels out of the loss of the stage that learns from these masks.
      mask = np.where(confidence >= threshold, ids, np.uint8(IGNORE))
      # Images that are left out have a line as well: a resumed stage does not do them again.
      line = {'name': name, 'kept': keeps.passes(mask, name)}
      if line['kept']:
        line |= quality.count(index, mask, confidence)
        # The mask comes before its line: after a kill between the two the image is repeated.
        if parallel.is_main():
          mask_store.write_training_mask(seed_folder, name, mask)
      journal.write(index, line)
    rows = _rows(journal, quality)
    _write_rows(seed_folder, rows)
    if rows and parallel.is_main():
      _draw(seed_folder, splits, unlabeled, rows)
    # An empty ranking is no mistake; images that were all filtered out are.
    if not rows and indices:
      raise UserError(
        f'{folder.name}: none of {len(indices)} images is kept; lower min_voxels or agreement.'
      )
    left_out = float(len(indices) - len(rows))
    figures_of_seeds.append(quality.write(seed_folder) | {'labels/left_out': left_out})
  # A class that was never predicted with one seed has no precision there, and no mean.
  shared = set.intersection(*map(set, figures_of_seeds))
  means = {}
  for name in sorted(shared):
    means[name] = float(np.mean([of_seed[name] for of_seed in figures_of_seeds]))
  return means


def _rows(journal: Journal, quality: Quality) -> list[_Row]:
  """The lines of labels.csv, whose images are also counted in `quality`."""
  rows = []
  for index, line in journal.lines().items():
    # From the journal, so that images of an earlier, killed call are counted too.
    if line['kept']:
      quality.add(line)
      confidence = f'{line["confidence"] / line["pixels"]:.4f}'
      coverage = f'{line["labeled"] / line["pixels"]:.4f}'
      rows.append(_Row(index, line['name'], confidence, coverage))
  return rows


def _ranked(path: Path, reliable: bool) -> list[int]:
  """Indices of the images that a ranking calls reliable, or of the others."""
  wanted = '1' if reliable else '0'
  with path.open(newline='') as file:
    return sorted(int(row['index']) for row in csv.DictReader(file) if row['reliable'] == wanted)


def _images(source: Source, indices: Sequence[int]) -> Iterator[np.ndarray]:
  for index in indices:
    yield dataset_stats.to_float(source[index]['image'])


def _draw(
  folder: Path, splits: Splits, unlabeled: Source, rows: Sequence[_Row], count: int = 2
) -> None:
  """Draws the masks of highest and of lowest confidence, beside the hidden truth where known."""
  # Best first; the picture shows both ends.
  order = sorted(rows, key=lambda row: -float(row.confidence))
  lowest = max(len(order) - count, count)  # no mask is drawn twice
  table, names, scores = [], [], []
  for row in [*order[:count], *order[lowest:]]:
    image = unlabeled[row.index]['image']
    mask = mask_store.read_mask(folder, row.name)
    confidence = f'confidence {float(row.confidence):.1%}'
    if splits.truth is None:
      table.append([image, mask])
      scores.append(['', confidence])
    else:
      truth = np.asarray(splits.truth[row.index]['label'])
      table.append([image, truth, mask])
      scores.append(['', '', f'{confidence}, mIoU {_miou(truth, mask, len(splits.classes)):.1f} %'])
    names.append(row.name)
  titles = ['image', *(['hidden truth'] if splits.truth is not None else []), 'pseudo-label']
  figures.picture(folder / 'picture.png', table, titles, names, scores, splits.classes)


def _miou(truth: np.ndarray, mask: np.ndarray, num_classes: int) -> float:
  """The mean IoU in percent of a mask, over the pixels that it labels."""
  # The mIoU is of what the network would be taught.
  labeled = mask != IGNORE
  matrix = confusion.confusion_matrix(truth[labeled], mask[labeled], num_classes)
  return float(confusion.mean_iou(matrix))


def _write_rows(folder: Path, rows: Sequence[_Row]) -> None:
  text = io.StringIO()
  csv.writer(text).writerows([_Row._fields, *rows])
  replace_text(folder / 'labels.csv', text.getvalue())
