"""The folder of suggestions: images that the networks of a run are unsure of.

They are unlike each other and unlike the labeled ones, and are copied beside their predicted masks,
to be corrected in a label tool. A page shows them, and what more labels are likely to give.
"""

import argparse
import csv
import io
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from ssl_jax import build, parallel, predict
from ssl_jax.data.selection import farthest_first
from ssl_jax.data.selection.farthest_first import Chosen
from ssl_jax.errors import UserError
from ssl_jax.evaluation import report_figures
from ssl_jax.evaluation.comparison import label_gain
from ssl_jax.evaluation.comparison.label_gain import Outlook
from ssl_jax.inference import candidates, run_networks
from ssl_jax.inference import committee as committees
from ssl_jax.inference.candidates import Candidates, Description
from ssl_jax.inference.committee import Committee
from ssl_jax.io.folders import lock
from ssl_jax.io.run_log import replace_text
from ssl_jax.reports import html_pages, report_images

TABLE = 'suggestions.csv'
PAGE = 'suggestions.html'
TO_LABEL = 'to_label'
"""In the folder of suggestions: images/ and masks/ as a run reads labeled images."""

PREDICTIONS = 'predictions'
"""In the folder of suggestions: what `predict` writes for the chosen images."""

MORE = 10
"""Labels whose use is estimated."""

COLUMNS = ('rank', 'image', 'uncertainty', 'above_percent', 'distance', 'nearest', 'score')


def suggest(options: argparse.Namespace) -> int:
  """Writes suggestions into a folder; returns the exit code, 1 if any image could not be read.

  Args:
    options: what `suggest` was called with.

  Raises:
    UserError: if the run has no network yet, there are no images, or the folder is in use.
  """
  logging.set_verbosity(logging.FATAL)  # checkpointing warns that it may not write
  build.keep_compiled()
  parallel.check_devices()
  outlook, refused = _write(options.run, options.unlabeled, options.n, options.out)
  print(f'Suggestions: {options.out / PAGE} and {options.out / TABLE}')
  print(f'To correct: {options.out / TO_LABEL} (images/ and masks/)')
  print(outlook.text)
  if outlook.command:
    print(f'  {outlook.command}')
  for sentence in refused:
    print(f'Skipped: {sentence}', file=sys.stderr)
  return 1 if refused else 0


def _write(run: Path, unlabeled: Path, count: int, out: Path) -> tuple[Outlook, list[str]]:
  """Writes the folder; returns what more labels may give, and sentences about files left out."""
  stage = committees.find_stage(run)
  committee = committees.load(stage)
  pool = Candidates(unlabeled, committee)
  _check_out(out, unlabeled)
  try:
    out.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(f'--out={out} cannot be made ({error.strerror}); give another one.') from error
  with lock.locked(out):
    described = pool.describe(out, run_networks.find(stage).digest())
    if not described:
      raise UserError('\n'.join(pool.refused))
    known, warnings = _labeled(committee)
    if len(described) <= count:
      warnings.append(f'There are only {len(described)} to choose from.')
    chosen = _choose(list(described.values()), known, count)
    indices = list(described)
    files = [pool.files[indices[one.index]] for one in chosen]
    if len(chosen) < min(count, len(described)):
      warnings.append('The others are copies of labeled or chosen ones and were left out.')
    outlook = label_gain.outlook(stage, MORE)
    rows = _rows(chosen, files, list(described.values()), known)
    _prepare_to_label(run, files, out, committee.stats.instances is not None)
    contents = {
      'name': run.resolve().name,
      'pictures': _pictures(pool, rows, files),
      'candidates': len(described),
      'labeled': len(known),
      'unit': pool.kind.name,
      'outlook': outlook,
      'chart': _chart(outlook),
      'measure': _measure(committee),
      'warnings': warnings,
      'next_step': _next_step(out),
      'classes': html_pages.legend(committee.stats.classes),
    }
    replace_text(out / PAGE, html_pages.render('suggestions.html', contents))
    # Last, because it marks the folder as finished.
    replace_text(out / TABLE, _csv(rows))
  for warning in warnings:
    print(f'Note: {warning}')
  print(_measure(committee))
  return outlook, pool.refused


def _check_out(out: Path, unlabeled: Path) -> None:
  """Raises UserError where suggestions may not be written."""
  if out.is_file():
    raise UserError(f'--out={out} is a file; give a folder.')
  if (out / TABLE).exists():
    raise UserError(f'--out={out} holds suggestions already, perhaps corrected; give another one.')
  if not out.is_dir():
    return
  if out.samefile(unlabeled):
    raise UserError(f'--out={out} is the folder of the unlabeled images; give another one.')
  # What an interrupted call left is ours.
  ours = {candidates.JOURNAL, lock.FILE, PAGE, TO_LABEL, PREDICTIONS}
  names = {path.name for path in out.iterdir() if not path.name.startswith('.')}
  begun = candidates.JOURNAL in names
  if names - ours or (names - {lock.FILE} and not begun):
    raise UserError(f'--out={out} holds other files; give a new or empty folder.')


def _labeled(committee: Committee) -> tuple[list[Description], list[str]]:
  """Descriptions of the labeled images; none, and a warning, where they are gone."""
  try:
    return candidates.labeled(committee), []
  except UserError as error:
    first = str(error).splitlines()[0]
    return [], [
      f'The labeled images of the run could not be read ({first}), so suggestions may resemble '
      'them.'
    ]


def _choose(
  described: Sequence[Description], known: Sequence[Description], count: int
) -> list[Chosen]:
  """Chooses among described images; positions of `nearest` count the labeled ones first."""
  together = [*known, *described]
  features = farthest_first.standardize(
    [
      np.array([one.intensities for one in together]),
      np.array([one.shares for one in together]),
    ]
  )
  uncertainty = np.array([one.uncertainty for one in described])
  return farthest_first.choose(features[len(known) :], uncertainty, features[: len(known)], count)


def _rows(
  chosen: Sequence[Chosen],
  files: Sequence[Sequence[Path]],
  described: Sequence[Description],
  known: Sequence[Description],
) -> list[dict[str, Any]]:
  """The reasons of each suggestion."""
  together = [*known, *described]
  all_values = np.array([one.uncertainty for one in described])
  rows = []
  for rank, (one, paths) in enumerate(zip(chosen, files, strict=True), start=1):
    others = max(len(described) - 1, 1)
    rows.append(
      {
        'rank': rank,
        'image': ' '.join(path.name for path in paths),
        'uncertainty': one.uncertainty,
        'above_percent': 100 * float((all_values < one.uncertainty).sum()) / others,
        'distance': one.distance,
        'nearest': together[one.nearest].name if one.nearest >= 0 else '',
        'score': one.score,
      }
    )
  return rows


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
  text = io.StringIO()
  table = csv.writer(text, lineterminator='\n')
  table.writerow(COLUMNS)
  for row in rows:
    values = [row[name] for name in COLUMNS]
    # Empty rather than NaN, which spreadsheets do not know.
    shown = [_number(value) if isinstance(value, float) else value for value in values]
    table.writerow(shown)
  return text.getvalue()


def _number(value: float) -> str:
  return '' if math.isnan(value) else f'{value:.4g}'


def _pictures(
  pool: Candidates, rows: Sequence[Mapping[str, Any]], files: Sequence[Sequence[Path]]
) -> list[dict[str, str]]:
  """The chosen images as HTML shows them; of a volume the slice of most uncertainty."""
  pictures = []
  for row, paths in zip(rows, files, strict=True):
    image, opinion = pool.look(paths)
    mask = opinion.probs.argmax(-1).astype(np.uint8)
    uncertainty = opinion.uncertainty
    if image.ndim == 4:
      z = int(uncertainty.mean((1, 2)).argmax())
      image, mask, uncertainty = image[z], mask[z], uncertainty[z]
    shown, layer = report_images.with_mask(image, mask)
    others = f'{row["above_percent"]:.0f} % of' if row['above_percent'] < 100 else 'all'
    reason = f'uncertainty {row["uncertainty"]:.3g} bits, more than {others} the others have'
    if row['nearest']:
      reason += f'; distance {row["distance"]:.2f} to the nearest, {row["nearest"]}'
    heat = report_images.heat(image, uncertainty)
    pictures.append(
      {'name': row['image'], 'reason': reason, 'image': shown, 'mask': layer, 'heat': heat}
    )
  return pictures


def _prepare_to_label(
  run: Path, files: Sequence[Sequence[Path]], out: Path, instances: bool
) -> None:
  """Copies images into to_label/images, and their predicted masks into to_label/masks."""
  images, masks = out / TO_LABEL / 'images', out / TO_LABEL / 'masks'
  for folder in (images, masks):
    folder.mkdir(parents=True, exist_ok=True)
  for path in (path for paths in files for path in paths):
    shutil.copy2(path, images / path.name)
  predictions = out / PREDICTIONS
  if predict.main([f'--run={run}', f'--images={images}', f'--out={predictions}']):
    raise UserError('Not all masks could be predicted; see the lines above.')
  # A mask of objects holds their ids, which stand beside the masks of body and border.
  predicted = predictions / ('instances' if instances else 'masks')
  for path in predicted.iterdir():
    if path.suffix != '.csv':
      shutil.copy2(path, masks / path.name)


def _measure(committee: Committee) -> str:
  """What the uncertainty is, which depends on how many networks there are."""
  count = len(committee.members)
  if count == 1:
    return (
      'Uncertainty is the mean entropy of one network: the run has no second one that could '
      'disagree with it, so blurred borders count as well.'
    )
  return f'Uncertainty is the disagreement of the {count} networks of {committee.stage.name}.'


def _next_step(out: Path) -> str:
  folder = out / TO_LABEL
  return (
    f'Correct the masks in {folder}/masks in a label tool (docs/viewers.md), move them and the '
    f'images beside them into your folder of labeled images, and train again.'
  )


def _chart(outlook: Outlook) -> str:
  """The gain of more labels and its interval; empty where nothing is known."""
  if outlook.gain is None:
    return ''
  gain = outlook.gain
  bar = report_figures.Bar(f'{outlook.more} more labels', gain.mean, gain.low, gain.high)
  return report_figures.intervals([bar], 'difference, points')
