"""A training on a real accelerator: in half precision, with images on the device, and resumable."""

import shutil

import jax
import pytest

from ssl_jax import run_folder
from ssl_jax.io import run_log
from ssl_jax.run import run

pytestmark = [
  pytest.mark.gpu,
  pytest.mark.skipif(jax.default_backend() == 'cpu', reason='needs an accelerator'),
]


def test_a_training_is_in_bfloat16_and_resumes_with_the_same_losses(page, tmp_path):
  page.unlock()
  page.stages = ()
  run(page, tmp_path)
  assert run_folder.read_settings(tmp_path).precision == 'bfloat16'
  before = [line for line in run_log.read_log(tmp_path) if 'loss' in line]
  assert before[-1]['images_per_second'] > 0
  # What a kill before the last save leaves.
  shutil.rmtree(tmp_path / 'checkpoints' / '6')
  (tmp_path / 'done.json').unlink()
  run(page, tmp_path)
  after = [line for line in run_log.read_log(tmp_path) if 'loss' in line]
  assert [line['loss'] for line in after] == [line['loss'] for line in before]
