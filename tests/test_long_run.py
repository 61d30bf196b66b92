"""A short form of benchmarks/long_run.py, and that it sees a leak."""

import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / 'benchmarks'))

import long_run


def _samples(growth, files=0):
  return [
    long_run.Sample('training', step, step / 10, 300 + growth * step / 1000, 40 + files * step)
    for step in range(1, 1001, 10)
  ]


@pytest.mark.parametrize(
  ('growth', 'files', 'passed'), [(0, 0, True), (10, 0, True), (100, 0, False), (0, 1, False)]
)
def test_growth_is_seen(growth, files, passed):
  assert long_run.judge(_samples(growth, files), 1000)[0] is passed


def test_a_doubled_line_is_seen(tmp_path):
  record = tmp_path / 'metrics.jsonl'
  record.write_text('{"step": 1, "loss": 2}\n{"step": 1, "val": 3}\n{"step": 2, "loss": 2}\n')
  assert long_run.doubled(record, 2) == []
  record.write_text(record.read_text() + '{"step": 2, "loss": 2}\n')
  assert long_run.doubled(record, 2) == [2]
  assert long_run.doubled(record, 3) == [2, 3]


@pytest.mark.slow
def test_memory_and_open_files_are_flat(tmp_path):
  _, verdicts = long_run.measure(tmp_path, 1000, 100, 0.5)
  assert all(passed for passed, _ in verdicts), verdicts
