"""Tables of a run of many cells: `python -m ssl_jax.table RUN` prints Markdown and writes CSV.

A config's `table` says which stage stands where; `only` is what --only needs to make it, `figure`
which figure it shows: one of the test's, or any of done.json with its split (without it, the mIoU,
or the balanced accuracy of cells):

  config.table = (
    dict(table='Table 1', row='PSPNet', column='ST', stage='pspnet-st', control='pspnet-teacher',
         published=83.08, only='pspnet-*'),
    ...
  )
"""

import argparse
import csv
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssl_jax import run_folder
from ssl_jax.errors import UserError
from ssl_jax.evaluation import confusion, figures, statistics
from ssl_jax.io.run_log import read_done, replace_text

SPLITS = ('test', 'val', 'train', 'complete', 'removed', 'kept')
"""How figures in done.json begin that are not the test's."""

ENTRY_KEYS = ('table', 'row', 'column', 'stage', 'published', 'control')
COLUMNS = (
  *(*ENTRY_KEYS, 'figure', 'mean', 'low', 'high', 'seeds', 'best_seen'),
  *('difference', 'difference_low', 'difference_high', 'command'),
)


class Cell(NamedTuple):
  """What is known of one cell: scores in percent, by seed."""

  entry: Mapping  # the cell of config.table
  figure: str  # which of the test's: 'miou', say
  scores: np.ndarray  # [seeds]; empty where the stage is not done
  control: np.ndarray  # [seeds] of the control, likewise
  best_seen: float | None

  @property
  def mean(self) -> tuple[float, float, float] | None:
    """The mean and its 95 % interval over seeds."""
    return statistics.mean_interval(self.scores) if len(self.scores) else None

  @property
  def difference(self) -> tuple[float, float, float] | None:
    """The paired difference to the control and its 95 % interval over seeds."""
    if not len(self.control) or len(self.control) != len(self.scores):
      return None
    return statistics.mean_interval(self.scores - self.control)


def read_cells(run: Path) -> list[Cell]:
  """The cells of a run's table, as far as they are done."""
  page = run_folder.read_page(run)
  if page is None:
    raise UserError(f'{run} holds no config.json, so it is no run; give the --workdir of one.')
  if not page.get('table'):
    raise UserError(f'The config of {run} has no table; configs/wbc_table1.py shows one.')
  return [_read(run, entry) for entry in page['table']]


def _read(run: Path, entry: Mapping) -> Cell:
  done = read_done(run / entry['stage']) or {}
  figure = entry.get('figure') or next(
    (n for n in confusion.DISPLAY_NAME if f'test/{n}' in done), 'miou'
  )
  scores, control = (
    _scores(run / entry[key], _full(figure)) if entry.get(key) else np.array([])
    for key in ('stage', 'control')
  )
  if entry.get('control') == entry['stage']:
    control = np.array([])
  return Cell(entry, figure, scores, control, done.get(f'test/best_seen_{figure}'))


def _full(figure: str) -> str:
  """The name in done.json of a figure; one that names no split is the test's."""
  return figure if figure.split('/')[0] in SPLITS else f'test/{figure}'


def _scores(stage: Path, figure: str) -> np.ndarray:
  if read_done(stage) is None:
    return np.array([])
  each = [read_done(seed) for seed in run_folder.seed_folders(stage)]
  if any(figure not in own for own in each):
    raise UserError(f'{stage} has no figure {figure}, which config.table asks for.')
  return np.array([own[figure] for own in each])


def markdown(cells: Sequence[Cell]) -> str:
  """Tables of: what was published, ours with interval, the difference to the control."""
  titles = dict.fromkeys(cell.entry['table'] for cell in cells)
  each = {title: [cell for cell in cells if cell.entry['table'] == title] for title in titles}
  return '\n\n'.join(f'**{title}**\n\n{_grid(cells)}' for title, cells in each.items())


def _grid(cells: Sequence[Cell]) -> str:
  rows = list(dict.fromkeys(cell.entry['row'] for cell in cells))
  columns = list(dict.fromkeys(cell.entry['column'] for cell in cells))
  at = {(cell.entry['row'], cell.entry['column']): cell for cell in cells}
  lines = ['| | ' + ' | '.join(columns) + ' |', '|---' * (len(columns) + 1) + '|']
  for row in rows:
    shown = (_show(at[row, column]) if (row, column) in at else '' for column in columns)
    lines.append(f'| {row} | ' + ' | '.join(shown) + ' |')
  return '\n'.join(lines)


def _show(cell: Cell) -> str:
  parts = []
  if cell.entry.get('published') is not None:
    parts.append(f'published {cell.entry["published"]:.2f}')
  if cell.mean is None:
    return ', '.join([*parts, 'not run'])
  parts.append(_with_interval(cell.mean, '**{:.2f}**', '{:.2f}') + f' (n={len(cell.scores)})')
  if cell.difference is not None:
    parts.append('Δ ' + _with_interval(cell.difference, '{:+.2f}', '{:+.2f}'))
  return ', '.join(parts)


def draw(cells: Sequence[Cell], folder: Path) -> list[Path]:
  """Draws each table whose columns are numbers, a line for each row; returns the files."""
  made = []
  for number, title in enumerate(dict.fromkeys(cell.entry['table'] for cell in cells), start=1):
    own = [cell for cell in cells if cell.entry['table'] == title and cell.mean is not None]
    columns = {cell.entry['column'] for cell in own}
    if len(columns) < 2 or not all(column.replace('.', '', 1).isdigit() for column in columns):
      continue
    lines = {}
    for row in dict.fromkeys(cell.entry['row'] for cell in own):
      points = [(float(c.entry['column']), c.mean) for c in own if c.entry['row'] == row]
      x, found = zip(*sorted(points), strict=True)
      lines[row] = figures.Line(x, *zip(*found, strict=True))
    made.append(folder / f'table_{number}.png')
    spoken = confusion.DISPLAY_NAME.get(own[0].figure, own[0].figure)
    figures.curves(
      made[-1], lines, '', f'test {spoken}, %', log=min(map(float, columns)) > 0, title=title
    )
  return made


def _with_interval(found: tuple[float, float, float], mean: str, limit: str) -> str:
  ends = [limit.format(end) for end in found[1:] if not np.isnan(end)]
  return mean.format(found[0]) + (f' [{", ".join(ends)}]' if ends else '')


def as_csv(cells: Sequence[Cell], command: str) -> str:
  """One line a cell; `command` makes the run, and --only is added to it."""
  text = io.StringIO()
  table = csv.DictWriter(text, COLUMNS)
  table.writeheader()
  for cell in cells:
    line = {key: cell.entry.get(key) for key in ENTRY_KEYS}
    line |= {'figure': cell.figure, 'seeds': len(cell.scores), 'best_seen': _round(cell.best_seen)}
    for name, found in (('', cell.mean), ('difference', cell.difference)):
      if found is not None:
        keys = (f'{name}' or 'mean', f'{name}_low'.lstrip('_'), f'{name}_high'.lstrip('_'))
        line |= dict(zip(keys, map(_round, found), strict=True))
    only = cell.entry.get('only', cell.entry['stage'])
    line['command'] = f"{command} --only='{only}'"
    table.writerow(line)
  return text.getvalue()


def _round(value: float | None) -> float | None:
  return None if value is None else round(value, 3)


def main(arguments: list[str] | None = None) -> int:
  """The program; prints the Markdown table and writes table.csv into the run."""
  parser = argparse.ArgumentParser('python -m ssl_jax.table', description=__doc__.splitlines()[0])
  parser.add_argument('run', type=Path, help='folder of a run whose config has a table')
  run = parser.parse_args(arguments).run
  try:
    cells = read_cells(run)
    command = run / run_folder.COMMAND  # a run that was started from Python has none
    said = command.read_text().strip() if command.exists() else 'python main.py'
    replace_text(run / 'table.csv', as_csv(cells, said))
  except (UserError, OSError) as error:
    print(f'ssl_jax: {error}', file=sys.stderr)
    return 1
  print(markdown(cells))
  for path in draw(cells, run):
    print(f'\nPicture: {path}')
  missing = sum(cell.mean is None for cell in cells)
  figures = dict.fromkeys(confusion.DISPLAY_NAME.get(cell.figure, cell.figure) for cell in cells)
  said = f'test {", ".join(figures)} in percent, mean over n seeds'
  print(f'\n{len(cells) - missing} of {len(cells)} cells; {said}.')
  print(f'[95 % interval]; Δ: to the control, paired by seed. All figures: {run / "table.csv"}')
  return 0


if __name__ == '__main__':
  sys.exit(main())
