"""A stage that detects the cells of whole test images, and scores them against the points."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8
from tqdm import tqdm

from ssl_jax import build, parallel, run_folder
from ssl_jax.data import dataset_stats
from ssl_jax.errors import Stopped, UserError
from ssl_jax.evaluation import detection as detection_scores
from ssl_jax.evaluation import figures
from ssl_jax.inference import detection
from ssl_jax.inference.trained_networks import TrainedNetwork
from ssl_jax.io import overlays
from ssl_jax.io.run_log import read_done, replace_text, write_done
from ssl_jax.parsing.stage_list import StageSpec
from ssl_jax.settings import Seeds, Settings, range_text
from ssl_jax.stages.comparing.seed_scores import mean_over_seeds
from ssl_jax.stages.learning.training_sources import required
from ssl_jax.types import CELLS, Figures, PredictFn, Record, Splits

INPUT_STAGES = {'of': 'train'}
TASKS = (CELLS,)
USES = ('seed', 'num_seeds', 'data')

ROWS = 3
"""Images that the picture shows."""


def check(spec: StageSpec, earlier: Mapping[str, StageSpec], splits: Splits) -> None:
  """Checks that there are whole test images, and that numbers make sense.

  Raises:
    UserError: if not.
  """
  stage_kwargs = spec.stage_kwargs
  where = f'stages.{spec.name}'
  required(splits.whole, f'{where} looks for cells in test images, and the data hold none out.')
  # Arguments that the page leaves out have valid defaults.
  for key in ('stride', 'radius', 'distance'):
    if stage_kwargs.get(key, 1) <= 0:
      raise UserError(f'{where}: {key}={stage_kwargs[key]} is not above 0.')
  score = stage_kwargs.get('score', 0.5)
  if not 0 <= score <= 1:
    raise UserError(f'{where}: score={score} is not in the range {range_text(0, 1)}.')


class _Detector(NamedTuple):
  """A trained network and the arguments of detection.detect_cells."""

  predict_fn: PredictFn
  classes: Sequence[str]
  size: int
  stride: int
  score: float | int
  radius: float | int


class _Result(NamedTuple):
  """What came of an image."""

  name: str
  counts: Integer[np.ndarray, 'classes 3']  # true positives, false positives, false negatives
  pictures: list[UInt8[np.ndarray, 'h w 3']]  # the annotated points, and the detected cells


def stage(
  settings: Settings,
  folder: Path,
  stop: Callable[[], bool],
  *,
  of: str,
  stride: int = 8,
  score: float = 0.5,
  radius: float = 12.0,
  distance: float = 6.0,
) -> Figures:
  """Detects the cells of the test images with each seed of a training stage, and returns F1.

  Of each seed it writes points/NAME.csv, counts.csv and picture.png. The figures are those of
  evaluation.detection.f1_scores as test/..., in percent.

  Args:
    settings: of this stage; the data set is that of the training stage.
    folder: of this stage.
    stop: asked before each image whether to stop.
    of: the training stage.
    stride: pixels between the centers of neighboring windows.
    score: lowest probability of a cell with which a window votes for one.
    radius: pixels; of cells closer than this one is kept.
    distance: pixels within which a cell is a hit of a point that nothing else hits (6 at 0.55 um a
      pixel: Sirinukunwattana et al. 2016).

  Raises:
    UserError: if a checkpoint is missing.
    Stopped: if it was asked to stop; the seed begins again then.
  """
  trained_folder = folder.parent / of
  trained_settings = run_folder.read_settings(trained_folder)
  seeds = trained_settings.part(Seeds)
  seed_folders = run_folder.folders_of_seeds(seeds, folder)
  # `stats` of the first seed are needed to build it, hence not before the loop.
  network = None
  done: dict[int, Figures] = {}
  for seed, checkpoints_folder in run_folder.folders_of_seeds(seeds, trained_folder).items():
    seed_folder = seed_folders[seed]
    # With a single seed its folder is the stage's, and a stage that is done is not called again.
    before = read_done(seed_folder)
    if before is not None and len(seed_folders) > 1:
      done[seed] = before
      continue
    whole = required(
      build.splits_of_seed(trained_settings, seed).whole,
      f'stages.{folder.name} looks for cells in test images, and the data hold none out.',
    )
    stats = run_folder.read_stats(checkpoints_folder)
    if network is None:  # one compiled program serves all seeds
      network = TrainedNetwork(trained_settings, stats)
    predict_fn, step = network.predict_fn(checkpoints_folder, trained_settings.checkpoint)
    # Windows have the size of the patches that the network was trained on.
    size = trained_settings.crop_size[0]
    detector = _Detector(predict_fn, stats.classes, size, stride, score, radius)
    results = []
    # Whole images, not the patches that the network was scored on.
    for index in tqdm(range(len(whole)), unit=' images', desc=seed_folder.name):
      # The counts are in memory only, so a seed that is stopped begins again.
      if stop():
        raise Stopped(f'{folder.name}: stopped; the same command begins this seed again.')
      results.append(_detect(detector, whole[index], seed_folder, distance))
    _write_counts(seed_folder / 'counts.csv', results, stats.classes)
    if parallel.is_main():
      _draw(seed_folder / 'picture.png', results[:ROWS], stats.classes)
    done[seed] = {'steps': step}
    # [classes, 3], summed over the images, so that F1 is over all cells of the test set rather than
    # a mean over images with few cells.
    counts = np.stack([result.counts for result in results]).sum(0)
    for name, value in detection_scores.f1_scores(counts, stats.classes).items():
      done[seed][f'test/{name}'] = value
    if len(seed_folders) > 1:
      write_done(seed_folder, done[seed])
  return mean_over_seeds(done)


def _detect(detector: _Detector, record: Record, folder: Path, distance: float | int) -> _Result:
  """Detects the cells of an image, writes them as points/NAME.csv, and counts hits."""
  name, image = record['name'], record['image']
  cells = detection.detect_cells(
    detector.predict_fn,
    # The network expects intensities in [0, 1].
    dataset_stats.to_float(image),
    detector.size,
    detector.stride,
    detector.score,
    detector.radius,
  )
  table = detection.cells_to_csv(cells, detector.classes)
  replace_text(folder / 'points' / f'{name}.csv', table)
  points, classes = record['points'], record['classes']
  counts = detection_scores.tp_fp_fn(cells, points, classes, detector.classes, distance)
  # On two copies, so that points do not hide each other.
  pictures = [
    overlays.draw_cells(image, points, classes),
    overlays.draw_cells(image, cells.points, cells.classes),
  ]
  return _Result(name, counts, pictures)


def _draw(path: Path, results: Sequence[_Result], classes: Sequence[str]) -> None:
  """Draws annotated and detected cells side by side, an image a row."""
  rows = [result.pictures for result in results]
  names = [result.name for result in results]
  scores = []
  for result in results:
    f1 = detection_scores.f1_scores(result.counts, classes)['detection_f1']
    scores.append(['', f'F1 of any class {f1:.1f} %'])
  # `unknown` adds the cells without a class to the legend.
  titles = ['annotated', 'detected']
  figures.beside(path, rows, titles, names, scores, classes, unknown=True)


def _write_counts(path: Path, results: Sequence[_Result], classes: Sequence[str]) -> None:
  """Writes the counts of each image, of any class and of each."""
  text = io.StringIO()
  table = csv.writer(text)
  table.writerow(['image', 'class', 'hits', 'false', 'missed'])
  for result in results:
    # The first row of the counts takes all cells as one class, in place of the background.
    for kind, counts in zip(('any', *classes[1:]), result.counts.tolist(), strict=True):
      table.writerow([result.name, kind, *counts])
  replace_text(path, text.getvalue())
