"""The precision of a run follows from the device when it begins, and stays when it is resumed."""

import json

import jax
import jax.numpy as jnp
import pytest

from ssl_jax import build, parallel, run_folder
from ssl_jax.run import run
from ssl_jax.running import precision
from ssl_jax.settings import Inputs, Learning
from ssl_jax.training.checkpoint import Checkpoints

pytestmark = pytest.mark.gpu

STAGES = ({'name': 'first'}, {'name': 'own', 'precision': 'auto'})


@pytest.fixture
def accelerator(monkeypatch):
  """Has new runs compute as on an accelerator."""
  monkeypatch.setattr(parallel, 'has_accelerator', lambda: True)


def _begin(folder, page):
  folder.mkdir()
  (folder / run_folder.CONFIG).write_text(json.dumps(page))


def test_a_new_run_takes_what_suits_the_device(tmp_path, monkeypatch):
  for accelerated, expected in ((False, 'float32'), (True, 'bfloat16')):
    monkeypatch.setattr(parallel, 'has_accelerator', lambda accelerated=accelerated: accelerated)
    page, note = precision.settle({'steps': 3, 'precision': 'auto', 'stages': STAGES}, tmp_path)
    assert page['precision'] == page['stages'][1]['precision'] == expected
    assert 'precision' not in page['stages'][0]  # it has that of the page
    assert note == ''


def test_what_a_page_sets_stays(accelerator):
  asked = {'precision': 'float32', 'stages': ({'name': 'half', 'precision': 'bfloat16'},)}
  assert precision.settle(asked).page == asked


def test_a_resumed_run_keeps_its_precision(tmp_path, accelerator):
  folder = tmp_path / 'run'
  stages = [{'name': 'first'}, {'name': 'own', 'precision': 'bfloat16'}]
  _begin(folder, {'precision': 'float32', 'stages': stages})
  page, note = precision.settle({'precision': 'auto', 'stages': STAGES}, folder)
  assert page['precision'] == 'float32'
  assert page['stages'][1]['precision'] == 'bfloat16'
  assert note.startswith(f'The networks of {folder} stay in float32')


def test_a_run_from_before_the_field_was_in_float32(tmp_path, accelerator):
  _begin(tmp_path / 'run', {'steps': 3})
  assert precision.settle({'precision': 'auto'}, tmp_path / 'run').page['precision'] == 'float32'
  assert run_folder.read_settings(tmp_path / 'run').precision == 'float32'


def test_bfloat16_keeps_parameters_in_float32_and_stays_on_a_cpu(
  page, tmp_path, monkeypatch, capsys
):
  page.unlock()
  page.stages, page.steps = (), 2
  with monkeypatch.context() as patched:
    patched.setattr(parallel, 'choose_precision', lambda asked: 'bfloat16')
    run(page, tmp_path)
  settings = run_folder.read_settings(tmp_path)
  assert settings.precision == 'bfloat16'
  # The same command on this CPU is the same run.
  capsys.readouterr()
  run(page, tmp_path)
  assert 'stay in bfloat16' in capsys.readouterr().out
  stats = run_folder.read_stats(tmp_path)
  parts = settings.part(Learning), settings.part(Inputs)
  learner = build.learner(*parts, settings.steps, stats)
  example = jnp.zeros((1, 32, 32, 3))
  like = jax.jit(learner.init)(jax.random.key(0), example, learner.normalization)
  state = Checkpoints(tmp_path / 'checkpoints').restore(like)
  assert {x.dtype for x in jax.tree.leaves(state.student)} == {jnp.dtype('float32')}
  assert state.step == 2
