"""The queue of the papers' cells: what it runs, and that it stops in time and resumes."""

import sys
import time

from conftest import ROOT

sys.path.insert(0, str(ROOT / 'benchmarks'))

import paper_cells
import pytest

from ssl_jax import cli


def test_every_cell_is_a_page_whose_stages_exist(tmp_path):
  for cell in paper_cells.CELLS:
    words = paper_cells.command(cell, tmp_path, tmp_path / 'run', steps=7)[2:]
    # Raises UserError where a field is unknown, or --only names no stage.
    request = cli._parse(words)
    assert request.config.steps == 7
    assert request.config.data[cell.data] == str(tmp_path / cell.folder)
    assert request.page.stem == cell.page.partition('.')[0]


def test_a_cell_is_stopped_in_time_and_may_save(tmp_path, monkeypatch):
  monkeypatch.setattr(paper_cells, 'STOPPING_S', 3.0)
  saves = (
    'import signal, sys, time\n'
    'def save(*_):\n  print("saved", flush=True); sys.exit(130)\n'
    'signal.signal(signal.SIGTERM, save)\nprint("began", flush=True)\ntime.sleep(60)'
  )
  began = time.monotonic()
  code = paper_cells.run_cell([sys.executable, '-c', saves], tmp_path / 'log', 6.0)
  assert time.monotonic() - began < 30
  assert code == 130
  assert (tmp_path / 'log').read_text() == 'began\nsaved\n'
  assert paper_cells.run_cell([sys.executable, '-c', 'print(1)'], tmp_path / 'log', 60.0) == 0


def test_minutes_follow_from_operations_and_programs(monkeypatch, capsys):
  figures = {'teraoperations': 989.4 * 30, 'programs': 2}
  # 30 s at the peak, 60 s at half of it; two programs of 45 s.
  assert paper_cells.minutes(figures, 1.0) == pytest.approx(2.0)
  assert paper_cells.minutes(figures, 0.5) == pytest.approx(2.5)
  monkeypatch.setattr(paper_cells, 'counted', lambda: {'gan': figures})
  monkeypatch.setattr(sys, 'argv', ['paper_cells.py', '--list', '--pattern=[gh]*', '--share=0.5'])
  assert paper_cells.main() == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[1].split()[:3] == ['gan', '2', 'min']
  assert lines[0].split()[:3] == ['hydramix', '?', 'min']
  assert 'at  50%' in lines[1]
  assert 'share of its matrix peak' in lines[-1]
