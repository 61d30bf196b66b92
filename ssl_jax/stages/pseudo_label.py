"""A stage that writes masks for unlabeled images, for a later stage to learn from."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ssl_jax import build, parallel
from ssl_jax.data import dataset_stats
from ssl_jax.errors import UserError
from ssl_jax.evaluation import figures
from ssl_jax.inference.images import predict_labels
from ssl_jax.inference.trained_networks import Ensemble
from ssl_jax.io import mask_store
from ssl_jax.io.run_log import replace_text
from ssl_jax.stages.ensembles import check_members
from ssl_jax.stages.progress_log import Journal
from ssl_jax.stages.pseudo_label_filter import Filter
from ssl_jax.stages.pseudo_label_quality import Quality
from ssl_jax.types import IGNORE, Source, Splits, StageSpec

INPUT_STAGES = {'of': 'train', 'ranking': 'rank', 'stable': 'pseudo_label'}
PARTS = ('all', 'reliable', 'rest')


def check(plan: StageSpec, earlier: Mapping[str, StageSpec], found: Splits) -> None:
  """Raises UserError where there is nothing to label, or no way to choose what to label."""
  own, where = plan.own, f'stages.{plan.name}'
  check_members(plan, earlier)
  if found.unlabeled is None:
    raise UserError(f'{where} labels unlabeled images, and there are none.')
  if own.get('part', 'all') not in PARTS:
    raise UserError(f'{where}: part={own["part"]!r} is not one of {", ".join(PARTS)}.')
  if (own.get('part', 'all') != 'all') != bool(own.get('ranking')):
    raise UserError(
      f'{where}: part=reliable or part=rest, and ranking (a rank stage), need each other.'
    )
  if not 0 <= own.get('threshold', 0.0) < 1:
    raise UserError(f'{where}: threshold={own["threshold"]} is not in 0..1.')


def stage(
  config: Mapping,
  folder: Path,
  stop: Callable[[], bool],
  *,
  of: str | Sequence[str],
  ranking: str = '',
  part: str = 'all',
  threshold: float = 0.0,
  scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.5, 2.0),
  flip: bool = True,
  least: int = 0,
  stable: str = '',
  agreement: float = 0.9,
) -> dict[str, float]:
  """Writes masks/NAME.png and labels.csv for each seed of the training stage `of`, or of several.

  Its last network (or the best, if its `select` says so) labels all unlabeled images, or the
  reliable ones of a `ranking`, or the rest; those of several stages vote by the mean of their
  probabilities. PredictFn are averaged over `scales` and mirror images; pixels below
  `threshold` become IGNORE. An image is left out where a class has fewer than `least` pixels, or
  where its Dice (0..1) with the labels of the stage `stable` is below `agreement`. Where the data
  know the hidden truth, the masks are held against it: quality.csv, and figures `labels/...` in
  percent. A killed stage goes on with the next image.
  """
  ensemble, found = Ensemble(folder.parent, of), build.splits(config['data'])
  ranked = build.folders_of_seeds(config, folder.parent / ranking)
  each = []
  for seed, out in build.folders_of_seeds(config, folder).items():
    facts = ensemble.facts(seed)
    teacher, _ = ensemble.at(seed)
    chosen = _chosen(found.unlabeled, ranked[seed] / 'ranking.csv', part)
    quality, journal = Quality(facts.classes, found.truth), Journal(out, chosen)
    before = build.folders_of_seeds(config, folder.parent / stable)[seed] if stable else None
    keep = Filter(facts.classes, least, before, agreement)
    answers = predict_labels(teacher, _shown(found.unlabeled, journal.waiting), scales, flip)
    for position, ids, sure in journal.through(answers, stop, folder.name):
      index = journal.waiting[position]
      name = found.unlabeled[index]['name']
      mask = np.where(sure >= threshold, ids, np.uint8(IGNORE))
      line = {'name': name, 'kept': keep.passes(mask, name)}
      if line['kept']:
        line |= quality.count(index, mask, sure)
        if parallel.is_main():
          mask_store.write_training_mask(out, name, mask)
      journal.write(index, line)
    rows = []
    for index, line in journal.lines().items():
      if line['kept']:
        quality.add(line)
        shares = (f'{line[part] / line["pixels"]:.4f}' for part in ('sure', 'told'))
        rows.append((index, line['name'], *shares))
    left_out = len(chosen) - len(rows)
    _write(out, rows)
    if rows and parallel.is_main():
      _draw(out, found, rows)
    if not rows and chosen:
      raise UserError(
        f'{folder.name}: none of {len(chosen)} images is kept; lower least or agreement.'
      )
    each.append(quality.write(out) | {'labels/left_out': float(left_out)})
  shared = set.intersection(*map(set, each))
  return {name: float(np.mean([one[name] for one in each])) for name in sorted(shared)}


def _chosen(source: Source, ranking: Path, part: str) -> list[int]:
  if part == 'all':
    return list(range(len(source)))
  with ranking.open(newline='') as file:
    wanted = '1' if part == 'reliable' else '0'
    return sorted(int(row['index']) for row in csv.DictReader(file) if row['reliable'] == wanted)


def _shown(source: Source, chosen: list[int]) -> Iterator[np.ndarray]:
  return (dataset_stats.unit(source[index]['image']) for index in chosen)


def _draw(folder: Path, found: Splits, rows: list[tuple], count: int = 2) -> None:
  """The masks of which the teacher is most and least sure, the hidden truth beside where known."""
  order = sorted(rows, key=lambda row: -float(row[2]))
  table = []
  for index, name, *_ in [*order[:count], *order[max(len(order) - count, count) :]]:
    truth = [] if found.truth is None else [found.truth[index]['label']]
    mask = mask_store.read(folder, name)
    table.append([found.unlabeled[index]['image'], *truth, mask])
  titles = ['image', *(['hidden truth'] if found.truth is not None else []), 'pseudo-label']
  figures.picture(folder / 'picture.png', table, titles)


def _write(folder: Path, rows: list[tuple]) -> None:
  text = io.StringIO()
  csv.writer(text).writerows([('index', 'name', 'confidence', 'coverage'), *rows])
  replace_text(folder / 'labels.csv', text.getvalue())
