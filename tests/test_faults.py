"""The harness of faults.py, small: one kind of run, a few kills."""

import random

import fault_kinds
import fault_results
import faults
import pytest
from conftest import tiny_page


@pytest.fixture
def work(tmp_path, monkeypatch):
  monkeypatch.setenv('PYTHONPATH', str(faults.ROOT))
  return tmp_path


def test_a_training_that_is_killed_three_times_ends_the_same(work):
  config = tiny_page()
  config.unlock()
  config.update(steps=12, checkpoint_every=3, eval_every=12)
  config.stages = (
    dict(name='teacher', num_snapshots=2),
    dict(name='ranks', run='rank', of='teacher'),
  )
  kind = fault_kinds.page_kind(work, 'training', config)
  whole = faults.untouched(kind, work / 'whole')
  assert whole.changes > 10
  kills = faults.torture(kind, whole, work / 'killed', random.Random(0), 3)
  assert kills
  assert [kill.problem for kill in kills] == [''] * len(kills)
  assert 'survived' in fault_results.table(kills)
  # It can fail: another figure, or a damaged mask, is a difference.
  done = work / 'killed' / 'done.json'
  done.write_text(done.read_text().replace('1', '2'))
  assert '1 of' in fault_results.differences(whole.folder, work / 'killed')
