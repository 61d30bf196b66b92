"""Tables of many cells as Markdown, CSV, pictures and lines of a ledger."""

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jax import run_folder
from ssl_jax.evaluation import confusion, figures
from ssl_jax.io import markdown_tables
from ssl_jax.io.run_log import replace_text
from ssl_jax.reports import ledger
from ssl_jax.reports.table_cells import Cell, Interval, corrected, read_cells

ENTRY_KEYS = ('table', 'row', 'column', 'stage', 'published', 'control')
"""Keys of a cell of `config.table` that the CSV repeats."""

COLUMNS = (
  *ENTRY_KEYS,
  'figure',
  'mean',
  'low',
  'high',
  'repetitions',
  'best_seen',
  'difference',
  'difference_low',
  'difference_high',
  'p',
  'p_holm',
  'holm_low',
  'holm_high',
  'command',
)


def markdown(cells: Sequence[Cell]) -> str:
  """Tables of: what was published, ours with interval, the difference to the control."""
  blocks = []
  for title, own_cells in _by_table(cells).items():
    blocks.append(f'**{title}**\n\n{_grid(own_cells)}')
  return '\n\n'.join(blocks)


def _by_table(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
  tables: dict[str, list[Cell]] = {}
  for cell in cells:
    tables.setdefault(cell.entry['table'], []).append(cell)
  return tables


def _grid(cells: Sequence[Cell]) -> str:
  """One table in Markdown."""
  # In the order of the config; a dict keeps it, a set would not.
  rows = list(dict.fromkeys(cell.entry['row'] for cell in cells))
  columns = list(dict.fromkeys(cell.entry['column'] for cell in cells))
  by_place = {(cell.entry['row'], cell.entry['column']): cell for cell in cells}
  header = ''.join(f' {markdown_tables.cell(column)} |' for column in columns)
  lines = [f'| |{header}', '|---' * (len(columns) + 1) + '|']
  for row in rows:
    texts = []
    # A place without a cell stays empty.
    for column in columns:
      texts.append(_cell_text(by_place[row, column]) if (row, column) in by_place else '')
    lines.append(markdown_tables.row([row, *texts]))
  return '\n'.join(lines)


def _cell_text(cell: Cell) -> str:
  parts = []
  # The paper's own number first, then ours.
  if cell.entry.get('published') is not None:
    parts.append(f'published {cell.entry["published"]:.2f}')
  if cell.mean is None:
    return ', '.join([*parts, 'not run'])
  parts.append(_with_interval(cell.mean, '**{:.2f}**', '{:.2f}') + f' (n={len(cell.scores)})')
  if cell.difference is not None:
    parts.append('Δ ' + _with_interval(cell.difference, '{:+.2f}', '{:+.2f}'))
    if cell.holm is not None and not np.isnan(cell.holm[0]):
      parts.append('Holm [' + ', '.join(f'{end:+.2f}' for end in cell.holm) + ']')
  return ', '.join(parts)


def _with_interval(interval: Interval, mean: str, limit: str) -> str:
  # One seed has no interval (NaN).
  ends = [limit.format(end) for end in interval[1:] if not np.isnan(end)]
  return mean.format(interval[0]) + (f' [{", ".join(ends)}]' if ends else '')


def draw(cells: Sequence[Cell], folder: Path) -> list[Path]:
  """Draws each table whose columns are numbers, a line for each row; returns the files."""
  paths = []
  # A curve needs numbers on its x axis, such as numbers of labels.
  for number, (title, own_cells) in enumerate(_by_table(cells).items(), start=1):
    done = [cell for cell in own_cells if cell.mean is not None]
    columns = {cell.entry['column'] for cell in done}
    if len(columns) < 2 or not all(_is_number(column) for column in columns):
      continue
    lines = {}
    for row in dict.fromkeys(cell.entry['row'] for cell in done):
      # Columns may stand in any order in the config, a line runs from left to right.
      points = [(float(c.entry['column']), c.mean) for c in done if c.entry['row'] == row]
      x, intervals = zip(*sorted(points), strict=True)
      # Intervals [points][mean, low, high] become three sequences, one for each field of Line.
      lines[row] = figures.Line(x, *zip(*intervals, strict=True))
    display_name = confusion.DISPLAY_NAME.get(done[0].figure, done[0].figure)
    # Numbers of labels are spread over orders of magnitude; 0 has no logarithm.
    log_scale = min(map(float, columns)) > 0
    paths.append(folder / f'table_{number}.png')
    figures.curves(paths[-1], lines, '', f'test {display_name}, %', log=log_scale, title=title)
  return paths


def _is_number(text: str) -> bool:
  return text.replace('.', '', 1).isdigit()


def as_csv(cells: Sequence[Cell], command: str) -> str:
  """One line a cell; `command` makes the run, and --only is added to it."""
  text = io.StringIO()
  writer = csv.DictWriter(text, COLUMNS)
  writer.writeheader()
  for cell in cells:
    # DictWriter leaves fields empty that a line lacks: cells that are not done have no scores.
    line: dict[str, Any] = {key: cell.entry.get(key) for key in ENTRY_KEYS}
    for key in ('stage', 'control'):
      if line[key]:
        line[key] = _listed(line[key])
    line['figure'] = cell.figure
    line['repetitions'] = len(cell.scores)
    line['best_seen'] = _rounded(cell.best_seen)
    if cell.mean is not None:
      line['mean'], line['low'], line['high'] = map(_rounded, cell.mean)
    if cell.difference is not None:
      mean, low, high = map(_rounded, cell.difference)
      line |= {'difference': mean, 'difference_low': low, 'difference_high': high}
      line |= {'p': _rounded(cell.compared.difference.p, 5), 'p_holm': _rounded(cell.p_holm, 5)}
      if cell.holm is not None:
        line['holm_low'], line['holm_high'] = map(_rounded, cell.holm)
    line['command'] = _command(command, cell)
    writer.writerow(line)
  return text.getvalue()


def _rounded(value: float | None, digits: int = 3) -> float | None:
  return None if value is None else round(value, digits)


def cells_of_ledger(lines: Sequence[Mapping[str, Any]]) -> list[Cell]:
  """The cells of a ledger, corrected for their number."""
  cells = []
  for line in lines:
    control = np.array(line.get('control_scores', []))
    cell = Cell(line, line['figure'], np.array(line['scores']), control, None)
    cells.append(cell._replace(compared=ledger.compared_of(line, cell.percent)))
  return corrected(cells)


def _ledger_lines(run: Path, cells: Sequence[Cell], command: str) -> list[dict[str, Any]]:
  """The lines of those cells that are done."""
  lines = []
  for cell in cells:
    if cell.mean is not None:
      parts = (cell.figure, cell.scores, cell.control, cell.compared)
      lines.append(ledger.line_of(run, cell.entry, *parts, _command(command, cell)))
  return lines


def _command(command: str, cell: Cell) -> str:
  """The command that makes a cell."""
  # A cell may need several stages, which `only` then names with a pattern.
  only = cell.entry.get('only', _listed(cell.entry['stage']))
  return f"{command} --only='{only}'" if only else command


def _listed(stages: str | Sequence[str]) -> str:
  """The names of a cell's stages, with commas between."""
  return stages if isinstance(stages, str) else ','.join(stages)


def print_table(run: Path, ledger_file: Path | None = None) -> int:
  """Prints the table of a run or of a ledger; returns the exit code.

  Args:
    run: folder of a run, in which table.csv is written; or a ledger.
    ledger_file: to which the cells of a run are written.

  Raises:
    UserError: if there is no table, or a ledger cannot be read.
    OSError: if a file cannot be written.
  """
  if run.suffix == '.jsonl':
    cells = cells_of_ledger(ledger.read(run))
    print(markdown(cells))
    _print_legend(cells)
    return 0
  cells = read_cells(run)
  command = run / run_folder.COMMAND  # a run that was started from Python has none
  shell = command.read_text().strip() if command.exists() else 'python main.py'
  replace_text(run / 'table.csv', as_csv(cells, shell))
  if ledger_file is not None:
    count = ledger.write(ledger_file, _ledger_lines(run, cells, shell))
    print(f'{ledger_file} holds {count} cells.', file=sys.stderr)
  print(markdown(cells))
  for path in draw(cells, run):
    print(f'\nPicture: {path}')
  _print_legend(cells)
  print(f'All figures: {run / "table.csv"}')
  return 0


def _print_legend(cells: Sequence[Cell]) -> None:
  # The table is printed also while a run is under way; this line says how complete it is.
  missing = sum(cell.mean is None for cell in cells)
  names = dict.fromkeys(confusion.DISPLAY_NAME.get(cell.figure, cell.figure) for cell in cells)
  what = f'test {", ".join(names)} in percent, mean over n repetitions'
  print(f'\n{len(cells) - missing} of {len(cells)} cells; {what}.')
  differences = sum(cell.compared is not None for cell in cells)
  # A single difference needs no correction, and has none.
  holm = f'; Holm: its interval corrected for all {differences} differences' * (differences > 1)
  print(f'[95 % interval]; Δ: to the control, paired{holm}.')
