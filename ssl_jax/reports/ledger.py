"""Ledgers: files of JSON lines that hold what a published table was computed from.

A line is a cell: where it stands, the scores of all repetitions and of the control's, what the
interval needs beside them, and how to make it again. `python -m ssl_jax.table RUN --ledger FILE`
writes one, and `python -m ssl_jax.table FILE` prints its table.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jax import run_folder
from ssl_jax.errors import UserError
from ssl_jax.evaluation import statistics
from ssl_jax.evaluation.comparison.repetitions import Compared
from ssl_jax.io.run_log import replace_text
from ssl_jax.parsing import stage_list
from ssl_jax.running import provenance
from ssl_jax.stages.comparing import looks

DIGITS = 4
"""Of a score in percent."""


def line_of(
  run: Path,
  entry: Mapping[str, Any],
  figure: str,
  scores: np.ndarray,
  control: np.ndarray,
  compared: Compared | None,
  command: str,
) -> dict[str, Any]:
  """Returns the line of a cell.

  Args:
    run: folder of the run.
    entry: the cell of config.table.
    figure: which it shows.
    scores: by repetition.
    control: likewise; empty without a control.
    compared: the two, if there is a control.
    command: that makes the cell.
  """
  line = dict(entry)
  line['figure'] = figure
  line['scores'] = _rounded(scores)
  line['seeds'] = _seeds(run, entry['stage'])
  if compared is not None:
    difference = compared.difference
    line['control_scores'] = _rounded(control)
    line['labels_vary'] = compared.labels_vary
    line['tests_vary'] = compared.tests_vary
    line['overlap'] = round(difference.overlap, 6)
    line['image_variance'] = round(difference.image_variance, 6)
    line['units'] = difference.units
    comparison = f'{entry["stage"]} against {entry.get("control")}'
    line['looks'] = max(len(looks.read_looks(run, comparison)), 1)
  line['command'] = command
  # The last entry is the process that ended the run.
  entries = provenance.read(run)
  line['provenance'] = entries[-1] if entries else None
  return line


def _rounded(scores: Sequence[float] | np.ndarray) -> list[float]:
  return [round(float(score), DIGITS) for score in scores]


def _seeds(run: Path, stages: str | Sequence[str]) -> list[int]:
  """The seeds of the stages of a cell, one after another."""
  page = run_folder.read_page(run)
  assert page is not None  # the caller has read its table
  specs = {spec.name: spec.settings for spec in stage_list.resolve(page)}
  found = []
  for name in [stages] if isinstance(stages, str) else stages:
    settings = specs[name]
    found += range(settings.seed, settings.seed + settings.num_seeds)
  return found


def write(path: Path, lines: Sequence[Mapping[str, Any]]) -> int:
  """Puts lines into a ledger, in place of those of the same cells; returns how many it now holds.

  Raises:
    UserError: if the file is there and is no ledger.
  """
  kept = {_key(line): dict(line) for line in (read(path) if path.exists() else [])}
  kept |= {_key(line): dict(line) for line in lines}
  replace_text(path, ''.join(json.dumps(line) + '\n' for line in kept.values()))
  return len(kept)


def _key(line: Mapping[str, Any]) -> tuple:
  return (line['table'], line['row'], line['column'], line['figure'])


def read(path: Path) -> list[dict[str, Any]]:
  """Returns the lines of a ledger.

  Raises:
    UserError: if it cannot be read, or is none.
  """
  lines = []
  try:
    text = path.read_bytes()
  except OSError as error:
    raise UserError(f'{path} cannot be read ({error.strerror}); check the path.') from error
  for number, one in enumerate(text.splitlines(), start=1):
    try:
      line = json.loads(one)
      _key(line)
    except (ValueError, KeyError, TypeError) as error:
      raise UserError(
        f'{path}, line {number} is no line of a ledger; write one with python -m ssl_jax.table RUN '
        f'--ledger {path}.'
      ) from error
    lines.append(line)
  return lines


def compared_of(line: Mapping[str, Any], percent: bool) -> Compared | None:
  """Returns what a line says of its cell and the control; None where it has no control."""
  if 'control_scores' not in line:
    return None
  difference = statistics.mean_difference(
    np.array(line['scores']),
    np.array(line['control_scores']),
    overlap=line['overlap'],
    image_variance=line['image_variance'],
    units=line['units'],
    percent=percent,
  )
  return Compared(difference, line['labels_vary'], line['tests_vary'])
