"""The benchmark of speeds writes what it measures."""

import json
import sys

import pytest
from conftest import ROOT


@pytest.fixture
def benchmark(monkeypatch):
  monkeypatch.syspath_prepend(str(ROOT / 'benchmarks'))
  import run

  yield run
  # Another test may mean another module by these names.
  for name in ('run', 'run_parts', 'step'):
    sys.modules.pop(name, None)


def test_parts_are_written_as_json_and_as_tables(benchmark, tmp_path):
  benchmark.main([f'--out={tmp_path}', '--parts=folder,doors', '--tiny'])
  written = json.loads((tmp_path / 'benchmarks.json').read_text())
  # In the order of the parts, whatever the order of the words.
  assert list(written['parts']) == ['doors', 'folder']
  assert written['machine']['jax']
  for row in written['parts']['doors']:
    # A door that imported JAX would hold more than 150.
    assert 5 < row['peak_mib'] < 100, row
  alone, listed = written['parts']['folder']
  assert listed['peak_mib'] > 0.9 * alone['peak_mib']
  table = (tmp_path / 'benchmarks.md').read_text()
  assert '| 50 images of 64 x 64 |' in table
  assert '## doors' in table


@pytest.mark.slow  # ten programs
def test_known_sizes_need_at_most_four_programs(benchmark):
  import run_parts

  unknown, known = run_parts.many_sizes(6)
  assert known['programs'] <= 4
  assert known['programs'] <= unknown['programs'] <= 6


def test_a_row_names_the_fastest_form_of_the_rival(benchmark, monkeypatch):
  import step

  seconds = {'jax': [0.02, 0.03, 0.04], 'torch': [0.05] * 3, 'torch.compile': [0.01, 0.02, 0.04]}

  def measured(asked, libraries):
    first = dict.fromkeys(libraries, 1.0)
    return {'first': first, 'times': {name: seconds[name] for name in libraries}, 'gib': 0.5}

  monkeypatch.setattr(step, 'rivals', lambda compiled=False: ['torch', 'torch.compile'])
  monkeypatch.setattr(step, 'in_a_process', measured)
  row = step.figures(step.Asked('unet', 'predict'), compiled=True)
  assert row['torch'] == 'torch.compile'
  assert row['ms'] == pytest.approx(30)
  # Step by step: 2, 1.5 and 1.
  assert (row['ratio'], row['ratio_least'], row['ratio_most']) == pytest.approx((1.5, 1.0, 2.0))
  assert step.text(row)[-3:] == ['20 (compiled)', '0.50', '1.50 (1.00 to 2.00)']


def test_an_unknown_part_is_named(benchmark, tmp_path, capsys):
  with pytest.raises(SystemExit):
    benchmark.main([f'--out={tmp_path}', '--parts=steps,speed'])
  assert 'there is no part speed; there are doors, start' in capsys.readouterr().err
