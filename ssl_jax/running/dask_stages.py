"""Stages of a run as tasks of a Dask cluster: those that do not read each other at the same time.

The run folder is shared. A stage whose worker is lost is done again, from its last checkpoint.
"""

import os
import pickle
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging
from tqdm import tqdm

from ssl_jax import build, parallel, registry, run_folder
from ssl_jax.errors import Stopped, UserError
from ssl_jax.io import run_log
from ssl_jax.io.folders import lock
from ssl_jax.parsing.stage_list import StageSpec
from ssl_jax.running import dask_cluster, dask_worker, provenance, stage_runner
from ssl_jax.running.dask_cluster import ClusterError, WorkersEnded
from ssl_jax.running.validate import raise_problems, settings_problems, stages_read

LOOK_EVERY = 0.5
"""Seconds between two looks at what is done."""

TAIL = 10_000
"""Bytes of metrics.jsonl that hold its last line."""


class StageTask(NamedTuple):
  """A stage, as a worker gets it."""

  spec: StageSpec
  workdir: Path  # absolute
  plugins: str | None
  current: str  # folder from which main.py was called: relative paths of the page mean this one
  call: str  # of which call of main.py it is
  versions: bytes  # see dask_worker.check_here


_last_call: list[str] = []


def do(payload: bytes, *inputs: Mapping[str, Any]) -> Mapping[str, Any]:
  """Does a stage on a worker; returns what it was made with (provenance.now)."""
  task: StageTask = pickle.loads(payload)
  dask_worker.check_here(task.versions)
  address = dask_worker.own_address()
  folder = task.workdir / task.spec.name
  try:
    if _last_call != [task.call]:
      # In between, images may have changed.
      build.forget_splits()
      _last_call[:] = [task.call]
    _prepare(task)
    stop = dask_worker.Stop(task.call, folder)
    if not stage_runner.check_done(task.spec, task.workdir):
      lock.free_of_lost(folder, lambda holder: _is_lost(holder, task.call))
      stage_runner.do(task.spec, task.workdir, stop, f'{task.call} {address}')
    return provenance.now()
  except UserError as error:
    raise UserError(f'{task.spec.name or folder.name}, on the worker {address}: {error}') from error


def _prepare(task: StageTask) -> None:
  """What a process does before its first stage."""
  logging.set_verbosity(logging.FATAL)
  build.keep_compiled()
  parallel.check_devices()
  if os.path.isdir(task.current):
    os.chdir(task.current)
  registry.add_plugins(task.plugins)
  # They were checked where main.py was called, but the devices may be others here.
  raise_problems(settings_problems(task.spec.settings))


def _is_lost(holder: str, call: str) -> bool:
  """Whether a lock is of this call, and of a worker that is no more."""
  other, _, address = holder.partition(' ')
  return other == call and dask_worker.is_worker_lost(address)


def do_all(
  client: Any,
  specs: Sequence[StageSpec],
  workdir: Path,
  plugins: str | None,
  stop: Callable[[], bool],
) -> None:
  """Does the stages of a run that are not done.

  Args:
    client: of the scheduler.
    specs: in their order; each reads only earlier ones.
    workdir: the run folder.
    plugins: folder of the page's own parts.
    stop: whether to save what is under way, and end.

  Raises:
    UserError: with what went wrong with each stage; those that do not read it have been done.
    Stopped: if `stop` said so.
  """
  left = [spec for spec in specs if not stage_runner.check_done(spec, workdir)]
  if not left:
    return
  dask_cluster.wait_for_workers(client, stop)
  if stop():
    raise Stopped('Stopped before the first stage began; the same command starts it.')
  workdir = Path(os.path.abspath(workdir))
  dask_cluster.check_workers(client, [workdir], [workdir / run_folder.CONFIG], workdir)
  _Stages(client, left, workdir, plugins).wait(stop)


class _Stages:
  """Stages on their way through the workers."""

  def __init__(self, client: Any, specs: Sequence[StageSpec], workdir: Path, plugins: str | None):
    self._client = client
    self._specs = {spec.name: spec for spec in specs}
    self._workdir = workdir
    self._call = uuid.uuid4().hex
    versions = dask_cluster.versions_as_bytes()
    self._futures: dict[str, Any] = {}
    for spec in specs:
      payload = pickle.dumps(StageTask(spec, workdir, plugins, os.getcwd(), self._call, versions))
      inputs = [self._futures[name] for name in stages_read(spec) if name in self._futures]
      self._futures[spec.name] = dask_cluster.submit(client, do, payload, inputs, label=spec.name)
    # Of all stages that were begun and whose results are not good.
    self._errors: dict[str, BaseException] = {}

  def wait(self, stop: Callable[[], bool]) -> None:
    """Waits until all are done, or cannot be; shows how far the trainings are."""
    waiting = list(self._specs)
    before = self._steps_done()
    total = sum(_steps_of(spec) for spec in self._specs.values())
    bar = tqdm(total=total, initial=before, unit=' steps', desc=self._title(waiting))
    asked = False
    while waiting:
      time.sleep(LOOK_EVERY)
      for name in [name for name in waiting if self._futures[name].done()]:
        waiting.remove(name)
        self._take(name)
      if stop() and not asked:
        asked = True
        tqdm.write('The workers are asked to save and stop.')
        dask_cluster.ask_to_stop(self._client, self._call)
      bar.set_description(self._title(waiting), refresh=False)
      bar.update(self._steps_done() - bar.n)
    bar.close()
    self._raise()

  def _title(self, waiting: Sequence[str]) -> str:
    under_way = dask_cluster.labels_under_way(self._client)
    names = [name for name in waiting if name in under_way]
    done = len(self._specs) - len(waiting)
    return f'{done}/{len(self._specs)} stages ({", ".join(names) or "waiting"})'

  def _take(self, name: str) -> None:
    """Keeps what became of a stage, and tells it."""
    # What one stage lacks is an error of all that read it.
    if any(other in self._errors for other in stages_read(self._specs[name])):
      self._errors[name] = UserError(f'{name} was not begun, because it reads a stage that failed.')
      return
    try:
      made_with = dask_cluster.result_of(self._futures[name])
    except WorkersEnded as error:
      self._errors[name] = UserError(f'{name}: {error}')
    except Exception as error:
      if isinstance(error, ClusterError):
        raise
      self._errors[name] = error
    else:
      provenance.add(self._workdir, made_with)
      tqdm.write(f'{self._workdir / name} is done.')
      return
    tqdm.write(str(self._errors[name]).strip() or type(self._errors[name]).__name__)

  def _raise(self) -> None:
    errors = list(self._errors.values())
    for error in errors:
      # A mistake in the program, with the worker's traceback.
      if not isinstance(error, (UserError, Stopped)):
        raise error
    if stopped := [error for error in errors if isinstance(error, Stopped)]:
      raise stopped[0]
    raise_problems(str(error) for error in errors)

  def _steps_done(self) -> int:
    return sum(_steps_logged(spec, self._workdir) for spec in self._specs.values())


def _steps_of(spec: StageSpec) -> int:
  """Updates of all seeds of a stage."""
  trains = spec.run in ('train', 'train_gan')
  return spec.settings.steps * spec.settings.num_seeds if trains else 0


def _steps_logged(spec: StageSpec, workdir: Path) -> int:
  """Updates of all seeds of a stage that are in their logs."""
  if not _steps_of(spec):
    return 0
  folders = run_folder.folders_of_seeds(spec.settings, workdir / spec.name)
  return sum(run_log.last_step(folder, TAIL) for folder in folders.values())
