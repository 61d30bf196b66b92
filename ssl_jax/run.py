"""A run: the stages of a config, one after another, each skipped once it is done."""

import contextlib
import fnmatch
import inspect
import json
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ml_collections import ConfigDict

from ssl_jax import build, parallel, registry
from ssl_jax.errors import UserError
from ssl_jax.evaluation import confusion
from ssl_jax.io.run_log import begun, read_done, replace_text, write_done
from ssl_jax.types import StageSpec
from ssl_jax.validate import check_stages, require, stages_read, validate


def run(
  config: Mapping | ConfigDict, workdir: str | Path, only: str = '*', command: str = ''
) -> dict | None:
  """Runs a config (ConfigDict or dict) in a folder and returns its final figures.

  The same call goes on where an earlier one was stopped. Stages that have come to nothing yet may
  be changed, and others added; a folder in which one has begun under another config is refused.
  `only` is a pattern of stage names, or several with commas between, to do a part of a long list;
  the figures are None until all is done. `command` is what a shell would call, kept with the run.
  """
  build.keep_compiled()
  parallel.start()
  config = plain(config)
  with _asked_to_stop() as stop:
    plans = _plans(config)
    for plan in plans:
      validate(plan.config)
    workdir = Path(workdir)
    check_stages(plans)
    asked = [
      plan for plan in plans if any(fnmatch.fnmatchcase(plan.name, p) for p in only.split(','))
    ]
    _check_asked(asked, only, workdir)
    for note in dict.fromkeys(n for plan in asked for n in build.splits(plan.config['data']).notes):
      print(f'Data: {note}.')
    _refuse_other(workdir, plans)
    _claim(workdir, config, command)
    for plan in asked:
      folder = workdir / plan.name
      if read_done(folder) is not None:
        print(f'{folder} is done.')
        if (folder / 'verdict.txt').exists():
          print((folder / 'verdict.txt').read_text().strip())
        continue
      replace_text(folder / 'config.json', json.dumps(plan.config, indent=1))
      stage = registry.find('stages', plan.kind).stage
      write_done(folder, stage(plan.config, folder, stop, **plan.own))
  if left := [plan.name for plan in plans if read_done(workdir / plan.name) is None]:
    print(f'{len(left)} of {len(plans)} stages are still to do, {left[0]} first.')
    return None
  done = _summary(workdir, [plan.name for plan in plans], config)
  write_done(workdir, done)
  _say(done, workdir, config['select'])
  return done


def _check_asked(asked: list[StageSpec], only: str, workdir: Path) -> None:
  """Raises UserError where a stage asked for reads one that is neither done nor asked for."""
  if not asked:
    raise UserError(f'--only={only} is the name of no stage; it may hold *, ? and commas.')
  names = {plan.name for plan in asked}
  for plan in asked:
    for name in stages_read(plan):
      if name not in names and read_done(workdir / name) is None:
        raise UserError(f'--only={only}: {plan.name} needs {name}, which is not done; do it first.')


def plain(config: Mapping | ConfigDict) -> dict:
  """A config as nested dicts and tuples, whatever it was made of; a missing field is named."""
  config = config.to_dict() if isinstance(config, ConfigDict) else config
  config = build.tuples(json.loads(json.dumps(config)))
  require(config)
  return _sized(config)


def _sized(config: dict) -> dict:
  """The config with its size as a tuple of sides."""
  size = config['size']
  return config | {'size': (size, size) if isinstance(size, int) else size}


def _plans(config: dict) -> list[StageSpec]:
  return [_plan(stage, config) for stage in config['stages'] or ({'name': ''},)]


def _plan(stage: Mapping, config: dict) -> StageSpec:
  """What a dict of `config.stages` asks for."""
  kind = stage.get('run', 'train')
  own = [
    p.name
    for p in inspect.signature(registry.find('stages', kind).stage).parameters.values()
    if p.kind == p.KEYWORD_ONLY
  ]
  staged = config
  for key, value in stage.items():
    if key not in {'name', 'run', *own}:
      staged = _replace(staged, key.split('.'), value, f'stages.{stage["name"]}: {key}')
  return StageSpec(
    stage['name'], kind, _sized(staged), {key: stage[key] for key in own if key in stage}
  )


def _replace(tree: dict, path: list[str], value: object, where: str) -> dict:
  """The tree with one field changed; 'methods.fixmatch.weight' reaches inside."""
  if path[0] not in tree:
    raise UserError(f'{where} is no field of the config; its fields are {", ".join(tree)}.')
  inner = _replace(tree[path[0]], path[1:], value, where) if path[1:] else value
  return {**tree, path[0]: inner}


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
  """Turns SIGTERM and Ctrl-C into a question that the training loop asks after each step."""
  asked = []

  def ask(number, frame) -> None:
    if asked:  # impatient
      raise KeyboardInterrupt
    asked.append(number)

  try:
    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
  except ValueError:  # not the main thread, as in some notebooks: nobody can ask
    yield lambda: False
    return
  try:
    yield lambda: bool(asked)
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def _refuse_other(workdir: Path, plans: list[StageSpec]) -> None:
  """Raises UserError if a stage in the folder has come to anything under another config.

  What a kill has left of one that came to nothing, and is to be another now, is cleared away.
  """
  path = workdir / 'config.json'
  if not path.exists():
    return
  now = {plan.name: _content(plan) for plan in plans}
  for plan in _plans(build.tuples(json.loads(path.read_text()))):
    folder = workdir / plan.name
    if plan.name in now:
      different = _first_difference(_content(plan), now[plan.name], plan.name)
    else:
      different = f'its stage {plan.name!r} is there no more'
    if different and begun(folder):
      raise UserError(
        f'{workdir} holds a run of another config: {different}; '
        f'use another --workdir, or delete the folder.'
      )
    if different and plan.name and parallel.is_main():
      shutil.rmtree(folder, ignore_errors=True)


def _content(plan: StageSpec) -> dict:
  """All that a stage's result depends on."""
  own = {key: value for key, value in plan.config.items() if key not in ('stages', 'table')}
  return json.loads(json.dumps({**own, 'run': plan.kind, **plan.own}))


def _claim(workdir: Path, config: dict, command: str) -> None:
  """Makes the folder this config's."""
  try:
    replace_text(workdir / 'config.json', json.dumps(config, indent=1))
    if command:
      replace_text(workdir / 'command.txt', command + '\n')
  except OSError as error:
    raise UserError(f'{workdir} cannot be written ({error}); choose another --workdir.') from error


def _first_difference(then: object, now: object, key: str = '') -> str | None:
  """The first key at which two configs differ, and both values."""
  if isinstance(then, dict) and isinstance(now, dict):
    for name in [*then, *(n for n in now if n not in then)]:
      inner = f'{key}.{name}' if key else name
      if difference := _first_difference(then.get(name), now.get(name), inner):
        return difference
    return None
  return None if then == now else f'{key} was {then!r}, now it is {now!r}'


def _summary(workdir: Path, names: list[str], config: Mapping) -> dict:
  """All stages' figures, `stage/figure`; those of the network that the run is about also plain."""
  done = read_done(workdir / build.trained_stage(config)) or {}
  each = {name: read_done(workdir / name) for name in names if name}
  return done | {f'{name}/{key}': value for name, s in each.items() for key, value in s.items()}


def _say(done: Mapping, workdir: Path, select: str) -> None:
  for name in ('val', 'test'):
    for figure, spoken in confusion.DISPLAY_NAME.items():
      if f'{name}/{figure}' in done:
        print(f'{name} {spoken} {done[f"{name}/{figure}"]:.2f} % at the {select} step.')
  print(f'All figures: {workdir / "done.json"}')
