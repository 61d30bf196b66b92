"""Does a stage of a run in its folder: skipped if done, locked while under way."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from ssl_jax import parallel, registry
from ssl_jax.io.folders import digests, lock
from ssl_jax.io.run_log import read_done, write_done
from ssl_jax.parsing.stage_list import StageSpec
from ssl_jax.running import run_identity


def check_done(spec: StageSpec, workdir: Path) -> bool:
  """Returns whether a stage is done; checks of one that is done what later stages read.

  Raises:
    UserError: if a file of a stage that is done is damaged.
  """
  folder = workdir / spec.name
  if read_done(folder) is None:
    return False
  _keep_settings(spec, folder, done=True)
  # Later stages read what it wrote.
  for path in (folder, *folder.glob('seed_*')):
    digests.check(path)
  print(f'{folder} is done.')
  return True


def do(spec: StageSpec, workdir: Path, stop: Callable[[], bool], task: str = '') -> None:
  """Does a stage that is not done; `task` is for its lock (see lock.Holder)."""
  folder = workdir / spec.name
  stage = registry.find('stages', spec.run).stage
  # Of several processes of one run the main one holds the folder for all.
  with lock.locked(folder, task) if parallel.is_main() else contextlib.nullcontext():
    # In the lock: of what has no lock and has not begun, another process may clear the folder.
    _keep_settings(spec, folder, done=False)
    # done.json is written last: a stage that was killed has none and is begun or resumed again.
    figures = stage(spec.settings, folder, stop, **spec.stage_kwargs)
    # Without a name its folder is the run folder, in which other commands write, too.
    write_done(folder, figures, of_stage=bool(spec.name))


def _keep_settings(spec: StageSpec, folder: Path, done: bool) -> None:
  # A run without `stages` is one stage without a name: its folder is the run folder, whose
  # config.json is there.
  if spec.name:
    run_identity.keep_settings(spec, folder, done)
