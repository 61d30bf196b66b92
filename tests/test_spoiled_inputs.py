"""More than two hundred spoiled inputs: each is a sentence that names the culprit.

A row is what is spoiled, how, and what the sentence must name. No file of the user changes, and
nothing is trained. The exit code that follows from the error is that of test_cli.py.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from spoiled_inputs import ROWS

from ssl_jax.errors import UserError


def test_there_are_at_least_two_hundred_and_each_is_another():
  assert len({row.what for row in ROWS}) == len(ROWS) >= 200


def _contents(folder: Path) -> dict[str, Any]:
  found = {}
  for path in sorted(folder.rglob('*')):
    found[str(path)] = (
      os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes()
    )
  return found


@pytest.mark.parametrize('row', ROWS, ids=[row.what for row in ROWS])
def test_a_spoiled_input_is_a_sentence_that_names_it(tmp_path, row):
  row.spoil(tmp_path)
  before = _contents(tmp_path)
  with pytest.raises(UserError) as caught:
    row.read(tmp_path)
  sentence = str(caught.value)
  assert row.names in sentence
  assert '\n' not in sentence
  assert len(sentence) < 700
  assert _contents(tmp_path) == before
