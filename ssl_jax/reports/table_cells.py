"""The cells of a run's table: the scores that stand in each, and its difference to its control."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssl_jax import run_folder
from ssl_jax.errors import UserError
from ssl_jax.evaluation import confusion, statistics
from ssl_jax.evaluation.comparison import headline, repetitions
from ssl_jax.evaluation.comparison.repetitions import Compared
from ssl_jax.evaluation.evaluate import MATRICES_FILE
from ssl_jax.io.run_log import read_done

SPLITS = ('test', 'val', 'train', 'complete', 'removed', 'kept')
"""How figures in done.json begin that are not the test's."""

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
  return corrected([_read_cell(run, entry) for entry in entries])


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


def corrected(cells: Sequence[Cell]) -> list[Cell]:
  """Returns the cells with their differences corrected for all of the page (Holm)."""
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
