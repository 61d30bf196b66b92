"""The search for a recipe: who goes on after a round."""

import runpy
from pathlib import Path

import pytest

from configs.lib import recipes

ROOT = Path(__file__).resolve().parents[1]
halving = runpy.run_path(str(ROOT / 'benchmarks' / 'halving.py'))


def _line(row, column, scores, control):
  found = {'table': 'Round 1', 'row': row, 'column': column, 'scores': scores}
  return found | ({} if row == 'control' else {'control_scores': control})


def test_the_mean_over_sets_decides_and_whoever_lacks_a_set_is_last():
  lines = [
    _line('control', 'a', [50.0, 52.0], None),
    _line('control', 'b', [80.0, 80.0], None),
    _line('steady', 'a', [52.0, 54.0], [50.0, 52.0]),
    _line('steady', 'b', [81.0, 81.0], [80.0, 80.0]),
    _line('wild', 'a', [60.0, 62.0], [50.0, 52.0]),
    _line('wild', 'b', [70.0, 72.0], [80.0, 80.0]),
    _line('half', 'a', [70.0, 70.0], [50.0, 52.0]),
  ]
  assert halving['rank'](lines) == [
    ('steady', pytest.approx(1.5), pytest.approx(1.0), []),
    ('wild', pytest.approx(0.5), pytest.approx(-9.0), []),
    ('half', pytest.approx(19.0), pytest.approx(19.0), ['b']),
  ]


def test_sets_of_the_search_are_reported_nowhere():
  page = runpy.run_path(str(ROOT / 'configs' / 'recipe_search.py'))
  assert not {'lisc', 'u373', 'em_vnc', 'zheng2', 'acdc'} & set(page['SETS'])
  for candidates, draws in page['ROUNDS'].values():
    assert set(candidates) <= set(recipes.RECIPES)
    assert min(draws) >= 10
  compared = {name for candidates, _ in page['ROUNDS'].values() for name in candidates}
  assert len(compared) <= 12
