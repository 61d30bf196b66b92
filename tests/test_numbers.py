"""Each decimal number in README and in two pages of docs stands in results/, or follows from it."""

import csv
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from ssl_jax.evaluation.comparison.verdicts import p_text
from ssl_jax.reports import ledger, result_tables

ROOT = Path(__file__).resolve().parents[1]
rank = runpy.run_path(str(ROOT / 'benchmarks' / 'halving.py'))['rank']

PAGES = ('README.md', 'docs/results.md', 'docs/accelerators.md')

NO_RESULTS = {
  '3.11',  # of Python
  '0.025',  # p of a first look
  '0.34',  # steps a second, of the command that stands below it
}
"""Numbers that are no results."""


def forms(value: float) -> set[str]:
  """How a figure may be written: with up to two decimals, with a sign or without."""
  found = set()
  for digits in (1, 2, 3):
    # A ledger's own figures are rounded, after which a 5 at the end may go either way.
    for close in (value - 0.0049, value, value + 0.0049) if digits == 1 else (value,):
      # A difference below 0 needs its sign, one above 0 may have it.
      found |= {f'{close:.{digits}f}', f'{close:+.{digits}f}'}
  return found


def known_numbers() -> set[str]:
  """All figures that the ledgers hold, or that tables compute from them."""
  known = set()
  for path in sorted((ROOT / 'results').glob('*.jsonl')):
    lines = ledger.read(path)
    for line, cell in zip(lines, result_tables.cells_of_ledger(lines), strict=True):
      figures = [*line['scores'], *line.get('extra', {}).values()]
      # A control of its own, as that of equal minutes, has no other line.
      control = line.get('control_scores') or []
      figures += [*control, *([np.mean(control)] if control else [])]
      figures += [*(cell.mean or ()), *(cell.difference or ()), *(cell.holm or ())]
      if cell.compared is not None:
        known.add(p_text(cell.compared.difference.p).split()[-1])
      for figure in figures:
        known |= forms(figure)
  # Of the search, the means over its sets as well.
  search = ledger.read(ROOT / 'results' / 'recipe_search.jsonl')
  for name in {line['table'] for line in search}:
    for _, mean, worst, _ in rank([line for line in search if line['table'] == name]):
      known |= forms(mean) | forms(worst)
  for path in sorted((ROOT / 'results').glob('*.csv')):
    with path.open(newline='') as file:
      for row in csv.reader(file):
        for field in row:
          known |= set(re.findall(r'[+-]?\d+\.\d+', field))
  return known


def written_numbers(text: str) -> set[str]:
  """The decimal numbers of a page, without code, addresses and published figures."""
  text = re.sub(r'^(    |\t).*$', '', text, flags=re.MULTILINE)
  text = re.sub(r'```.*?```|`[^`]*`|\]\([^)]*\)', '', text, flags=re.DOTALL)
  return set(re.findall(r'(?<![\w.])[+-]?\d+\.\d+(?![\w.]*\d)', text))


@pytest.mark.parametrize('page', PAGES)
def test_each_number_has_its_line_in_results(page):
  missing = written_numbers((ROOT / page).read_text()) - known_numbers() - NO_RESULTS
  assert not missing, f'{page}: {sorted(missing)} stand in no file of results/'


def test_a_number_without_a_line_is_found():
  assert written_numbers('a gain of +12.34 [-0.5, 1.25] over `1.5` and [x](y1.2)') == {
    '+12.34',
    '-0.5',
    '1.25',
  }
  assert '77.77' not in known_numbers()


def test_ledgers_name_the_command_of_every_line():
  for path in (ROOT / 'results').glob('*.jsonl'):
    for line in ledger.read(path):
      assert line['command'], (path, line)
      # Folders of the machine that ran it are named FOLDER.
      assert not re.search(r'(^|[=\s])/', line['command']), (path, line['command'])
