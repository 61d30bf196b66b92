"""The command line: what a shell shows for a wrong flag."""

import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.parametrize(
  ('flags', 'says'),
  [
    (['--config.stepz=1'], 'has no field'),
    (['--config=configs/fixmatch_lisc.py', '--config.data.stepz=1'], 'has no field'),
    (['--config=configs/nowhere.py'], 'there is no config configs/nowhere.py'),
    (['--config.steps=many'], '--config.steps=many'),
    (['--config.steps=0'], 'steps=0 is not in 1..'),
    (['configs/your_images.py'], 'is given as --config=configs/your_images.py'),
    (['--config=configs/gan_self_training_em.py:full'], 'data.root is not given'),
    (['--config=configs/gan_self_training_em.py:huge'], 'has no field huge'),
    (['--config=README.md'], 'is no Python page'),
  ],
)
def test_a_wrong_flag_gets_a_sentence_and_no_traceback(tmp_path, flags, says):
  command = [sys.executable, 'main.py', *flags, f'--workdir={tmp_path / "run"}']
  ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
  assert ended.returncode == 1
  assert says in ended.stderr
  assert 'Traceback' not in ended.stderr
  assert not (tmp_path / 'run').exists()
