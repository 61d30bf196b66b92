"""Which candidates of a search go on: the better half, by the mean over data sets.

    python benchmarks/halving.py results/recipe_search.jsonl

The ledger is that of configs/recipe_search.py. A candidate's figure is the mean over its sets of
the mean difference to the control; its worst set is shown beside it. A candidate that lacks a set
that another has is named and does not go on.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jax.reports import ledger


def rank(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, float, float, list[str]]]:
  """Ranks the candidates of a round, the best first.

  Args:
    lines: of the ledger, of one table.

  Returns:
    Name, mean difference over the sets, the smallest one, and the sets that it lacks.
  """
  sets = list(dict.fromkeys(line['column'] for line in lines))
  differences: dict[str, dict[str, float]] = {}
  for line in lines:
    if 'control_scores' not in line or line['row'] == 'control':
      continue
    gain = float(np.mean(line['scores']) - np.mean(line['control_scores']))
    differences.setdefault(line['row'], {})[line['column']] = gain
  ranked = []
  for row, of_set in differences.items():
    gains = list(of_set.values())
    missing = [name for name in sets if name not in of_set]
    ranked.append((row, float(np.mean(gains)), min(gains), missing))
  # Those that lack a set come last, whatever they have.
  return sorted(ranked, key=lambda one: (bool(one[3]), -one[1]))


def main() -> None:
  """Prints the ranking of each round, and who goes on."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
  parser.add_argument('ledger', type=Path)
  lines = ledger.read(parser.parse_args().ledger)
  for table in dict.fromkeys(line['table'] for line in lines):
    ranked = rank([line for line in lines if line['table'] == table])
    print(f'{table}: mean difference over the sets, and on the worst of them')
    for row, mean, worst, missing in ranked:
      lacks = f'  lacks {", ".join(missing)}' if missing else ''
      print(f'  {row:20} {mean:+6.2f} {worst:+6.2f}{lacks}')
    whole = [row for row, _, _, missing in ranked if not missing]
    print(f'go on: {", ".join(whole[: math.ceil(len(ranked) / 2)])}')


if __name__ == '__main__':
  main()
