"""What a report says: everything that a run folder knows of a run, as plain values for a page."""

import ast
import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jax import build, registry, run_folder
from ssl_jax.errors import UserError
from ssl_jax.evaluation import confusion, report_figures
from ssl_jax.evaluation.comparison import repetitions
from ssl_jax.evaluation.report_figures import Bar, Curve
from ssl_jax.io import mask_store
from ssl_jax.io.run_log import read_done, read_log
from ssl_jax.reports import html_pages, report_images, table_cells
from ssl_jax.running import provenance
from ssl_jax.types import MASKS

Contents = dict[str, Any]

SUPERVISED = 'loss/supervised/labeled'
MASK_RATE = '/mask_rate'
"""How the figure ends that says which part of the unlabeled pixels teaches."""

MOST_ROWS = 60
"""Rows of a table of cases that a report repeats."""

MOST_NETWORKS = 12
"""Networks that are described one by one; of more there is the table."""

MOST_CURVES = 8
"""Stages whose curves are drawn; of a table of dozens nobody could tell them apart."""


def collect(run: Path) -> Contents:
  """Returns what a report of a run says.

  Raises:
    UserError: if the folder holds no run.
  """
  page = run_folder.read_page(run)
  if page is None:
    raise UserError(f'{run} holds no {run_folder.CONFIG}, so it is no run; give its --workdir.')
  # A run without stages is one training, in the run folder itself.
  stages = [dict(stage) for stage in page.get('stages') or ({'name': ''},)]
  trained = [stage['name'] for stage in stages if stage.get('run', 'train') == 'train']
  comparisons = [_comparison(run, stage) for stage in stages if stage.get('run') == 'compare']
  return {
    'name': run.resolve().name,
    'unfinished': [stage['name'] for stage in stages if read_done(run / stage['name']) is None],
    'comparisons': [one for one in comparisons if one is not None],
    'networks': [
      row for name in trained[:MOST_NETWORKS] if (row := _network(run / name, name)) is not None
    ],
    'more_networks': max(len(trained) - MOST_NETWORKS, 0),
    'cells': _cells(run),
    'curves': _curves(run, trained),
    'files': _files(run, stages),
    'command': _text(run / run_folder.COMMAND),
    'configuration': _text(run / 'configuration.md'),
    'provenance': provenance.read(run),
    'papers': _papers(run, trained),
  }


def _text(path: Path) -> str:
  return path.read_text().strip() if path.exists() else ''


def _comparison(run: Path, stage: Mapping[str, Any]) -> Contents | None:
  """A comparison that is done: its verdict, what it means, its interval, images and classes."""
  folder = run / stage['name']
  done = read_done(folder)
  if done is None or not (folder / run_folder.VERDICT).exists():
    return None
  verdict, *more = (folder / run_folder.VERDICT).read_text().splitlines()
  prefix = next((key for key in done if key.endswith('_difference')), '')
  # Without a p-value there were too few repetitions or images for a verdict.
  ends = [done.get(f'{prefix}{part}') for part in ('', '_low', '_high', '_p')]
  known = all(isinstance(end, int | float) and math.isfinite(end) for end in ends)
  chart = meaning = ''
  metric = prefix.removeprefix('test/').removesuffix('_difference')
  if known:
    mean, low, high, _ = (float(end) for end in ends)  # type: ignore[arg-type]
    unit = confusion.DISPLAY_NAME.get(metric, metric)
    bar = Bar(f'{stage["of"]} against {stage["against"]}', mean, low, high)
    chart = report_figures.intervals([bar], f'difference, points of test {unit}')
    meaning = _meaning(stage['of'], mean, low, high)
  return {
    'name': f'{stage["of"]} against {stage["against"]}',
    'verdict': verdict,
    'more': more,
    'meaning': meaning,
    'answer': _answer(ends) if known else 'open',
    'chart': chart,
    'confusion': _confusions(run, stage),
    **_pictures(run, stage),
  }


def _answer(ends: Sequence[Any]) -> str:
  """'yes', 'no' or 'open': the color of a verdict."""
  low, high = ends[1:3]
  return 'yes' if low > 0 else 'no' if high < 0 else 'open'


def _meaning(of: str, mean: float, low: float, high: float) -> str:
  """The interval in words for somebody who has not met one."""
  if low > 0:
    return (
      f'The unlabeled images made the masks better. The gain that was measured is {mean:.1f} '
      f'points; if all were repeated with other labels and test images, it would most likely '
      f'be between {low:.1f} and {high:.1f}. Use the masks of {of}.'
    )
  if high < 0:
    return (
      f'The unlabeled images made the masks worse, by {-mean:.1f} points (most likely between '
      f'{-high:.1f} and {-low:.1f}). Use the network that learned from the labels alone.'
    )
  return (
    f'It is not shown that the unlabeled images help or harm: the measured difference is '
    f'{mean:+.1f} points, and anything from {low:+.1f} to {high:+.1f} points fits the results. '
    f'More labeled images, or more repetitions, would narrow this.'
  )


def _confusions(run: Path, stage: Mapping[str, Any]) -> list[Contents]:
  """Of the control and the method: which class was taken for which, in percent of the true one."""
  tables = []
  for name in (stage['against'], stage['of']):
    side = [_repetition(folder) for folder in run_folder.seed_folders(run / name)]
    known = [one for one in side if one is not None]
    if not known:
      continue
    total = np.sum([one.matrices.sum(0) for one in known], 0)
    share = 100 * total / np.maximum(total.sum(1, keepdims=True), 1)
    classes = known[0].classes or tuple(str(i) for i in range(len(total)))
    tables.append({'name': name, 'classes': classes, 'rows': share.tolist()})
  return tables


def _repetition(folder: Path) -> repetitions.Repetition | None:
  try:
    return repetitions.read_repetition(folder)
  except UserError:
    return None


def _pictures(run: Path, stage: Mapping[str, Any]) -> Contents:
  """Test images of the first repetition with the masks of both sides, or why there are none."""
  folders = {
    name: run_folder.seed_folders(run / name)[0] for name in (stage['against'], stage['of'])
  }
  sides = {name: _repetition(folder) for name, folder in folders.items()}
  known = {name: side for name, side in sides.items() if side is not None}
  if len(known) < len(sides):
    return {'pictures': [], 'no_pictures': 'This run kept no masks of its test images.'}
  settings = run_folder.read_settings(run / stage['of'])
  try:
    splits = build.splits_of_seed(settings, settings.seed)
    if splits.task != MASKS or splits.test is None:
      return {'pictures': [], 'no_pictures': ''}
    names = next(iter(known.values())).names
    # Given along x, y and z; None where each volume has its own.
    spacing = (splits.preprocessing or {}).get('spacing')
    spacing = tuple(spacing)[::-1] if spacing else None
    pictures = []
    for choice in report_images.choose(known):
      name = names[choice.index]
      masks = {side: mask_store.read_mask(path / 'test', name) for side, path in folders.items()}
      pictures.append(report_images.picture(choice, splits.test, masks, spacing))
  except (UserError, OSError) as error:
    # The report of a finished run must not depend on whether its images still lie there.
    sentence = f'The test images could not be read again: {error}'
    return {'pictures': [], 'no_pictures': sentence, 'unreadable': str(error)}
  return {'pictures': pictures, 'no_pictures': '', 'classes': html_pages.legend(splits.classes)}


def _network(stage: Path, name: str) -> Contents | None:
  """What was trained in a stage, on what, and how well it did on test images."""
  done = read_done(stage)
  if done is None:
    return None
  settings = run_folder.read_settings(stage)
  seeds = run_folder.seed_folders(stage)
  counts: Mapping[str, int] = {}
  classes: Sequence[str] = ()
  if (seeds[0] / run_folder.STATS).exists():
    stats = run_folder.read_stats(seeds[0])
    # What a stage does not learn from, it was not trained on.
    kept = {'labeled', 'val', 'test', *settings.batch}
    counts = {split: count for split, count in stats.counts.items() if split in kept}
    classes = stats.classes
  scores = {}
  for figure, display in confusion.DISPLAY_NAME.items():
    if f'test/{figure}' in done:
      scores[display] = _over_seeds(seeds, f'test/{figure}')
  for class_name in classes:
    for figure in ('iou', 'dice', 'recall'):
      if f'test/{figure}/{class_name}' in done and (figure != 'recall' or 'test/miou' not in done):
        display = {'iou': 'IoU', 'dice': 'Dice', 'recall': 'recall'}[figure]
        scores[f'{display} of {class_name}'] = _over_seeds(seeds, f'test/{figure}/{class_name}')
  if 'test/ece' in done:
    scores['calibration error'] = _over_seeds(seeds, 'test/ece')
  seconds = sum(_seconds(folder) for folder in seeds)
  return {
    'name': name or 'network',
    'model': settings.model.name,
    'pretrained': str(settings.model.kwargs.get('pretrained') or ''),
    'methods': ', '.join(settings.methods),
    'precision': settings.precision,
    'steps': settings.steps,
    'seeds': len(seeds),
    'counts': counts,
    'scores': scores,
    'collapsed': bool(done.get('collapsed')),
    'minutes': seconds / 60,
  }


def _over_seeds(seeds: Sequence[Path], figure: str) -> str:
  """A figure's mean over seeds, and each of them."""
  values = [done[figure] for seed in seeds if (done := read_done(seed)) and figure in done]
  if not values:
    return ''
  if len(values) == 1:
    return f'{values[0]:.1f}'
  return f'{np.mean(values):.1f} ({", ".join(f"{value:.1f}" for value in values)})'


def _seconds(seed: Path) -> float:
  """How long a seed trained: its logged windows of steps, each by its own speed."""
  total = 0.0
  before = 0
  for line in read_log(seed):
    if speed := line.get('steps_per_second'):
      total += (line['step'] - before) / speed
      before = line['step']
  return total


def _cells(run: Path) -> list[Contents]:
  """The cells of the run's table, as texts."""
  try:
    cells = table_cells.read_cells(run)
  except UserError:
    # A run that compares nothing has no table.
    return []
  rows = []
  for cell in cells:
    if cell.mean is not None:
      rows.append(
        {
          'table': cell.entry['table'],
          'row': cell.entry['row'],
          'column': cell.entry['column'],
          'figure': cell.figure,
          'mean': cell.mean,
          'count': len(cell.scores),
          'difference': cell.difference,
          'holm': cell.holm,
          'published': cell.entry.get('published'),
        }
      )
  return rows


def _curves(run: Path, trained: Sequence[str]) -> list[tuple[str, str]]:
  """Titles and charts of what was logged in training."""
  logs = {}
  for name in trained[:MOST_CURVES]:
    logs[name or 'network'] = [read_log(folder) for folder in run_folder.seed_folders(run / name)]
  wanted = {
    'Loss on the labels': lambda key: key == SUPERVISED,
    'Fraction of unlabeled pixels learned from': lambda key: key.endswith(MASK_RATE),
  }
  # Scores of evaluations during training, of which no choice is made.
  for split in ('val', 'test'):
    for figure, display in confusion.DISPLAY_NAME.items():
      wanted[f'{split} {display}, %'] = lambda key, full=f'{split}/{figure}': key == full
  charts = []
  for title, belongs in wanted.items():
    lines = []
    for place, (name, log_of_seed) in enumerate(logs.items()):
      seeds = [_series(log, belongs) for log in log_of_seed]
      if seeds and all(len(seed) > 1 for seed in seeds):
        lines.append(Curve(name, seeds, place))
    if lines:
      charts.append((title, report_figures.curves(lines)))
  return charts


def _series(log: Sequence[Mapping[str, Any]], belongs: Any) -> dict[int, float]:
  """Step -> value of the figure that belongs to a chart."""
  return {line['step']: line[key] for line in log for key in line if belongs(key)}


def _files(run: Path, stages: Sequence[Mapping[str, Any]]) -> list[Contents]:
  """Tables that stages wrote: organs of volumes, detected cells, quality of pseudo-labels."""
  found = []
  for stage in stages:
    for folder in run_folder.seed_folders(run / stage['name'])[:1]:
      for path in sorted(folder.glob('*.csv')):
        with path.open(newline='', errors='replace') as file:
          rows = list(csv.reader(file))
        if len(rows) > 1:
          found.append(
            {
              'name': str(path.relative_to(run)),
              'head': rows[0],
              'rows': rows[1 : MOST_ROWS + 1],
              'more': max(len(rows) - 1 - MOST_ROWS, 0),
            }
          )
  return found


def _papers(run: Path, trained: Sequence[str]) -> list[str]:
  """What the docstrings of the methods and networks that were used say of their papers."""
  texts = []
  for name in trained:
    if not (run / name / run_folder.CONFIG).exists():
      continue
    settings = run_folder.read_settings(run / name)
    used = [('methods', method) for method in settings.methods] + [('models', settings.model.name)]
    for kind, part in used:
      try:
        source = registry.path(kind, part).read_text()
      except UserError:
        # A plug-in of the user's that does not lie here.
        continue
      docstring = ast.get_docstring(ast.parse(source)) or ''
      texts.append(f'{part}: {" ".join(docstring.split())}')
  return list(dict.fromkeys(texts))
