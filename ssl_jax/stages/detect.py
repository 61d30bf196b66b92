"""A stage that finds the cells of whole test images, and holds them against the points."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ssl_jax import build, parallel
from ssl_jax.data import dataset_stats
from ssl_jax.errors import Stopped, UserError
from ssl_jax.evaluation import figures
from ssl_jax.inference import detection
from ssl_jax.inference.trained_networks import Network, read_config
from ssl_jax.io.run_log import read_done, replace_text, write_done
from ssl_jax.stages.seed_scores import mean_over_seeds
from ssl_jax.types import CELLS, PredictFn, Splits, StageSpec

INPUT_STAGES = {'of': 'train'}
TASKS = (CELLS,)
ROWS = 3
"""Images that the picture shows."""


def check(plan: StageSpec, earlier: Mapping[str, StageSpec], found: Splits) -> None:
  """Raises UserError where there is no whole test image, or for a knob that cannot be."""
  own, where = plan.own, f'stages.{plan.name}'
  if found.whole is None:
    raise UserError(f'{where} looks for cells in test images, and the data hold none out.')
  for knob in ('stride', 'radius', 'distance'):
    if own.get(knob, 1) <= 0:
      raise UserError(f'{where}: {knob}={own[knob]} is not above 0.')
  if not 0 <= own.get('score', 0.5) <= 1:
    raise UserError(f'{where}: score={own["score"]} is not in 0..1.')


def stage(
  config: Mapping,
  folder: Path,
  stop: Callable[[], bool],
  *,
  of: str,
  stride: int = 8,
  score: float = 0.5,
  radius: float = 12.0,
  distance: float = 6.0,
) -> dict[str, float]:
  """Writes points/NAME.csv of each test image for each seed of the training stage `of`, and F1.

  `stride`, `score` and `radius` are those of detect.slide. A cell is a hit within `distance` pixels
  of a point that nothing else hits (6 at 0.55 um a pixel: Sirinukunwattana et al. 2016).
  """
  settings = read_config(folder.parent / of)
  found = build.splits(settings['data'])
  network, done = None, {}
  mine = build.folders_of_seeds(settings, folder)
  for seed, trained in build.folders_of_seeds(settings, folder.parent / of).items():
    if len(mine) > 1 and (before := read_done(mine[seed])) is not None:
      done[seed] = before
      continue
    facts = build.read_stats(trained)
    network = network or Network(settings, facts)
    answer, step = network.at(trained, settings['select'])
    knobs = dict(size=settings['size'][0], stride=stride, score=score, radius=radius)
    each = []
    for index in tqdm(range(len(found.whole)), unit=' images', desc=mine[seed].name):
      if stop():
        raise Stopped(f'{folder.name}: stopped; the same command begins this seed again.')
      each.append(_of_image(answer, found.whole[index], facts, mine[seed], distance, knobs))
    counts = np.stack([one for one, _ in each])
    _write(mine[seed] / 'counts.csv', [found.whole[i]['name'] for i in range(len(each))], counts,
           facts.classes)  # fmt: skip
    if parallel.is_main():
      figures.beside(mine[seed] / 'picture.png', [rows for _, rows in each[:ROWS]],
                     ['points', 'found'])  # fmt: skip
    scores = detection.f1_scores(counts.sum(0), facts.classes)
    done[seed] = {'steps': step} | {f'test/{name}': value for name, value in scores.items()}
    if len(mine) > 1:
      write_done(mine[seed], done[seed])
  return mean_over_seeds(done)


def _of_image(
  answer: PredictFn,
  record: Mapping,
  facts: dataset_stats.DatasetStats,
  folder: Path,
  distance: float,
  knobs: Mapping,
) -> tuple[np.ndarray, list[np.ndarray]]:
  """Counts of hits, false and missed, and two pictures: the points, and what was found."""
  cells = detection.slide(answer, dataset_stats.unit(record['image']), **knobs)
  replace_text(folder / 'points' / f'{record["name"]}.csv', detection.as_csv(cells, facts.classes))
  counts = detection.tp_fp_fn(cells, record['points'], record['classes'], facts.classes, distance)
  drawn = [detection.draw(record['image'], at, classes) for at, classes in
           ((record['points'], record['classes']), (cells.at, cells.classes))]  # fmt: skip
  return counts, drawn


def _write(path: Path, names: Sequence[str], counts: np.ndarray, classes: Sequence[str]) -> None:
  text = io.StringIO()
  table = csv.writer(text)
  table.writerow(['image', 'class', 'hits', 'false', 'missed'])
  for name, own in zip(names, counts, strict=True):
    for kind, row in zip(('any', *classes[1:]), own.tolist(), strict=True):
      table.writerow([name, kind, *row])
  replace_text(path, text.getvalue())
