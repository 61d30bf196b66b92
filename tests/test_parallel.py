"""One device and eight give the same network: batch norm, dropout, FixMatch and CutMix on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import write_discs, write_volumes

from ssl_jax import parallel
from ssl_jax.errors import UserError

HERE = Path(__file__).parent

STEPS = """
import sys
sys.path[:0] = [{root!r}, {here!r}]
import conftest, jax, numpy as np
from ssl_jax import build, parallel
from ssl_jax.parsing import stage_list
from ssl_jax.data import dataset_stats, stream
from ssl_jax.settings import Inputs, Learning

{page}
page.batch.labeled, page.batch.unlabeled = 16, 8
# SGD: Adam's first steps divide rounding errors by themselves.
page.optimizer = dict(name='sgd', lr=0.05, momentum=0.9, weight_decay=1e-4)
page.stages = ()  # one training of the page as it is
settings = stage_list.resolve(stage_list.plain(page))[0].settings
splits = build.splits(settings.data)
stats = dataset_stats.compute_stats(splits)
learner = build.learner(settings.part(Learning), settings.part(Inputs), 5, stats)
streams = build.streams(settings.part(Inputs), splits, 0)
shape = (*settings.crop_size, stats.channels)
key, example = jax.random.key(0), np.zeros((1, *shape), np.float32)
state = parallel.jit_init(learner.init)(key, example, learner.normalization)
update = parallel.jit_update(learner.update)
for batch in stream.batches([streams], 0, 5):
  state, metrics = update(state, parallel.shard(batch), key)
gray = np.full((3, *shape), 0.5, np.float32)
predictions = parallel.jit_predict(learner.predict)(state, gray)
flat, predictions = (
  np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
  for tree in ((state.student, state.ema), predictions)
)
np.savez({out!r}, flat=flat, mask_rate=metrics.get('fixmatch/mask_rate', 0.5),
         predictions=predictions, devices=jax.device_count())
"""
MASKS = """
page = conftest.tiny_page()
page.unlock()
page.model.dropout = 0.3
page.methods.fixmatch.threshold = 0.65
page.labels_first = 0
"""
CELLS = """
page = conftest.tiny_cells({data!r})
page.unlock()
"""
VOLUMES = """
import runpy
page = runpy.run_path({root!r} + '/configs/your_volumes.py')['get_config']()
page.unlock()
page.data.update(labeled={data!r} + '/volumes', unlabeled={data!r} + '/volumes')
page.data.update(cache={data!r}, window=(0.0, 150.0))
page.crop_size, page.model.widths = (8, 16, 16), (4, 8)
"""


def _start(devices: int, out: Path, page: str) -> subprocess.Popen:
  code = STEPS.format(root=str(HERE.parent), here=str(HERE), out=str(out), page=page)
  # With optimization, whatever the other tests do: without it rounding differs more.
  flags = f'--xla_force_host_platform_device_count={devices}'
  environment = os.environ | {'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'}
  return subprocess.Popen([sys.executable, '-c', code], env=environment, stderr=subprocess.PIPE)


@pytest.mark.parametrize(
  'page',
  [
    pytest.param(MASKS, id='masks'),
    pytest.param(CELLS, id='cells', marks=pytest.mark.slow),
    pytest.param(VOLUMES, id='volumes', marks=pytest.mark.slow),
  ],
)
def test_one_and_eight_devices_learn_the_same(tmp_path, page):
  write_discs(tmp_path, images=8, side=100)
  write_volumes(tmp_path / 'volumes')
  page = page.format(data=str(tmp_path), root=str(HERE.parent))
  outs = {devices: tmp_path / f'{devices}.npz' for devices in (1, 8)}
  started = [_start(devices, out, page) for devices, out in outs.items()]
  for process in started:
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors.decode()[-2000:]
  one, eight = (np.load(out) for out in outs.values())
  assert (one['devices'], eight['devices']) == (1, 8)
  assert 0 < one['mask_rate'] < 1  # FixMatch had something to decide
  difference = np.abs(one['flat'] - eight['flat']).max()
  print(json.dumps({'largest difference of a parameter after 5 steps': float(difference)}))
  # Rounding alone: 1.2e-5 with JAX 0.12.
  assert difference < 3e-5
  np.testing.assert_allclose(one['predictions'], eight['predictions'], atol=3e-5)


def test_a_batch_that_does_not_split_is_refused(monkeypatch):
  monkeypatch.setattr(parallel.jax, 'device_count', lambda: 8)
  with pytest.raises(UserError, match=r'batch.labeled=12 cannot be split over 8 devices'):
    parallel.check_batch('labeled', 12)


@pytest.fixture
def joined(monkeypatch):
  """What the environment makes the process join; it has no word of Slurm or JAX at first."""
  for name in list(os.environ):
    if name.startswith('SLURM') or name in ('JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES'):
      monkeypatch.delenv(name)
  calls = []
  monkeypatch.setattr(jax.distributed, 'initialize', lambda **kwargs: calls.append(kwargs))
  return calls


def test_slurm_without_srun_is_one_process(joined, monkeypatch, capsys):
  monkeypatch.setenv('SLURM_JOB_ID', '7')
  monkeypatch.setenv('SLURM_NTASKS', '4')
  parallel.start()
  assert joined == []
  assert 'without srun only this process was started: it runs alone' in capsys.readouterr().out


def test_a_step_of_srun_joins_its_tasks(joined, monkeypatch):
  monkeypatch.setenv('SLURM_NTASKS', '4')
  monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '4')
  parallel.start()
  assert len(joined) == 1


def test_others_that_cannot_be_joined_are_said(joined, monkeypatch):
  def fail(**kwargs):
    raise ValueError('coordinator_address should be defined')

  monkeypatch.setattr(jax.distributed, 'initialize', fail)
  monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '2')
  with pytest.raises(UserError, match=r'cannot be joined \(coordinator_address.*unset'):
    parallel.start()
  monkeypatch.setenv('SLURM_STEP_NUM_TASKS', 'two')
  with pytest.raises(UserError, match=r"SLURM_STEP_NUM_TASKS='two' .* is no whole number"):
    parallel.start()


@pytest.mark.parametrize(
  'error', [RuntimeError("Unable to initialize backend 'cuda'"), AssertionError()]
)
def test_a_device_that_is_not_there_is_said(joined, monkeypatch, error):
  def fail():
    raise error

  monkeypatch.setenv('JAX_PLATFORMS', 'cuda')
  monkeypatch.setattr(jax, 'devices', fail)
  with pytest.raises(UserError, match=r'JAX_PLATFORMS=cuda asks for.*unset JAX_PLATFORMS'):
    parallel.start()
