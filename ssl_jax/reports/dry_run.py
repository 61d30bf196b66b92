"""What a run would do, told without training: stages, data, networks, and what to know of them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ssl_jax import build, open_fields, parallel, registry
from ssl_jax.data import dataset_stats
from ssl_jax.parsing import parse_settings, stage_list
from ssl_jax.parsing.stage_list import StageSpec
from ssl_jax.running import configuration_report, continuation, precision, self_configuration
from ssl_jax.running.validate import stages_read, validate
from ssl_jax.settings import Inputs, Learning, Settings
from ssl_jax.stages.compare import no_verdict
from ssl_jax.types import Splits

TRAINING = ('train', 'train_gan')
"""Kinds of stages that train a network."""


def describe(
  config: Mapping | ConfigDict,
  page_name: str,
  overrides: Sequence[str] = (),
  as_json: bool = False,
) -> str:
  """The resolved stages of a config as a table, or as one JSON object.

  The data are read, and networks are built without computing anything.

  Raises:
    UserError: for whatever a run of this config would refuse.
  """
  parallel.start()
  # The same steps as run.run, so that a dry run refuses whatever a run would refuse.
  page = stage_list.plain(config)
  registry.add_plugins(page.get('plugins'))
  page = precision.settle(continuation.adopt(page)).page
  # Only what needs no measurement is decided.
  configuration = self_configuration.configure(page, timing=False)
  page = configuration.page
  specs = stage_list.resolve(page)
  notes = stage_list.reach(page, overrides)
  validate(specs)
  still_open = open_fields.open_leaves(page)
  stages = [_without_open(_stage(spec), still_open) for spec in specs]
  # Stages usually share a data set, which is described once.
  data = {}
  for spec in specs:
    splits = build.splits(spec.settings.data)
    data.setdefault(_data_name(spec.settings), _data(splits))
  # Several stages may give the same warning; dict.fromkeys keeps the first of each, in order.
  warnings = list(dict.fromkeys([*notes, *_warnings(specs)]))
  if 'steps' in still_open:
    warnings.append(
      f'steps follow from the time of a step on this machine, which the run measures first: a '
      f'training may take {page["minutes"]:g} min (minutes)'
    )
  decisions = {field: choice._asdict() for field, choice in configuration.decisions.items()}
  report = {'page': page_name, 'stages': stages, 'data': data, 'decisions': decisions}
  report['warnings'] = warnings
  return json.dumps(report, indent=1) if as_json else _table(report)


def _stage(spec: StageSpec) -> dict[str, Any]:
  """A stage as JSON: its resolved config, network, and what it reads."""
  stage: dict[str, Any] = {
    'name': spec.name or 'network',
    'run': spec.run,
    'reads': list(stages_read(spec)),
    'arguments': dict(spec.stage_kwargs),
    'config': _resolved(spec.settings),
  }
  if spec.run == 'train':
    stage['parameters'] = _parameters(spec.settings)
  # Tuples become lists, so that the table and the JSON are made from the same values.
  return json.loads(json.dumps(stage))


def _without_open(stage: dict[str, Any], still_open: Sequence[str]) -> dict[str, Any]:
  """The stage with None for what a run would decide only after it has measured."""
  config = stage['config']
  for name in still_open:
    if open_fields.has(config, name):
      config = open_fields.put(config, name, None)
  return {**stage, 'config': config}


def _resolved(settings: Settings) -> dict[str, Any]:
  """The config of a stage with the defaults of its parts written out."""
  # What the page says wins over the part's default.
  tree = parse_settings.to_dict(settings)
  for method, kwargs in tree['methods'].items():
    tree['methods'][method] = _defaults('methods', method) | dict(kwargs)
  tree['model'] = _defaults('models', settings.model.name) | tree['model']
  tree['data'] = _defaults('datasets', settings.data.name) | tree['data']
  return tree


def _defaults(kind: str, name: str) -> dict[str, Any]:
  values = {}
  for key, parameter in registry.parameters(kind, name).items():
    default = parameter.default
    # A default that is an expression of names is shown as it is written in the file.
    values[key] = str(default) if isinstance(default, registry.Unknown) else default
  return values


def _parameters(settings: Settings) -> int:
  """The number of parameters of a stage's network."""
  splits = build.splits(settings.data)
  # Only classes and channels matter for the shapes, so no image statistics are computed.
  stats = dataset_stats.DatasetStats(
    classes=tuple(splits.classes),
    channels=splits.labeled[0]['image'].shape[-1],
    intensity=None,
    mean=(0.0,),
    std=(1.0,),
    counts={},
    fingerprint=0,
    task=splits.task,
  )
  learning, inputs = settings.part(Learning), settings.part(Inputs)
  learner = build.learner(learning, inputs, settings.steps, stats, methods=False)
  # [1, *space, C]. The network takes any batch size, so one example is enough for the shapes.
  example = np.zeros((1, *settings.crop_size, stats.channels), np.float32)
  # Traces shapes only: no weights are allocated, however large the network is.
  state = jax.eval_shape(learner.init, jax.random.key(0), example, learner.normalization)
  leaves = jax.tree.leaves(state.student['params'])
  return int(sum(np.prod(leaf.shape) for leaf in leaves))


def _data_name(settings: Settings) -> str:
  """The data set of a stage in a few words, other ones in other words."""
  # An empty field has the data set's own default, so it does not distinguish data sets.
  kwargs = {k: v for k, v in settings.data.kwargs.items() if v is not None}
  words = ', '.join(f'{key}={value}' for key, value in kwargs.items())
  return f'{settings.data.name}({words})'


def _data(splits: Splits) -> dict[str, Any]:
  sources = {name: getattr(splits, name) for name in ('labeled', 'unlabeled', 'val', 'test')}
  return {
    'images': {name: 0 if source is None else len(source) for name, source in sources.items()},
    'classes': list(splits.classes),
    'notes': list(splits.notes),
  }


def _warnings(specs: Sequence[StageSpec]) -> list[str]:
  """What follows from the settings that their author may not expect."""
  warnings = []
  for spec in specs:
    settings = spec.settings
    splits = build.splits(settings.data)
    where = spec.name or 'the network'
    if spec.run == 'compare':
      warnings += no_verdict(spec, splits)
    # The remaining warnings are about training.
    if spec.run not in TRAINING:
      continue
    if settings.eval_every > settings.steps:
      warnings.append(f'{where}: eval_every={settings.eval_every} is more than the steps; '
                      f'it is evaluated at the end alone')  # fmt: skip
    if settings.checkpoint_every > settings.steps:
      warnings.append(f'{where}: checkpoint_every={settings.checkpoint_every} is more than the '
                      f'steps; a killed run begins this stage again')  # fmt: skip
    for stream, size in settings.batch.items():
      # Streams of pseudo-labels have no size yet; `get` leaves them out.
      source = {'labeled': splits.labeled, 'unlabeled': splits.unlabeled}.get(stream)
      if source is not None and size > len(source):
        warnings.append(
          f'{where}: batch.{stream}={size} is more than the {len(source)} images; '
          f'images repeat within a batch'
        )
    # Usually a forgotten `teacher`: the average costs memory and is never used.
    if settings.ema_decay and settings.teacher == 'student':
      warnings.append(f'{where}: an average is kept (ema_decay), but the student teaches')
    # Methods name the views they use as arguments; a view that none names was probably misspelt.
    used = {view for method in settings.methods.values() for view in _named_views(method)}
    for view in settings.views:
      # The views that methods and stages use by default, without being told.
      if view not in used and view not in ('labeled', 'weak', 'strong', 'strong2', 'weak2',
                                           'plain', 'real', 'crop'):  # fmt: skip
        warnings.append(f'{where}: no method names the view {view!r}')
  return warnings


def _named_views(kwargs: Mapping[str, Any]) -> list[str]:
  names = []
  for value in kwargs.values():
    if isinstance(value, str):
      names.append(value)
    # Some arguments name several views, as in supervised's shown=('labeled',).
    elif isinstance(value, tuple):
      names += [name for name in value if isinstance(name, str)]
  return names


def _table(report: Mapping[str, Any]) -> str:
  """The report for reading: data, then a block for each stage, then what to know."""
  lines = [f'{report["page"]}: {len(report["stages"])} stages, nothing is trained.', '', 'Data']
  for name, data in report['data'].items():
    counts = ', '.join(f'{count} {split}' for split, count in data['images'].items() if count)
    lines += [f'  {name}', f'    {counts}; classes {", ".join(data["classes"])}']
    lines += [f'    {note}' for note in data['notes']]
  if report['decisions']:
    lines += ['', 'Chosen for your data']
    for field, choice in report['decisions'].items():
      value = configuration_report.words(choice['value'])
      lines.append(f'  {field}: {value} ({choice["reason"]})')
  lines += ['', 'Stages']
  for stage in report['stages']:
    lines += _stage_lines(stage)
  if report['warnings']:
    lines += ['', 'To know']
    lines += [f'  {warning}.' for warning in report['warnings']]
  return '\n'.join(lines)


def _stage_lines(stage: Mapping[str, Any]) -> list[str]:
  reads = f', reads {", ".join(stage["reads"])}' if stage['reads'] else ''
  lines = [f'  {stage["name"]}: {stage["run"]}{reads}']
  # Empty arguments mean that the stage does without them.
  arguments = {k: v for k, v in stage['arguments'].items() if v not in ('', None)}
  # Other stages take their network and views from the stages they read.
  if stage['run'] not in TRAINING:
    if arguments:
      lines.append(f'    {_words(arguments)}')
    return lines
  config = stage['config']
  batch = _words(config['batch'])
  steps = 'steps (their number is open)' if config['steps'] is None else f'{config["steps"]} steps'
  count, first = config['num_seeds'], config['seed']
  seeds = f'{count} repetitions, seeds {first} to {first + count - 1}'
  if count == 1:
    seeds = f'1 repetition, seed {first}'
  lines.append(
    f'    {steps} of {batch}; crops of {"x".join(map(str, config["crop_size"]))}; {seeds}'
  )
  if 'parameters' in stage:
    backbone = config['model'].get('backbone')
    network = config['model']['name'] + (f' ({backbone})' if backbone else '')
    computes = f'computes in {config["precision"]}'
    lines.append(f'    network {network}, {stage["parameters"]:,} parameters, {computes}')
  optimizer, schedule = config['optimizer'], config['schedule']['name']
  ema = f', ema_decay {config["ema_decay"]}' if config['ema_decay'] else ''
  lines.append(
    f'    {optimizer["name"]}, lr {optimizer["lr"]:g}, {schedule}; teacher {config["teacher"]}{ema}'
  )
  # A `train_gan` stage has no methods: the game replaces them.
  if stage['run'] == 'train':
    for method, kwargs in config['methods'].items():
      lines.append(f'    method {method}: {_words(kwargs)}')
  for view, recipe in config['views'].items():
    lines.append(f'    view {view}: {_words(recipe)}')
  if arguments:
    lines.append(f'    {_words(arguments)}')
  return lines


def _words(fields: Mapping[str, Any]) -> str:
  # An empty text or list, as None, means that a part does without it.
  given = {key: value for key, value in fields.items() if value not in (None, '', (), [])}
  return ', '.join(f'{key} {_word(value)}' for key, value in given.items())


def _word(value: Any) -> str:
  if isinstance(value, Mapping):
    return f'({_words(value)})'
  if isinstance(value, list | tuple):
    return '(' + ', '.join(map(_word, value)) + ')'
  return f'{value:g}' if isinstance(value, float) else str(value)
