"""Tables of a run of many cells: `python -m ssl_jax.table RUN` prints Markdown and writes CSV.

A config's `table` says which stage stands where; `only` is what --only needs to make it, `figure`
which figure it shows: one of the test's, or any of done.json with its split (without it, the mIoU,
or the balanced accuracy of cells):

  config.table = (
    dict(table='Table 1', row='PSPNet', column='ST', stage='pspnet-st', control='pspnet-teacher',
         published=83.08, only='pspnet-*'),
    ...
  )

A stage, or a control, may be a tuple of stages: repetitions on other draws of the labels, whose
scores are taken together.
"""

import argparse
import csv
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssl_jax import ledger, run_folder
from ssl_jax.errors import UserError
from ssl_jax.evaluation import confusion, figures, headline, repetitions, statistics
from ssl_jax.evaluation.evaluate import MATRICES_FILE
from ssl_jax.evaluation.repetitions import Compared
from ssl_jax.io import listing
from ssl_jax.io.run_log import read_done, replace_text

SPLITS = ('test', 'val', 'train', 'complete', 'removed', 'kept')
"""How figures in done.json begin that are not the test's."""

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

NO_PERCENTAGES = ('hd95', 'pixels', 'count', 'seconds', 'steps', 'distance', 'memory', 'minutes')
"""How figures begin that are no scores of 0 to 100."""

Interval = tuple[float, float, float]
"""A mean and the ends of its 95 % interval; the ends are NaN for one repetition."""


class Cell(NamedTuple):
  """What is known of one cell: scores in percent, by repetition."""

  entry: Mapping[str, Any]  # the cell of config.table
  figure: str  # which of the test's: 'miou', say
  scores: np.ndarray  # [repetitions]; empty where the stage is not done
  control: np.ndarray  # [repetitions] of the control, likewise
  best_seen: float | None
  compared: Compared | None = None  # to the control, where both are done
  p_holm: float | None = None  # of the difference, corrected for all cells of the page
  holm: tuple[float, float] | None = None  # the interval at the level of that correction

  @property
  def percent(self) -> bool:
    """Whether the figure is a score of 0 to 100."""
    return not self.figure.rpartition('/')[2].startswith(NO_PERCENTAGES)

  @property
  def mean(self) -> Interval | None:
    """The mean and its interval over repetitions."""
    if not len(self.scores):
      return None
    return statistics.mean_interval(self.scores, percent=self.percent)

  @property
  def difference(self) -> Interval | None:
    """The paired difference to the control and its interval."""
    if self.compared is None:
      return None
    difference = self.compared.difference
    return difference.mean, difference.low, difference.high


def read_cells(run: Path) -> list[Cell]:
  """The cells of a run's table, as far as they are done, corrected for their number.

  Raises:
    UserError: if the folder holds no run, its config has no table, or a figure is not there.
  """
  page = run_folder.read_page(run)
  if page is None:
    raise UserError(f'{run} holds no config.json, so it is no run; give the --workdir of one.')
  entries = page.get('table') or _entries_of_stages(page)
  return _corrected([_read_cell(run, entry) for entry in entries])


def _entries_of_stages(page: Mapping[str, Any]) -> list[dict[str, Any]]:
  """A cell for each network that the page compares, where it has no table.

  Raises:
    UserError: if it compares none.
  """
  compared = [stage for stage in page.get('stages') or () if stage.get('run') == 'compare']
  if not compared:
    raise UserError(
      'The run has no table, nor stages that compare; configs/wbc_table1.py shows a table.'
    )
  entries: dict[str, dict[str, Any]] = {}
  for stage in compared:
    of, against = stage['of'], stage['against']
    for name in (against, of):
      entries.setdefault(name, dict(table='Test', row=name, column='score', stage=name, only=''))
    entries[of]['control'] = against
  return list(entries.values())


def _corrected(cells: Sequence[Cell]) -> list[Cell]:
  """The cells with what Holm's correction over all differences of the page makes of theirs."""
  judged = [i for i, cell in enumerate(cells) if cell.compared is not None]
  differences = [cells[i].compared.difference for i in judged]
  ps = [difference.p for difference in differences]
  corrected = list(cells)
  for i, difference, p, level in zip(
    judged, differences, statistics.holm(ps), statistics.holm_levels(ps), strict=True
  ):
    # A single difference has nothing to be corrected for.
    holm = difference.interval(level) if len(judged) > 1 else None
    corrected[i] = cells[i]._replace(p_holm=p, holm=holm)
  return corrected


def _read_cell(run: Path, entry: Mapping[str, Any]) -> Cell:
  stages, controls = (_folders(run, entry.get(key)) for key in ('stage', 'control'))
  done = read_done(stages[0]) or {}
  # By default the primary figure that the stage has: mIoU of masks, balanced accuracy of cells.
  figure = entry.get('figure')
  if figure is None:
    scored = (name for name in confusion.DISPLAY_NAME if f'test/{name}' in done)
    figure = next(scored, 'miou')
  scores = _scores(stages, _full_name(figure))
  control = np.array([])
  # A row may be its own control (the baseline), which has no difference to show.
  if controls and controls != stages:
    control = _scores(controls, _full_name(figure))
  best_seen = done.get(f'test/best_seen_{figure}') if len(stages) == 1 else None
  cell = Cell(entry, figure, scores, control, best_seen)
  # Scores are paired by repetition, which makes sense only if both have done all of them.
  if not len(control) or len(control) != len(scores):
    return cell
  return cell._replace(compared=_compare(stages, controls, cell))


def _compare(stages: Sequence[Path], controls: Sequence[Path], cell: Cell) -> Compared | None:
  """The cell against its control; None where a single repetition says nothing."""
  sides = []
  for side in (stages, controls):
    folders = [folder for stage in side for folder in run_folder.seed_folders(stage)]
    # Figures of other stages (organs of volumes, say) come without confusion matrices.
    if not all((folder / 'test' / MATRICES_FILE).exists() for folder in folders):
      difference = statistics.mean_difference(cell.scores, cell.control, percent=cell.percent)
      return Compared(difference, labels_vary=False, tests_vary=False)
    sides.append([repetitions.read_repetition(folder) for folder in folders])
  score = None
  if _full_name(cell.figure).startswith('test/'):
    figure = _full_name(cell.figure).removeprefix('test/')
    score = headline.score_of(figure, sides[0][0].classes)
    sides = [headline.counted(side, figure) for side in sides]
  return repetitions.compare_scores(*sides, cell.scores, cell.control, score, cell.percent)


def _folders(run: Path, names: str | Sequence[str] | None) -> list[Path]:
  """The folders of a cell's stages; none where it names none."""
  if not names:
    return []
  return [run / name for name in ([names] if isinstance(names, str) else names)]


def _full_name(figure: str) -> str:
  """The name in done.json of a figure; one that names no split is the test's."""
  # Names of figures hold slashes themselves, as in iou/nucleus.
  return figure if figure.split('/')[0] in SPLITS else f'test/{figure}'


def _scores(stages: Sequence[Path], figure: str) -> np.ndarray:
  """A figure of each seed of each stage; empty where a stage is not done."""
  # Some seeds may be done; their mean would change with the rest, so it is not shown.
  if any(read_done(stage) is None for stage in stages):
    return np.array([])
  values = []
  for stage in stages:
    for folder in run_folder.seed_folders(stage):
      figures = read_done(folder) or {}
      if figure not in figures:
        raise UserError(f'{stage} has no figure {figure}, which config.table asks for.')
      values.append(figures[figure])
  return np.array(values)


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
  lines = ['| | ' + ' | '.join(columns) + ' |', '|---' * (len(columns) + 1) + '|']
  for row in rows:
    texts = []
    # A place without a cell stays empty.
    for column in columns:
      texts.append(_cell_text(by_place[row, column]) if (row, column) in by_place else '')
    lines.append(f'| {row} | ' + ' | '.join(texts) + ' |')
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
  return _corrected(cells)


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


def main(arguments: list[str] | None = None) -> int:
  """The program; prints the Markdown table and writes table.csv into the run."""
  parser = argparse.ArgumentParser('python -m ssl_jax.table', description=__doc__.splitlines()[0])
  parser.add_argument('run', type=listing.expand, help='folder of a run, or a ledger (.jsonl)')
  parser.add_argument('--ledger', type=Path, help='file to which the cells are written, as JSON')
  parsed = parser.parse_args(arguments)
  try:
    if parsed.run.suffix == '.jsonl':
      cells = cells_of_ledger(ledger.read(parsed.run))
      print(markdown(cells))
      _print_legend(cells)
      return 0
    cells = read_cells(parsed.run)
    command = parsed.run / run_folder.COMMAND  # a run that was started from Python has none
    shell = command.read_text().strip() if command.exists() else 'python main.py'
    replace_text(parsed.run / 'table.csv', as_csv(cells, shell))
    if parsed.ledger is not None:
      count = ledger.write(parsed.ledger, _ledger_lines(parsed.run, cells, shell))
      print(f'{parsed.ledger} holds {count} cells.', file=sys.stderr)
  except (UserError, OSError) as error:
    print(f'ssl_jax: {error}', file=sys.stderr)
    return 1
  print(markdown(cells))
  for path in draw(cells, parsed.run):
    print(f'\nPicture: {path}')
  _print_legend(cells)
  print(f'All figures: {parsed.run / "table.csv"}')
  return 0


def _print_legend(cells: Sequence[Cell]) -> None:
  # The table is printed also while a run is under way; this line says how complete it is.
  missing = sum(cell.mean is None for cell in cells)
  names = dict.fromkeys(confusion.DISPLAY_NAME.get(cell.figure, cell.figure) for cell in cells)
  what = f'test {", ".join(names)} in percent, mean over n repetitions'
  print(f'\n{len(cells) - missing} of {len(cells)} cells; {what}.')
  differences = sum(cell.compared is not None for cell in cells)
  print(
    f'[95 % interval]; Δ: to the control, paired; Holm: its interval corrected for all '
    f'{differences} differences.'
  )


if __name__ == '__main__':
  sys.exit(main())
