"""Tables of many cells, and doing a part of a long list of stages."""

import csv
import json

import jax
import numpy as np
import pytest
from conftest import tiny_page

from ssl_jax import table
from ssl_jax.errors import UserError
from ssl_jax.evaluation import statistics
from ssl_jax.reports import ledger, result_tables, table_cells
from ssl_jax.run import run


def grid():
  """Two cells and their control, two steps each, on two seeds."""
  config = tiny_page()
  config.unlock()
  config.update(steps=2, num_seeds=2)
  stages = [dict(name='control', methods=dict(supervised=dict()))]
  stages += [{'name': f't{t}', 'methods.fixmatch.threshold': t / 100} for t in (50, 90)]
  at = dict(table='One', row='FixMatch', control='control')
  cells = [
    dict(stage=f't{t}', column=f'{t} %', published=t, only=f'control,t{t}', **at) for t in (50, 90)
  ]
  cells.append(dict(at, row='SupOnly', column='50 %', stage='control', only='control'))
  config.stages, config.table = tuple(stages), tuple(cells)
  return config


@pytest.fixture(scope='module')
def half(tmp_path_factory):
  folder = tmp_path_factory.mktemp('grid') / 'run'
  assert run(grid(), folder, only='t50,t9*', command='python main.py --config=x.py') is None
  assert run(grid(), folder, only='control') is not None
  (folder / 't90' / 'done.json').unlink()
  return folder


def lines(folder):
  with (folder / 'table.csv').open(newline='') as file:
    return {line['stage']: line for line in csv.DictReader(file)}


def test_a_table_says_what_is_known_so_far(half, capsys):
  assert table.main([str(half)]) == 0
  said = capsys.readouterr().out
  assert '**One**' in said
  assert '| | 50 % | 90 % |' in said
  assert 'published 90.00, not run' in said
  assert '2 of 3 cells' in said
  found = lines(half)
  scores = [
    json.loads((half / 't50' / f'seed_{seed}' / 'done.json').read_text())['test/miou']
    for seed in (0, 1)
  ]
  control = [
    json.loads((half / 'control' / f'seed_{seed}' / 'done.json').read_text())['test/miou']
    for seed in (0, 1)
  ]
  assert float(found['t50']['mean']) == pytest.approx(np.mean(scores), abs=1e-3)
  difference = np.subtract(scores, control)
  expected = statistics.mean_difference(np.array(scores), np.array(control), units=8)
  assert float(found['t50']['difference']) == pytest.approx(difference.mean(), abs=1e-3)
  # Synthetic images are made anew for each repetition, so nothing is added for shared ones.
  assert float(found['t50']['difference_low']) == pytest.approx(expected.low, abs=2e-3)
  assert float(found['t50']['p']) == pytest.approx(expected.p, abs=1e-4)
  # A single difference needs no correction.
  assert found['t50']['p_holm'] == found['t50']['p']
  assert found['t50']['command'] == "python main.py --config=x.py --only='control,t50'"
  assert found['t90']['mean'] == ''
  assert found['control']['difference'] == ''


def test_a_pattern_that_names_no_stage_is_refused(half):
  with pytest.raises(UserError, match='--only=x is the name of no stage'):
    run(grid(), half, only='x')


def test_a_part_that_needs_another_is_refused(tmp_path):
  config = tiny_page()
  with pytest.raises(UserError, match='verdict needs fixmatch, which is not done; do it first'):
    run(config, tmp_path / 'run', only='verdict')
  assert not (tmp_path / 'run').exists()


def test_cells_of_unknown_stages_are_refused(tmp_path):
  config = grid()
  config.table = (dict(table='One', row='a', column='b', stage='nobody', only='*'),)
  with pytest.raises(UserError, match="table: stage='nobody' is the name of no stage"):
    run(config, tmp_path)


def test_a_run_without_a_table_shows_what_it_compares(finished, page, tmp_path, capsys):
  assert table.main([str(finished)]) == 0
  said = capsys.readouterr().out
  assert '| control | **' in said
  assert '| fixmatch | **' in said
  assert 'Δ' in said
  assert table.main([str(tmp_path)]) == 1
  assert 'is no run' in capsys.readouterr().err
  page.stages = (dict(name='only'),)
  page.update(steps=1, eval_every=1)
  run(page, tmp_path / 'one')
  assert table.main([str(tmp_path / 'one')]) == 1
  assert 'has no table, nor stages that compare' in capsys.readouterr().err


def test_a_ledger_holds_what_its_table_needs(half, tmp_path, capsys):
  file = tmp_path / 'results.jsonl'
  assert table.main([str(half), '--ledger', str(file)]) == 0
  of_run = capsys.readouterr().out
  assert table.main([str(file)]) == 0
  of_ledger = capsys.readouterr().out
  row = next(line for line in of_run.splitlines() if line.startswith('| FixMatch'))
  # The cell that is not done is not in the ledger.
  assert row.split(' | ')[1] in of_ledger
  (line,) = [one for one in ledger.read(file) if one['stage'] == 't50']
  assert line['seeds'] == [0, 1]
  assert (line['labels_vary'], line['tests_vary']) == (True, True)
  assert line['command'] == "python main.py --config=x.py --only='control,t50'"
  made_with = line['provenance']
  assert made_with['versions']['jax'] == jax.__version__
  assert made_with['machine']['cores'] > 0
  # Cells that are there are replaced, others stay.
  other = dict(line, row='other', scores=[1.0, 2.0])
  assert ledger.write(file, [other, dict(line, scores=[5.0, 6.0])]) == 3
  assert [one['scores'] for one in ledger.read(file) if one['stage'] == 't50'] == [
    [5.0, 6.0],
    [1.0, 2.0],
  ]


def test_a_file_that_is_no_ledger_is_refused(half, tmp_path, capsys):
  file = tmp_path / 'x.jsonl'
  file.write_text('{"a": 1}\n')
  assert table.main([str(file)]) == 1
  assert f'{file}, line 1 is no line of a ledger' in capsys.readouterr().err
  assert table.main([str(half), '--ledger', str(file)]) == 1
  assert file.read_text() == '{"a": 1}\n'
  assert table.main([str(tmp_path / 'none.jsonl')]) == 1
  assert 'cannot be read' in capsys.readouterr().err


def test_a_table_of_numbers_is_drawn_and_may_show_any_figure(half, capsys):
  """Columns 50 and 90 instead of '50 %' and '90 %', and the Dice instead of the mIoU."""
  cells = [
    cell._replace(entry=dict(cell.entry, column=cell.entry['column'].split()[0]))
    for cell in table_cells.read_cells(half)
  ]
  assert result_tables.draw(cells, half) == []  # one column is done
  done = [cell for cell in cells if cell.mean is not None]
  other = done[0]._replace(entry=dict(done[0].entry, column='90'))
  assert result_tables.draw([*done, other], half) == [half / 'table_1.png']
  assert (half / 'table_1.png').stat().st_size > 5000

  config = json.loads((half / 'config.json').read_text())
  for cell in config['table']:
    cell['figure'] = 'dice'
  before = (half / 'config.json').read_text()
  (half / 'config.json').write_text(json.dumps(config))
  cell = next(c for c in table_cells.read_cells(half) if c.entry['stage'] == 't50')
  figures = [json.loads((half / 't50' / f'seed_{n}' / 'done.json').read_text()) for n in (0, 1)]
  assert cell.scores.tolist() == [own['test/dice'] for own in figures]
  assert table.main([str(half)]) == 0
  assert 'test dice in percent' in capsys.readouterr().out
  for cell in config['table']:
    cell['figure'] = 'beauty'
  (half / 'config.json').write_text(json.dumps(config))
  assert table.main([str(half)]) == 1
  assert 'has no figure test/beauty' in capsys.readouterr().err
  (half / 'config.json').write_text(before)


def write_stage(run_folder, name, miou):
  folder = run_folder / name
  folder.mkdir(parents=True)
  (folder / 'done.json').write_text(json.dumps({'test/miou': miou}))


def test_repetitions_are_stages_whose_scores_are_taken_together(tmp_path):
  cells = [
    dict(table='T', row='r', column='ours', stage=['a-0', 'a-1'], control=['b-0', 'b-1']),
  ]
  (tmp_path / 'config.json').write_text(json.dumps(dict(stages=[], table=cells)))
  for name, miou in (('a-0', 70), ('a-1', 90), ('b-0', 60)):
    write_stage(tmp_path, name, miou)
  assert table.main([str(tmp_path)]) == 0
  # The control's second repetition is missing, so that there is no difference yet.
  assert lines(tmp_path)['a-0,a-1']['difference'] == ''
  write_stage(tmp_path, 'b-1', 70)
  assert table.main([str(tmp_path)]) == 0
  found = lines(tmp_path)['a-0,a-1']
  assert float(found['mean']) == pytest.approx(80)
  # Paired: 70 - 60 and 90 - 70.
  assert float(found['difference']) == pytest.approx(15)
  assert found['control'] == 'b-0,b-1'
