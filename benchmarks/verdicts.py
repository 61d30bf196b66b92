"""How often verdicts are wrong: simulated experiments without and with an effect, and real ones.

  python benchmarks/verdicts.py [--experiments 1000]
  python benchmarks/verdicts.py --real RUN

The first simulates test images whose scores differ between repetitions, labels and images about as
those of real runs do, and judges each experiment by the rules of evaluation/statistics.py and,
beside them, by the old ones (Student's t over seeds; the bootstrap over images of one seed; every
verdict and every look at 5 %). The second is of a run of `python main.py
--config=benchmarks/null_page.py`: a method against itself with other weights and orders.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import special, stats

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ssl_jax.data.selection.draws import fold_of_draw, pool_overlap  # noqa: E402
from ssl_jax.evaluation import confusion  # noqa: E402
from ssl_jax.evaluation.comparison import repetitions  # noqa: E402
from ssl_jax.evaluation.comparison.repetitions import Repetition  # noqa: E402
from ssl_jax.evaluation.statistics import ERROR, Difference, holm, look_error  # noqa: E402
from ssl_jax.run_folder import seed_folders  # noqa: E402

OBJECT, BACKGROUND = 2000, 8000
"""Pixels of an image."""

BASE = 1.2
"""Log odds with which a pixel of an object is found."""

SEED, LABELS, IMAGE, BOTH = 0.08, 0.08, 0.35, 0.15
"""Standard deviations, in log odds, of what a method gains over its control: by seed, by draw of
labels, by test image in all repetitions, and by test image and repetition. Differences in points
then vary by 1.2 between repetitions and by 4 between images; the quickstart's by 1.7 and 6.4."""


class Design(NamedTuple):
  """How an experiment draws labels and test images."""

  name: str
  repetitions: int
  images: int  # test images; of a cross-validation all labeled images
  labels: tuple[int, int] = (0, 0)  # how many are drawn from how many; (0, 0): always the same
  fraction: float = 0.0  # of a cross-validation, held out each time


DESIGNS = (
  Design('seeds on the same labels, 20 test images', 5, 20),
  Design('10 labels of 100, 20 test images', 3, 20, (10, 100)),
  Design('10 labels of 100, 20 test images', 5, 20, (10, 100)),
  Design('10 labels of 100, 60 test images', 5, 60, (10, 100)),
  Design('15 labels of 40, 40 test images', 5, 40, (15, 40)),
  Design('cross-validation of 12 images', 4, 12, (9, 12), 0.25),
  Design('cross-validation of 12 images, twice', 8, 12, (9, 12), 0.25),
  Design('cross-validation of 40 images', 4, 40, (30, 40), 0.25),
  Design('new labels and test images each time', 3, 64),
  Design('new labels and test images each time', 5, 64),
)


class Experiment:
  """A method and its control in some repetitions; `effect` is the gain in log odds."""

  def __init__(self, design: Design, effect: float, rng: np.random.Generator):
    self._design, self._effect, self._rng = design, effect, rng
    self._fresh = design.name.startswith('new')
    pool = design.labels[1] or 1
    n = design.labels[0] or 1
    # The gain by labels is the mean over those that were drawn, with the deviation LABELS.
    self._of_labels = rng.normal(0, LABELS * np.sqrt(n), pool)
    self._of_images = rng.normal(0, IMAGE, design.images)
    self._common = rng.normal(0, 0.7, design.images)

  def repetition(self, number: int) -> tuple[Repetition, Repetition]:
    """The method and its control in the repetition of this number."""
    design, rng = self._design, self._rng
    tested = np.arange(design.images)
    overlap, of_labels, of_images = None, 0.0, self._of_images
    if design.fraction:
      tested = np.array(fold_of_draw(design.images, design.fraction, 0, number))
      trained = np.setdiff1d(np.arange(design.images), tested)
      of_labels = self._of_labels[trained].mean()
      overlap = len(tested) / len(trained)
    elif self._fresh:
      of_labels = rng.normal(0, LABELS)
      of_images = rng.normal(0, IMAGE, design.images)
      overlap = 0.0
    elif design.labels[0]:
      count, pool = design.labels
      of_labels = self._of_labels[rng.choice(pool, count, replace=False)].mean()
      overlap = pool_overlap(count, pool)
    gain = self._effect + of_labels + rng.normal(0, SEED) + of_images[tested]
    gain = gain + rng.normal(0, BOTH, len(tested))
    # What a repetition does to both cancels in the difference.
    both = BASE + self._common[tested] + rng.normal(0, 0.2)
    where = f'{number}' if design.fraction or self._fresh else ''
    names = tuple(f'{where} {i}' for i in tested)
    sides = [
      Repetition(_matrices(odds), names, names, overlap, bool(where), number)
      for odds in (both + gain, both)
    ]
    return sides[0], sides[1]

  def difference(self, count: int) -> Difference:
    """What `count` repetitions show."""
    ours, control = zip(*(self.repetition(r) for r in range(count)), strict=True)
    return repetitions.compare(ours, control, confusion.mean_iou).difference


def _matrices(log_odds: np.ndarray) -> np.ndarray:
  """Confusion matrices [n, 2, 2] of images in which objects are found with these log odds."""
  found = np.round(OBJECT * special.expit(log_odds)).astype(int)
  wrong = (OBJECT - found) // 10
  return np.stack(
    [
      np.stack([BACKGROUND - wrong, wrong], -1),
      np.stack([OBJECT - found, found], -1),
    ],
    -2,
  )


def true_difference(design: Design, effect: float) -> float:
  """The mean difference over labels, seeds and images that no experiment has seen, in points."""
  rng = np.random.default_rng(99)
  means = []
  # Of as many test images as the design has, because pooled scores depend on their number.
  test = design.images if not design.fraction else round(design.images * design.fraction)
  fresh = Design('new', 1, test)
  for _ in range(3000):
    sides = Experiment(fresh, effect, rng).repetition(0)
    scores = [float(confusion.mean_iou(side.matrices.sum(0))) for side in sides]
    means.append(scores[0] - scores[1])
  return float(np.mean(means))


class Tally:
  """Shares of experiments, in percent."""

  def __init__(self) -> None:
    self._held: dict[str, list[bool]] = {}

  def add(self, name: str, happened: bool) -> None:
    """Counts an experiment in which something did or did not happen."""
    self._held.setdefault(name, []).append(bool(happened))

  def percent(self, name: str) -> str:
    """The share of what happened; '-' if nothing was counted."""
    return f'{100 * np.mean(self._held[name]):.1f}' if name in self._held else '-'


def _old(differences: Sequence[float]) -> bool:
  """Whether the old rule gave a verdict on these differences by seed."""
  return len(differences) > 1 and stats.ttest_1samp(differences, 0).pvalue < 0.05


def judge(design: Design, count: int) -> Tally:
  """Simulates experiments of a design; returns coverage, false verdicts and power."""
  tally = Tally()
  rng = np.random.default_rng(7)
  for effect in (0.0, 0.15):
    truth = true_difference(design, effect)
    # The null is exact only up to the curvature of the score; it is taken off.
    for _ in range(count):
      experiment = Experiment(design, effect, rng)
      sides = [experiment.repetition(r) for r in range(design.repetitions)]
      ours, control = zip(*sides, strict=True)
      found = repetitions.compare(ours, control, confusion.mean_iou).difference
      single = [
        float(confusion.mean_iou(a.matrices.sum(0)) - confusion.mean_iou(b.matrices.sum(0)))
        for a, b in sides
      ]
      tally.add('coverage', found.low <= truth <= found.high)
      half = stats.t.ppf(0.975, len(single) - 1) * np.std(single, ddof=1) / np.sqrt(len(single))
      tally.add('old coverage', abs(np.mean(single) - truth) <= half)
      kind = 'power' if effect else 'false'
      allowed = look_error(1)
      shown = found.p_beyond(truth if not effect else 0.0, 'two') < allowed
      tally.add(kind, shown)
      tally.add(f'old {kind}', _old(np.array(single) - (0.0 if effect else truth)))
  return tally


def looks_and_tables(count: int) -> Tally:
  """False verdicts of up to three looks, and of tables of six methods, without any effect."""
  tally = Tally()
  rng = np.random.default_rng(8)
  design = Design('10 labels of 100, 20 test images', 3, 20, (10, 100))
  for _ in range(count):
    experiment = Experiment(design, 0.0, rng)
    sides = [experiment.repetition(r) for r in range(12)]
    new = old = False
    for look, r in enumerate((3, 6, 12), start=1):
      ours, control = zip(*sides[:r], strict=True)
      found = repetitions.compare(ours, control, confusion.mean_iou).difference
      new |= found.p < look_error(look)
      old |= _old([_points(a) - _points(b) for a, b in sides[:r]])
    tally.add('looks', new)
    tally.add('old looks', old)
    # Six methods without effect against one control.
    cells, old_cells = [], []
    for _ in range(6):
      method = Experiment(design, 0.0, rng)
      pairs = [method.repetition(r) for r in range(5)]
      ours, control = zip(*pairs, strict=True)
      cells.append(repetitions.compare(ours, control, confusion.mean_iou).difference)
      old_cells.append([_points(a) - _points(b) for a, b in pairs])
    tally.add('table', min(holm([cell.p for cell in cells])) < ERROR)
    tally.add('old table', any(map(_old, old_cells)))
  return tally


def _points(repetition: Repetition) -> float:
  return float(confusion.mean_iou(repetition.matrices.sum(0)))


def real_nulls(run: Path, count: int, size: int) -> Tally:
  """Verdicts on a method against itself: `count` draws of `size` repetitions of a run.

  Which of both networks is called the method is drawn as well, so that the truth is 0.
  """
  tally = Tally()
  rng = np.random.default_rng(9)
  sides = []
  for stage in ('one', 'other'):
    sides.append([repetitions.read_repetition(folder) for folder in seed_folders(run / stage)])
  for _ in range(count):
    chosen = rng.choice(len(sides[0]), size, replace=False)
    pairs = [(sides[0][i], sides[1][i]) for i in chosen]
    pairs = [pair if rng.random() < 0.5 else pair[::-1] for pair in pairs]
    ours, control = zip(*pairs, strict=True)
    found = repetitions.compare(ours, control, confusion.mean_iou).difference
    tally.add('coverage', found.low <= 0 <= found.high)
    tally.add('false', found.p < look_error(1))
    tally.add('old false', _old([_points(a) - _points(b) for a, b in pairs]))
  return tally


def _row(cells: Sequence[object]) -> None:
  print('| ' + ' | '.join(map(str, cells)) + ' |', flush=True)


def _table(columns: Sequence[str]) -> Callable[[Sequence[object]], None]:
  _row(columns)
  print('|---' * len(columns) + '|')
  return _row


def main() -> None:
  """Prints the tables of docs/reproducibility.md."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--experiments', type=int, default=1000)
  parser.add_argument('--real', type=Path, help='run of null_page.py')
  arguments = parser.parse_args()
  if arguments.real:
    row = _table(['repetitions', 'coverage', 'false verdicts', 'old rule'])
    for size in (3, 5, 8):
      tally = real_nulls(arguments.real, arguments.experiments, size)
      row([size, *map(tally.percent, ('coverage', 'false', 'old false'))])
    return
  row = _table(
    ['design', 'repetitions', 'coverage', '(old)', 'false', '(old)', 'effect shown', '(old)']
  )
  names = ('coverage', 'old coverage', 'false', 'old false', 'power', 'old power')
  for design in DESIGNS:
    tally = judge(design, arguments.experiments)
    row([design.name, design.repetitions, *map(tally.percent, names)])
  print()
  tally = looks_and_tables(arguments.experiments)
  row = _table(['false verdicts', 'now', 'old rule'])
  row(['in up to three looks (3, 6, 12 repetitions)', *map(tally.percent, ('looks', 'old looks'))])
  row(['in a table of six methods, 5 repetitions', *map(tally.percent, ('table', 'old table'))])


if __name__ == '__main__':
  main()
