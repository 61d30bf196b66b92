"""Decides the fields that a page leaves open, once for a run, and says why.

Decisions stand in RUN/configuration.json. A resumed run takes them from there, so that it is the
same run bit for bit; nothing is measured a second time.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax

from ssl_jax import build, open_fields, parallel, registry
from ssl_jax.data import dataset_stats
from ssl_jax.data.selection.fingerprint import Fingerprint, compute_fingerprint
from ssl_jax.errors import UserError
from ssl_jax.io.run_log import has_begun, read_json
from ssl_jax.parsing import data_locations, parse_settings, stage_list
from ssl_jax.running import configuration_rules as rules
from ssl_jax.running import continuation, step_time
from ssl_jax.running.validate import methods_problems, raise_problems, validate
from ssl_jax.training import published_weights

DECISIONS = 'configuration.json'
"""In the run folder: what was decided, and from what."""

SET = 'set by you'
"""The reason of a field that was not empty."""

Tree = dict[str, Any]


class Configuration(NamedTuple):
  """A page with its decisions; without open fields the page as it was, and none."""

  page: Tree
  decisions: Mapping[str, rules.Choice] = {}  # by the name of a field, in the order of decision
  record: Tree | None = None  # what configuration.json is to hold
  fingerprint: Fingerprint | None = None  # where the data were looked at in this call
  estimate: float | None = None  # seconds of the whole run; None where nothing was measured
  resumed: bool = False


def configure(
  page: Tree,
  workdir: Path | None = None,
  stop: Callable[[], bool] = lambda: False,
  timing: bool = True,
  command: str = '',
) -> Configuration:
  """Returns a page, as nested dicts, in which nothing is open.

  Args:
    page: fields of `configure` that are not None are kept.
    workdir: run folder, whose decisions are taken over if it has any.
    stop: asked while updates are timed.
    timing: False leaves open what follows from the time of a step.
    command: what a shell would call, for messages.

  Raises:
    UserError: if page or data are wrong, or the run folder's trainings began with others.
    Stopped: if it was asked to stop.
  """
  _check(page)
  if not page.get('configure'):
    return Configuration(page)
  resumed = _resume(page, workdir, command) if workdir is not None else None
  if resumed is not None:
    return resumed
  splits = _splits(page)
  fingerprint = compute_fingerprint(splits)
  decided, decisions = decide(page, fingerprint, _machine())
  timed = None
  # All that a run would refuse is refused before the machine is kept busy.
  specs = stage_list.resolve(decided)
  validate(specs)
  # As the trainings will see it: scaled, where that was decided.
  splits = build.splits(specs[0].settings.data)
  if timing and open_fields.get(decided, 'steps') is None:
    costliest = step_time.costliest(specs)
    if parallel.is_main():
      print('Measuring how long a training step takes on this machine ...', flush=True)
    timed = step_time.measure(costliest.settings, splits, stop)
  decided, later = _decide_length(decided, timed)
  decisions = decisions | later
  estimate = None
  if timed is not None:
    estimate = step_time.run_seconds(stage_list.resolve(decided), timed, splits)
  record = {
    'asked': _asked(page),
    'data': dataset_stats.data_checksum(splits),
    'decisions': {field: choice._asdict() for field, choice in decisions.items()},
    'timed': timed._asdict() if timed else None,
  }
  return Configuration(decided, decisions, _json(record), fingerprint, estimate)


def _check(page: Tree) -> None:
  """Raises UserError where `configure` or `minutes` cannot be meant so."""
  minutes = page.get('minutes')
  fields = page.get('configure') or ()
  for field in fields:
    last = str(field).rpartition('.')[2]
    if last not in open_fields.TYPES and last not in open_fields.GROUPS:
      known = [*open_fields.TYPES, *open_fields.GROUPS]
      raise UserError(
        f'configure: {field} cannot be decided from the data{registry.nearest(last, known)}; '
        f'set it on the page.'
      )
  if minutes is None and ('steps' not in fields or page.get('steps') is not None):
    return
  if not isinstance(minutes, int | float) or isinstance(minutes, bool) or not 0 < minutes < 1e6:
    raise UserError(f'minutes={minutes} is no number of minutes above 0.')
  if 'steps' not in fields:
    raise UserError(
      f'minutes={minutes:g} has no effect, because the page sets its own steps; set steps instead.'
    )


def _splits(page: Tree) -> Any:
  """The data set of a page in the size of its files, unless the page is wrong."""
  # Mistakes in other fields are told as well, though only the data are needed here.
  specs = stage_list.resolve(page)
  data = specs[0].settings.data
  problems = registry.kwargs_problems('datasets', data.name, data.kwargs)
  for spec in specs:
    problems += methods_problems(spec.settings)
  raise_problems(problems)
  # Sizes in the fingerprint are those of the files, whatever `data.scale` a person has set.
  native = data.scale if open_fields.get(page, 'data.scale') is None else 1.0
  return build.splits(replace(data, scale=native))


def _machine() -> rules.Machine:
  weights = published_weights.exist_for('efficientnet_lite0')
  return rules.Machine(jax.device_count(), parallel.has_accelerator(), weights)


def decide(
  page: Tree, fingerprint: Fingerprint, machine: rules.Machine
) -> tuple[Tree, dict[str, rules.Choice]]:
  """Decides what follows from the data alone; returns the page with it, and why, by field."""
  decisions: dict[str, rules.Choice] = {}
  for field, rule in rules.RULES.items():
    # A person may have taken away what a field belongs to, such as a method.
    there = any(open_fields.has(page, name) for name in open_fields.leaves(field))
    if field in page['configure'] and there:
      page, decisions[field] = _apply(page, field, lambda now, r=rule: r(fingerprint, now, machine))
  for field in page['configure']:
    if field.endswith('.jitter'):
      # 'views.strong.jitter'; a view that a person took away has none.
      view = field.split('.')[1]
      if open_fields.has(page, field):
        strong = rules.is_strong(page, view)
        page, decisions[field] = _apply(
          page, field, lambda _, s=strong: rules.jitter(fingerprint, s)
        )
  return page, decisions


def _decide_length(
  page: Tree, timed: step_time.StepTime | None
) -> tuple[Tree, dict[str, rules.Choice]]:
  """Decides what follows from the time of a step, and from `steps` where they are set."""
  decisions: dict[str, rules.Choice] = {}
  seconds = timed.seconds if timed else None
  if 'steps' in page['configure']:
    if page['steps'] is None and seconds is None:
      return page, {}
    minutes = page['minutes']
    page, decisions['steps'] = _apply(page, 'steps', lambda _: rules.steps(minutes, seconds or 1.0))
  steps = page['steps']
  for field in page['configure']:
    last = field.rpartition('.')[2]
    if not open_fields.has(page, field):
      continue
    if last == 'eval_every':
      page, decisions[field] = _apply(page, field, lambda _: rules.eval_every(steps))
    if last == 'checkpoint_every':
      page, decisions[field] = _apply(page, field, lambda _: rules.checkpoint_every(steps, seconds))
    if last == 'ramp_up_steps':
      page, decisions[field] = _apply(page, field, lambda _: rules.ramp_up_steps(steps))
    if last == 'labels_first':
      page, decisions[field] = _apply(page, field, lambda _: rules.labels_first(steps))
  return page, decisions


def _apply(
  page: Tree, field: str, rule: Callable[[Tree], rules.Choice]
) -> tuple[Tree, rules.Choice]:
  """The page with what a rule decides of a field's empty parts, and what the field then is."""
  names = [name for name in open_fields.leaves(field) if open_fields.has(page, name)]
  empty = [name for name in names if open_fields.get(page, name) is None]
  # Another network than ours comes with its own widths and weights.
  chosen_by_hand = field == 'model' and f'{field}.name' not in empty
  if not empty or chosen_by_hand:
    return page, rules.Choice(_value(page, field, names), SET)
  choice = rule(page)
  values = choice.value if isinstance(choice.value, Mapping) else {'': choice.value}
  for name in empty:
    # A part of which the rule says nothing stays empty: it is the network's own default.
    page = open_fields.put(page, name, values.get(name.removeprefix(field).lstrip('.')))
  kept = [name.rpartition('.')[2] for name in names if name not in empty]
  reason = f'{choice.reason} ({", ".join(kept)}: {SET})' if kept else choice.reason
  return page, rules.Choice(_value(page, field, names), reason)


def _value(page: Tree, field: str, names: Sequence[str]) -> Any:
  """What a field is: a value, or of a group the dict of those of its fields that are not empty."""
  if list(names) == [field]:
    return open_fields.get(page, field)
  values = {name.rpartition('.')[2]: open_fields.get(page, name) for name in names}
  return {key: value for key, value in values.items() if value is not None}


def _asked(page: Tree) -> Tree:
  """All of a page that decisions depend on; stages may be added later, and seeds."""
  names = [name for field in page['configure'] for name in open_fields.leaves(field)]
  fields = {name: open_fields.get(page, name) for name in names}
  return {'minutes': page['minutes'], 'data': page['data'], **fields}


def _placeless(asked: Tree) -> Tree:
  return _json({**asked, 'data': data_locations.without(asked['data'])})


def _json(tree: Any) -> Any:
  # Tuples become lists, so that what is read equals what was written.
  return json.loads(json.dumps(tree))


def _resume(page: Tree, workdir: Path, command: str) -> Configuration | None:
  """The page with the decisions of a run folder; None if it has none, or for something else.

  Raises:
    UserError: if they were, and a training has begun by them.
  """
  path = workdir / DECISIONS
  if not path.exists():
    return None
  stored = read_json(path, 'restore it from a copy, or use another --workdir')
  # Where the data lie does not matter; what they are is compared below.
  difference = parse_settings.first_difference(
    _placeless(stored['asked']), _placeless(_asked(page))
  )
  decided = page
  decisions = {}
  if not difference:
    for field, choice in stored['decisions'].items():
      decisions[field] = rules.Choice(**parse_settings.tuples(choice))
      for name in open_fields.leaves(field):
        if open_fields.has(decided, name) and open_fields.get(decided, name) is None:
          value = decisions[field].value
          if isinstance(value, Mapping):
            value = value.get(name.rpartition('.')[2])
          decided = open_fields.put(decided, name, value)
    data = stage_list.resolve(decided)[0].settings.data
    if dataset_stats.data_checksum(build.splits(data)) != stored['data']:
      difference = 'its images or masks have changed since'
  if not difference:
    return Configuration(decided, decisions, stored, resumed=True)
  if has_begun(workdir):
    raise UserError(continuation.refusal(workdir, difference, command))
  return None
