"""What more labels are likely to give: from the stages of a run that learned from fewer of them."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssl_jax import run_folder
from ssl_jax.evaluation import confusion
from ssl_jax.evaluation.comparison import headline, learning_curve
from ssl_jax.evaluation.comparison.learning_curve import Curve, Gain
from ssl_jax.io.run_log import read_done
from ssl_jax.parsing import parse_settings

COUNTS = ('num_labeled', 'labeled', 'draw', 'seed')
"""Fields of data sets that say how many labels are learned from, and which; a text is a folder."""

CURVE_PAGES = ('your_images', 'your_volumes')
"""Pages that train on fewer labels, too, where `:curve` follows their name."""


class Outlook(NamedTuple):
  """What more labels are likely to give, as far as a run can tell."""

  text: str  # for people
  more: int = 0
  gain: Gain | None = None
  points: tuple[tuple[float, float], ...] = ()  # numbers of labels and mean scores, if known
  command: str = ''  # by which more could be said


def outlook(stage: Path, more: int = 10) -> Outlook:
  """Returns what so many more labels are likely to give to the networks of a stage.

  Args:
    stage: folder of a training stage.
    more: labels, beside all that the run has.
  """
  figure, points = _points(stage)
  page = run_folder.read_page(stage.parent) or {}
  now = max([number for number, _ in points], default=0)
  # The last network of a page learns from all labels, also from those that others are tested on.
  last = stage.parent / run_folder.trained_stage(page)
  for folder in run_folder.seed_folders(last) if page else ():
    if (folder / run_folder.STATS).exists():
      now = max(now, run_folder.read_stats(folder).counts.get('labeled', 0))
  usable = [(n, scores) for n, scores in points if len(scores) >= learning_curve.MIN_DRAWS]
  if len(usable) < learning_curve.MIN_NUMBERS:
    return _unknown(stage.parent, len(points), more)
  curve = Curve([number for number, _ in usable], [np.array(scores) for _, scores in usable])
  gain = learning_curve.gain(curve, now, more)
  name = confusion.DISPLAY_NAME.get(figure, figure)
  text = (
    f'{more} more labels beside the {now:g} that there are would change the test {name} by about '
    f'{gain.mean:+.1f} points (95 % interval {gain.low:+.1f} to {gain.high:+.1f}). This continues '
    f'the curve of this run ({_points_text(usable)}) and is for images taken at random.'
  )
  if now + more > 2 * max(curve.numbers):
    text += ' It goes far beyond the numbers of labels that were tried: take it as a guess.'
  means = tuple((number, float(np.mean(scores))) for number, scores in usable)
  return Outlook(text, more, gain, means)


def _points_text(points: list[tuple[float, list[float]]]) -> str:
  parts = [f'{np.mean(scores):.1f} at {number:g}' for number, scores in points]
  return ', '.join(parts)


def _points(stage: Path) -> tuple[str, list[tuple[float, list[float]]]]:
  """The figure of a stage, and its scores at each number of labels that the run has tried."""
  run = stage.parent
  page = run_folder.read_page(run) or {}
  figure = ''
  points: dict[float, list[float]] = {}
  own = _without_counts(stage)
  for entry in page.get('stages') or ():
    folder = run / entry['name']
    if entry.get('run', 'train') != 'train' or not (folder / run_folder.CONFIG).exists():
      continue
    # Nothing but the number of labels may differ.
    if _without_counts(folder) != own:
      continue
    for seed in run_folder.seed_folders(folder):
      if not (seed / run_folder.STATS).exists():
        continue
      stats = run_folder.read_stats(seed)
      figure = headline.primary_metric(stats)[0]
      score = (read_done(seed) or {}).get(f'test/{figure}')
      if score is not None:
        points.setdefault(_typical(folder), []).append(float(score))
  return figure, sorted(points.items())


def _typical(stage: Path) -> float:
  """The number of labels of a stage, the mean over its seeds, as folds may differ by one."""
  counts = []
  for seed in run_folder.seed_folders(stage):
    if (seed / run_folder.STATS).exists():
      counts.append(run_folder.read_stats(seed).counts['labeled'])
  return round(float(np.mean(counts)), 1)


def _without_counts(stage: Path) -> str:
  """The settings of a stage as text, without number and draw of the labels, and seeds."""
  if not (stage / run_folder.CONFIG).exists():
    return ''
  tree: dict[str, Any] = parse_settings.to_dict(run_folder.read_settings(stage))
  data = dict(tree['data'])
  for name in COUNTS:
    # A folder's path stays: other images are another curve.
    if not isinstance(data.get(name), str):
      data.pop(name, None)
  return json.dumps({**tree, 'data': data, 'num_seeds': None, 'seed': None}, sort_keys=True)


def _unknown(run: Path, numbers: int, more: int) -> Outlook:
  """Why nothing can be said, and which command would change that."""
  have = 'one number of labels' if numbers < 2 else f'{numbers} numbers of labels'
  text = (
    f'The effect of {more} more labels cannot be estimated: the run has scores at {have}, and '
    f'{learning_curve.MIN_NUMBERS} with {learning_curve.MIN_DRAWS} repetitions each are needed.'
  )
  command = run / run_folder.COMMAND
  page = '|'.join(CURVE_PAGES)
  words = command.read_text().strip() if command.exists() else ''
  extended = re.sub(rf'(--config=\S*?(?:{page})(?:\.py)?)(:\S+)?(?=\s|$)', _with_curve, words)
  if extended != words:
    text += (
      ' This command adds them to the run (trainings on a quarter and on half of the labels) and '
      'keeps what is done:'
    )
    return Outlook(text, command=extended)
  text += (
    ' Add stages to the page that differ in the number of labels alone (data.num_labeled, or '
    'data.labeled where it is a number); docs/suggest.md shows how.'
  )
  return Outlook(text)


def _with_curve(match: re.Match[str]) -> str:
  page, argument = match.groups()
  if not argument:
    return f'{page}:curve'
  return match.group() if 'curve' in argument else f'{page}{argument},curve'
