"""Whether a run folder holds the run that is asked for: the same settings, and the same data."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssl_jax import parallel, run_folder
from ssl_jax.errors import UserError
from ssl_jax.io.folders import lock
from ssl_jax.io.run_log import DONE, has_begun
from ssl_jax.parsing import data_locations, parse_settings, stage_list
from ssl_jax.parsing.stage_list import StageSpec
from ssl_jax.running import continuation


def refuse_other(
  workdir: Path, specs: Sequence[StageSpec], asked: Sequence[StageSpec], command: str = ''
) -> None:
  """Clears away what a kill left of stages that came to nothing and are to be others now.

  Args:
    workdir: the run folder.
    specs: all stages.
    asked: those to be done now, whose data are there.
    command: what a shell was asked to do, for the advice in messages; empty: it was no shell.

  Raises:
    UserError: if a stage in the folder has come to anything under another config, or with other
      images or masks, or another process works on one that is to be another.
  """
  page = run_folder.read_page(workdir)
  if page is None:
    return
  # The stored page is resolved anew, because only resolved stages can be compared: a changed field
  # of the page may reach some stages and not others.
  try:
    before = stage_list.resolve(page)
  except UserError as error:
    raise UserError(
      f'{workdir} holds a run of another version ({str(error).splitlines()[0]}); '
      f'use another --workdir, or delete the folder.'
    ) from error
  # Stages that are new in the config need no check: there is nothing of theirs in the folder.
  now = {spec.name: spec for spec in specs}
  grown = []
  for spec in before:
    folder = workdir / spec.name
    if spec.name in now and _has_more_seeds(spec, now[spec.name]):
      grown.append(folder)
      continue
    if spec.name in now:
      different = parse_settings.first_difference(
        _content(spec), _content(now[spec.name]), spec.name
      )
    else:
      different = f'its stage {spec.name!r} is there no more'
    # Results made under different configs must not end up in one folder, or in one table.
    if different and has_begun(folder):
      raise UserError(continuation.refusal(workdir, different, command))
    # Deleted only if no step was logged and no checkpoint saved, and never the run folder itself,
    # whose stage is called ''.
    if different and spec.name and folder.exists() and parallel.is_main():
      _clear(folder)
  # Where data lie is no part of a config's identity, so it is their content that is compared.
  continuation.refuse_changed_data(workdir, asked, command)
  if grown and parallel.is_main():
    # Seeds that are done stay done; the stage and the run are not.
    for folder in [workdir, *grown]:
      (folder / DONE).unlink(missing_ok=True)


def _clear(folder: Path) -> None:
  """Empties the folder of a stage that has not begun.

  Raises:
    UserError: if another process works in it: one that was started at the same time has no step to
      show yet, and must not lose its settings.
  """
  with lock.locked(folder):
    for path in folder.iterdir():
      if path.name == lock.FILE:
        continue
      if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
      else:
        path.unlink(missing_ok=True)


def keep_settings(spec: StageSpec, folder: Path, done: bool) -> None:
  """Writes a stage's settings into its folder; of one that is done, only where its data lie now.

  Stages that read it would look for them where they were.
  """
  tree: dict[str, Any] = parse_settings.to_dict(spec.settings)
  stored = run_folder.read_page(folder)
  if done and stored is not None:
    if json.dumps(stored.get('data')) == json.dumps(tree['data']):
      return
    tree = {**stored, 'data': tree['data']}
  run_folder.write_page(folder, tree)


def _has_more_seeds(before: StageSpec, now: StageSpec) -> bool:
  """Whether a stage is the same but for seeds that were added at the end.

  Of a single seed, whose files lie in the folder of the stage itself, it is not.
  """
  old = before.settings.num_seeds
  if not 1 < old < now.settings.num_seeds:
    return False
  return _content(before) == _content(now) | {'num_seeds': old}


def _content(spec: StageSpec) -> dict[str, Any]:
  """All that a stage's result depends on, but for what its data are."""
  tree = parse_settings.to_dict(spec.settings) | {'run': spec.run, **spec.stage_kwargs}
  tree['data'] = data_locations.without(tree['data'])
  # Tuples become lists, so that equal configs compare equal.
  return json.loads(json.dumps(tree))
