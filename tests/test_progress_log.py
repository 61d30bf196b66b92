"""Work that goes on after a kill: files that are whole, and lines of what is done."""

import pytest

from ssl_jax.errors import Stopped
from ssl_jax.io import atomic
from ssl_jax.stages.learning.progress_log import Journal


def _write(path, text, fails=False):
  with atomic.replacing(path) as part:
    part.write_text(text)
    assert part.name.endswith('.nii.gz')  # writers go by the ending
    if fails:
      raise KeyboardInterrupt


def test_a_file_is_the_old_one_or_the_new(tmp_path):
  path = tmp_path / 'mask.nii.gz'
  _write(path, 'old')
  with pytest.raises(KeyboardInterrupt):
    _write(path, 'ne', fails=True)
  assert path.read_text() == 'old'
  assert [file.name for file in tmp_path.iterdir()] == [path.name]


def _go_through(journal, stop):
  for index in journal.through(journal.waiting, stop, 'labels'):
    journal.write(index, {'far': float('inf'), 'pair': (index, 0.1 + 0.2)})


def test_a_journal_goes_on_where_it_was(tmp_path):
  journal = Journal(tmp_path, [4, 2, 7])
  assert journal.waiting == [4, 2, 7]
  with pytest.raises(Stopped, match='labels: stopped and saved'):
    _go_through(journal, lambda: len(journal.lines()) == 2)
  for cut in ('', '[7, {"far": 1', '\n[7'):
    with (tmp_path / 'cases.jsonl').open('a') as file:
      file.write(cut)
    again = Journal(tmp_path, [4, 2, 7])
    assert again.waiting == [7]
    assert again.lines() == journal.lines()
  assert [*again.lines()] == [2, 4]
  assert again.lines()[2] == {'far': float('inf'), 'pair': [2, 0.1 + 0.2]}
  _go_through(again, lambda: False)
  assert Journal(tmp_path, [4, 2, 7]).waiting == []
