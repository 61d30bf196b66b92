"""Work over many machines: predict and stages by the workers of a Dask cluster."""

import contextlib
import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import ROOT, TINY, tiny_page
from PIL import Image
from test_blocks import OBJECTS, STATS, discs, predict_fn

from ssl_jax import predict, run_folder
from ssl_jax.datasets import synthetic
from ssl_jax.errors import UserError
from ssl_jax.inference import write_predictions
from ssl_jax.inference.blocks import block_store, dask_predict, dask_tasks
from ssl_jax.inference.blocks.dask_tasks import NetworkChoice
from ssl_jax.inference.writing.prediction_folder import Origin, open_folder
from ssl_jax.io.folders import lock
from ssl_jax.io.stacks import planes
from ssl_jax.run import run
from ssl_jax.running import dask_cluster, dask_worker

distributed = pytest.importorskip('distributed')


@pytest.fixture
def here():
  """The address of a cluster of one worker in this process."""
  options = dict(processes=False, dashboard_address=':0', protocol='tcp')
  with distributed.LocalCluster(n_workers=1, threads_per_worker=1, **options) as cluster:
    yield cluster.scheduler_address


@contextlib.contextmanager
def _processes(folder, workers=2):
  """The scheduler file of a cluster of processes, and its workers."""
  file = folder / 'scheduler.json'
  # The scheduler needs nothing of ours, and cannot import it.
  elsewhere = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
  dask = [sys.executable, '-m', 'dask']
  scheduler = ['scheduler', '--port=0', '--no-dashboard', f'--scheduler-file={file}']
  worker = ['worker', f'--scheduler-file={file}', '--nthreads=1', '--no-nanny', '--no-dashboard']
  started = []
  with (folder / 'log.txt').open('w') as log:
    output = dict(stdout=log, stderr=log)
    try:
      started.append(subprocess.Popen([*dask, *scheduler], cwd=folder, env=elsewhere, **output))
      for _ in range(workers):
        environment = {**elsewhere, 'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'}
        command = [*dask, *worker, f'--local-directory={folder / "scratch"}']
        started.append(subprocess.Popen(command, cwd=folder, env=environment, **output))
      _wait_for(file.exists)
      with dask_cluster.connect(str(file)) as client:
        _wait_for(lambda: dask_cluster.worker_count(client) == workers)
      yield str(file), started[1:]
    finally:
      for process in started:
        process.kill()
        process.wait()


def _wait_for(condition, seconds=300):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.05)


def _images(folder, count=30):
  """Images of two sizes, one that is damaged, and a stack."""
  folder.mkdir()
  cells = synthetic.load(labeled=count, unlabeled=0, test=0, size=48).labeled
  pictures = [cells[i]['image'] for i in range(count)]
  for number, picture in enumerate(pictures):
    rows = 48 if number % 3 else 33
    Image.fromarray(picture[:rows]).save(folder / f'{number:02d}.png')
  (folder / '05.png').write_bytes((folder / '05.png').read_bytes()[:300])
  stack = np.stack(pictures[:11])
  tifffile.imwrite(folder / 'stack.tif', stack, photometric='rgb', metadata={'axes': 'ZYXS'})


def _files(folder):
  """The bytes of all files of predictions by name; of the record its lines, in any order."""
  found = {}
  for path in folder.rglob('*'):
    # A killed worker may leave a hidden file that it was writing.
    if path.is_file() and not path.name.startswith('.'):
      found[str(path.relative_to(folder))] = path.read_bytes()
  lines = [json.loads(line) for line in found.pop('predict.jsonl').splitlines()]
  # What was said of files that could not be done is taken back.
  withdrawn = {line['file'] for line in lines if [*line] == ['file']}
  return found, sorted(json.dumps(line) for line in lines if line.get('file') not in withdrawn)


def _predict(run, images, out, *more):
  return predict.main([f'--run={run}', f'--images={images}', f'--out={out}', *more])


def test_a_killed_workers_images_are_done_again_and_all_files_are_those_of_one_process(
  finished, tmp_path, capfd
):
  _images(tmp_path / 'in')
  assert _predict(finished, tmp_path / 'in', tmp_path / 'alone') == 1
  said = capfd.readouterr().err
  skipped = next(line for line in said.splitlines() if line.startswith('Skipped'))
  out, codes = tmp_path / 'out', []
  with _processes(tmp_path) as (file, workers):
    arguments = (finished, tmp_path / 'in', out, f'--dask={file}')
    calling = threading.Thread(target=lambda: codes.append(_predict(*arguments)))
    calling.start()
    _wait_for(lambda: (out / 'predict.jsonl').exists() and 'masks/00' in _text(out))
    # It has got images, and from here on it does nothing with them.
    workers[0].send_signal(signal.SIGSTOP)
    _wait_for(lambda: [*out.glob('masks/*.png')])
    workers[0].kill()
    calling.join(300)
    assert codes == [1]
    assert skipped in capfd.readouterr().err
    assert _files(out) == _files(tmp_path / 'alone')
    # Once more, after a part was lost: only this is done.
    kept = (out / 'masks' / '01.png').stat().st_mtime_ns
    (out / 'masks' / '02.png').unlink()
    assert _predict(*arguments, '--resume') == 1
  assert (out / 'masks' / '01.png').stat().st_mtime_ns == kept
  assert _files(out)[0] == _files(tmp_path / 'alone')[0]


def _text(out):
  return (out / 'predict.jsonl').read_text()


@pytest.mark.parametrize('stats', [STATS, OBJECTS], ids=['classes', 'objects'])
def test_tiles_of_a_large_image_are_tasks_and_its_files_those_of_one_process(
  here, tmp_path, monkeypatch, stats
):
  monkeypatch.setattr(planes, 'LARGE', 10_000)
  monkeypatch.setattr(block_store, 'SIDE', 128)
  (tmp_path / 'in').mkdir()
  tifffile.imwrite(tmp_path / 'in' / 'slide.tif', discs(), tile=(64, 64))
  calls = []

  def counted(batch):
    calls.append(len(batch))
    return predict_fn(batch)

  monkeypatch.setattr(
    dask_tasks, '_networks', lambda call: dask_tasks._Loaded(call.chosen, counted, [])
  )
  task = write_predictions.Masks(stats, 96 * 96)
  origin = Origin('run', 'net', {})
  with open_folder(tmp_path / 'alone', tmp_path / 'in', origin) as out:
    assert not write_predictions.write(counted, task, tmp_path / 'in', out)
  alone = len(calls)
  chosen = NetworkChoice('run', None, (), False, 'net')
  with (
    dask_predict.workers(here, chosen, task, [tmp_path / 'in']) as workers,
    open_folder(tmp_path / 'out', tmp_path / 'in', origin) as out,
  ):
    assert not workers.write(tmp_path / 'in', out)
  assert len(calls) == 2 * alone
  assert _files(tmp_path / 'out') == _files(tmp_path / 'alone')
  assert not (tmp_path / 'out' / '.blocks').exists()


def test_a_file_whose_tile_fails_is_skipped(here, tmp_path, monkeypatch):
  monkeypatch.setattr(planes, 'LARGE', 10_000)
  monkeypatch.setattr(block_store, 'SIDE', 128)
  (tmp_path / 'in').mkdir()
  tifffile.imwrite(tmp_path / 'in' / 'slide.tif', discs())
  Image.fromarray(discs(40, 40)).save(tmp_path / 'in' / 'small.png')

  def failing(batch):
    if batch.shape[1] > 64:
      raise MemoryError('too large')
    return predict_fn(batch)

  monkeypatch.setattr(
    dask_tasks, '_networks', lambda call: dask_tasks._Loaded(call.chosen, failing, [])
  )
  task = write_predictions.Masks(STATS, 96 * 96)
  chosen = NetworkChoice('run', None, (), False, 'net')
  with (
    dask_predict.workers(here, chosen, task, [tmp_path / 'in']) as workers,
    open_folder(tmp_path / 'out', tmp_path / 'in', Origin('run', 'net', {})) as out,
  ):
    [sentence] = workers.write(tmp_path / 'in', out)
  assert 'slide.tif could not be predicted (MemoryError: too large)' in sentence
  assert (tmp_path / 'out' / 'masks' / 'small.png').exists()


def test_a_scheduler_that_does_not_answer_gets_a_sentence(finished, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(dask_cluster, 'TIMEOUT', 0.5)
  _images(tmp_path / 'in', 12)
  for address in ('tcp://127.0.0.1:1', 'nonsense://', str(tmp_path / 'no.json')):
    assert _predict(finished, tmp_path / 'in', tmp_path / 'out', f'--dask={address}') == 1
    said = capsys.readouterr().err
    assert f'ssl_jax: --dask={address}' in said
    assert 'start one with `dask scheduler`' in said
    assert not (tmp_path / 'out').exists()


def test_without_distributed_the_sentence_names_the_package(monkeypatch):
  def missing(name):
    raise ImportError(name)

  monkeypatch.setattr(importlib, 'import_module', missing)
  with pytest.raises(UserError, match=r"pip install 'distributed>="):
    dask_cluster.connect('tcp://127.0.0.1:1')


def test_workers_that_cannot_do_our_tasks_are_named(here, tmp_path, monkeypatch):
  with dask_cluster.connect(here) as client:
    (tmp_path / 'lock.json').write_text('mine')
    dask_cluster.check_workers(client, [tmp_path], [tmp_path / 'lock.json'], tmp_path)
    with pytest.raises(UserError, match=r'worker tcp://.* does not see .*nowhere as it is here'):
      dask_cluster.check_workers(client, [tmp_path / 'nowhere'])
    ours = dask_cluster.own_versions()
    for other, says in (
      ({**ours, 'ssl_jax': 'x'}, 'another version of ssl_jax'),
      ({**ours, 'jax': '0.1'}, r'has jax .*, and this process 0\.1'),
    ):
      monkeypatch.setattr(dask_cluster, 'own_versions', lambda other=other: other)
      with pytest.raises(UserError, match=says):
        dask_cluster.check_workers(client, [tmp_path])
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='has no ssl_jax; start it in an environment like'):
      dask_cluster.check_workers(client, [tmp_path])
    monkeypatch.undo()
    monkeypatch.setattr(client, 'nthreads', lambda: dict.fromkeys(_workers(client), 4))
    with pytest.raises(UserError, match=r'has 4 threads.*--nthreads 1'):
      dask_cluster.check_workers(client, [tmp_path])


def _workers(client):
  return client.scheduler_info(n_workers=-1)['workers']


def check_versions(payload):
  dask_worker.check_here.cache_clear()
  dask_worker.check_here(payload)


def test_a_worker_that_came_later_is_checked_by_its_first_task(here):
  with dask_cluster.connect(here) as client:
    for versions, fits in ((dask_cluster.own_versions(), True), ({'ssl_jax': 'x'}, False)):
      future = dask_cluster.submit(client, check_versions, pickle.dumps(versions))
      if fits:
        assert dask_cluster.result_of(future) is None
        continue
      with pytest.raises(UserError, match='has other versions of ssl_jax, jax or numpy'):
        dask_cluster.result_of(future)


ended = threading.Event()


def work_until_asked(payload):
  event, folder = pickle.loads(payload)
  with lock.locked(Path(folder), 'call address'):
    stop = dask_worker.Stop(event, Path(folder))
    while not stop():
      time.sleep(0.02)
  ended.set()


@pytest.mark.parametrize('how', ['asked', 'given up'])
def test_a_long_task_stops_when_asked_to_or_given_up(here, tmp_path, monkeypatch, how):
  monkeypatch.setattr(dask_worker, 'ASK_EVERY', 0.05)
  ended.clear()
  with dask_cluster.connect(here) as client:
    payload = pickle.dumps(('stop', str(tmp_path)))
    future = dask_cluster.submit(client, work_until_asked, payload, label='long')
    _wait_for((tmp_path / lock.FILE).exists)
    _wait_for(lambda: 'long' in dask_cluster.labels_under_way(client))
    assert not ended.wait(0.3)
    if how == 'asked':
      dask_cluster.ask_to_stop(client, 'stop')
    else:
      future.cancel()
    assert ended.wait(20)
  assert not (tmp_path / lock.FILE).exists()


def test_stages_done_by_workers_end_with_the_figures_of_one_process(
  here, finished, tmp_path, capfd
):
  folder = tmp_path / 'tiny'
  page = tiny_page()
  done = run(page, folder, dask=here)
  assert done == json.loads((finished / 'done.json').read_text())
  said = capfd.readouterr().err
  assert '12/12' in said
  assert '3/3 stages' in said
  for stage in ('control', 'fixmatch', 'verdict'):
    assert not (folder / stage / lock.FILE).exists()
    assert (folder / stage / 'done.json').read_text() == (
      finished / stage / 'done.json'
    ).read_text()
  # A finished run needs no worker, and is left as it is.
  written = (folder / 'control' / 'done.json').stat().st_mtime_ns
  assert run(page, folder, dask=here) == done
  assert (folder / 'control' / 'done.json').stat().st_mtime_ns == written


def test_a_stage_that_fails_costs_those_that_read_it_alone(here, page, tmp_path, monkeypatch):
  from ssl_jax.stages import train

  trained = train.stage

  def failing(settings, folder, *more, **kwargs):
    if folder.name == 'fixmatch':
      raise UserError('no good.')
    return trained(settings, folder, *more, **kwargs)

  monkeypatch.setattr(train, 'stage', failing)
  with pytest.raises(UserError) as error:
    run(page, tmp_path / 'tiny', dask=here)
  first, second = str(error.value).splitlines()
  assert first.startswith('fixmatch, on the worker tcp://')
  assert first.endswith('no good.')
  assert second == 'verdict was not begun, because it reads a stage that failed.'
  assert (tmp_path / 'tiny' / 'control' / 'done.json').exists()
  assert run_folder.read_page(tmp_path / 'tiny') is not None


def test_the_lock_of_a_lost_worker_is_freed_and_no_other(tmp_path):
  elsewhere = lock._mine('call tcp://gone')._replace(host='elsewhere')
  for task, lost, freed in (
    ('call tcp://gone', True, True),
    ('call tcp://gone', False, False),
    ('', True, False),
  ):
    (tmp_path / lock.FILE).write_text(json.dumps(elsewhere._replace(task=task)._asdict()))
    lock.free_of_lost(tmp_path, lambda task, lost=lost: lost)
    assert (tmp_path / lock.FILE).exists() != freed


@pytest.mark.slow
def test_a_training_whose_worker_is_killed_goes_on_from_its_checkpoint(tmp_path):
  longer = {**TINY, 'steps': 300, 'eval_every': 300, 'checkpoint_every': 20}
  words = [f'--config.{key}={value}' for key, value in longer.items()]
  main = [sys.executable, 'main.py', '--config=configs/quickstart.py', *words]
  alone = subprocess.run([*main, f'--workdir={tmp_path / "alone"}'], cwd=ROOT, capture_output=True)
  assert alone.returncode == 0, alone.stderr[-2000:]
  with _processes(tmp_path) as (file, workers):
    command = [*main, f'--workdir={tmp_path / "out"}', f'--dask={file}']
    calling = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    _wait_for(lambda: [*(tmp_path / 'out' / 'control' / 'checkpoints').glob('[0-9]*')], 600)
    pid = json.loads((tmp_path / 'out' / 'control' / lock.FILE).read_text())['pid']
    os.kill(pid, signal.SIGKILL)
    output = calling.communicate(timeout=600)[0].decode()
  assert calling.returncode == 0, output[-2000:]
  assert pid in [worker.pid for worker in workers]
  figures = [json.loads((tmp_path / name / 'done.json').read_text()) for name in ('alone', 'out')]
  assert figures[0] == figures[1]
