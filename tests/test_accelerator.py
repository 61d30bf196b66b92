"""The benchmark for accelerators runs to its end on a CPU, in small, with and without minutes."""

import json
import subprocess
import sys
import time

import pytest
from conftest import CACHE, ROOT

sys.path.insert(0, str(ROOT / 'benchmarks'))

import accelerator_checks
import accelerator_report
import accelerator_steps

from ssl_jax import registry

SCRIPT = ROOT / 'benchmarks' / 'accelerator.py'


def _run(folder, *words):
  """The rows and the printed text of the benchmark with these words."""
  command = [sys.executable, str(SCRIPT), '--tiny', f'--out={folder}', f'--cache={CACHE}', *words]
  done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=280)
  summary = json.loads((folder / 'accelerator.json').read_text())
  rows = {(row['part'], row['name']): row for row in summary['rows']}
  return rows, done.stdout


def test_rows_of_every_kind(tmp_path):
  words = '--parts=a,c,b,d', '--rows=unet2m-256-bfloat16,unet', '--minutes=4'
  rows, text = _run(tmp_path, *words)
  assert rows['ceilings', 'matmul bfloat16']['tflop_s'] > 0
  assert rows['ceilings', 'copy']['tb_s'] > 0
  step = rows['steps', 'unet2m-256-bfloat16']
  assert step['ms'] > 0
  assert step['share'] > 0
  # Without PyTorch there is a note; with it, a ratio.
  assert 'ratio' in step or 'torch_note' in step
  for precision in ('float32', 'bfloat16'):
    assert rows['correctness', f'unet {precision}']['good']
  assert rows['seeds', '2 seeds']['relative_to_one_after_another'] > 0
  assert '| steps | ' in text
  lines = (tmp_path / 'accelerator.jsonl').read_text().splitlines()
  assert {(row['part'], row['name']) for row in map(json.loads, lines)} == set(rows)


def test_minutes_that_end_leave_rows_and_tables(tmp_path):
  begin = time.perf_counter()
  rows, text = _run(tmp_path, '--parts=c,t', '--minutes=0.05')
  assert time.perf_counter() - begin < 50
  assert rows
  assert all('ratio' not in row for row in rows.values())
  assert '|---' in text


@pytest.mark.slow  # some ten programs
def test_whole_runs_volumes_and_methods(tmp_path):
  words = '--parts=e,f,r,b', '--rows=hydramix,iic,cps,unimatch', '--minutes=20'
  rows, _ = _run(tmp_path, *words)
  run = rows['loop', 'whole run']
  assert run['images_s'] > 0
  assert 0 < run['evaluate_share'] + run['save_share'] + run['rest_share'] < 1
  assert rows['loop', 'bare steps']['whole_relative'] > 0
  assert rows['volume', '24 x 24 x 20 float32']['windows'] == 2**3
  (resumed,) = (row for (part, _), row in rows.items() if part == 'resume')
  assert resumed['good']
  assert resumed['arrays'] > 10
  for name in ('hydramix', 'iic', 'cps', 'unimatch'):
    assert rows['correctness', f'{name} float32']['good']


def test_every_method_and_network_is_checked():
  checked = accelerator_steps.CHECKED.values()
  assert {case.method for case in checked} == set(registry.known('methods'))
  assert {case.model for case in checked} == set(registry.known('models'))


def test_differences_are_relative_and_nan_is_not_good():
  right = [{'loss': 2.0, 'grad_norm': 1.0}] * 2
  close = [{'loss': 2.0001, 'grad_norm': 1.0}, {'loss': 2.0, 'grad_norm': 1.0005}]
  found = accelerator_checks.differences(close, right, 'float32')
  assert found['loss_1'] == pytest.approx(5e-5, rel=1e-3)
  assert found['good']
  wrong = [right[0], {'loss': float('nan'), 'grad_norm': 1.0}]
  assert not accelerator_checks.differences(wrong, right, 'bfloat16')['good']
  far = [{'loss': 2.01, 'grad_norm': 1.0}, right[1]]
  assert not accelerator_checks.differences(far, right, 'float32')['good']
  assert accelerator_checks.differences(far, right, 'bfloat16')['good']


@pytest.mark.slow  # four processes, each of which compiles
def test_compilation_with_flags_and_caches(tmp_path):
  rows, _ = _run(tmp_path, '--parts=x', '--minutes=4')
  assert len(rows) == 4
  assert all(row['ms'] > 0 for row in rows.values())


def test_clock_expects_what_the_last_compilations_took():
  clock = accelerator_report.Clock(minutes=1)
  assert not clock.too_late('network')
  for seconds in (1.0, 100.0, 90.0, 110.0):
    clock.took('network', seconds)
  assert clock.expected('network') == 100
  assert clock.too_late('network').startswith('skipped: needs 100 s')
  # Programs of another kind may be quicker.
  assert not clock.too_late('check')


def test_report_joins_what_is_known_of_a_row(tmp_path, capsys):
  report = accelerator_report.Report(tmp_path, {'device': 'none'})
  report.add('steps', 'a', torch_ms=2.0)
  report.add('steps', 'a', ms=1.23456, gib=None)
  assert report.get('steps', 'a', 'torch_ms') == 2
  assert len((tmp_path / 'accelerator.jsonl').read_text().splitlines()) == 2
  summary = json.loads((tmp_path / 'accelerator.json').read_text())
  assert summary['device'] == 'none'
  assert summary['rows'] == [{'part': 'steps', 'name': 'a', 'torch_ms': 2.0, 'ms': 1.235}]
  report.print_tables()
  assert '| a | 2.0 | 1.235 |' in capsys.readouterr().out


def test_only_the_last_step_of_a_block_is_waited_for():
  started, waited = [], []

  def advance():
    started.append(len(started))
    time.sleep(0.001)
    return started[-1]

  seconds = accelerator_report.step_seconds(advance, waited.append, block_s=0.02, blocks=3)
  assert 0.001 <= seconds < 0.1
  # Two to warm up, one to see how long a step takes, and one for each block.
  assert len(waited) == 6
  assert waited[-1] == len(started) - 1
