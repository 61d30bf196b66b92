"""From a config to the stages of a run: what each changes, takes away, or is the control of."""

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ssl_jax import open_fields, registry
from ssl_jax.errors import UserError
from ssl_jax.parsing import parse_settings
from ssl_jax.settings import PAGE_FIELDS, Settings

Tree = dict[str, Any]
"""A config, or a part of it, as nested dicts."""

SPECIAL = ('name', 'run', 'without', 'control_of')
"""Keys of a stage that are neither fields of the config nor arguments of the stage function."""

OPEN = ('batch', 'views', 'methods', 'heads', 'data', 'model')
"""Fields whose dicts a stage may add keys to."""

STREAM_ARGUMENTS = ('pseudo', 'replay', 'buffer', 'renew')
"""Arguments of a `train` stage that say where streams of pseudo-labels come from."""

NO_EFFECT = (
  'log_every',
  'tensorboard',
  'checkpoint_every',
  'num_snapshots',
  'vmap_seeds',
  'data_on_device',
  'steps_per_call',
)
"""Fields that two compared stages may differ in, because the trained networks do not."""


class StageSpec(NamedTuple):
  """A stage that a run is to do."""

  name: str  # of its folder; '' where the run is one training
  run: str  # stages/<run>.py
  settings: Settings
  stage_kwargs: Mapping[str, Any]  # arguments of the stage function itself


def plain(config: Any) -> Tree:
  """A config (ConfigDict or dict) as nested dicts and tuples.

  Raises:
    UserError: if `stages` or `table` is something else than several dicts.
  """
  # Through JSON, so that a page's config equals the one read back from a run folder.
  config = config.to_dict() if hasattr(config, 'to_dict') else config
  page = parse_settings.tuples(json.loads(json.dumps(config)))
  for name, what in (('stages', 'stage'), ('table', 'cell')):
    entries = page.get(name) or ()
    # Without a comma, brackets around a single dict are no tuple.
    if not isinstance(entries, tuple) or not all(isinstance(entry, dict) for entry in entries):
      raise UserError(
        f'{name} must hold a dict for each {what}, each followed by a comma, as in '
        f'(dict(...), dict(...),); it is set to {str(entries)[:60]}.'
      )
  return page


def resolve(page: Tree) -> list[StageSpec]:
  """The stages of a config, in order, with the settings of each.

  Fields that are still to be decided from the data have their defaults.

  Raises:
    UserError: with all that is wrong with names, fields and values, a line each.
  """
  page = open_fields.without_open(page)
  # What all stages share; each stage's dict then changes a copy of it.
  base = {key: value for key, value in page.items() if key not in PAGE_FIELDS}
  entries = page.get('stages') or ({'name': ''},)
  # The shared part is checked first, so that its mistakes are not repeated for every stage.
  _, problems = parse_settings.parse_all(base)
  problems += _name_problems(page, entries)
  if problems:
    raise UserError('\n'.join(problems))
  specs = []
  for entry in entries:
    try:
      # The stages after a wrong one are checked as well: all mistakes are reported together.
      tree, stage_kwargs = _stage_tree(base, entry, entries)
    except UserError as error:
      problems.append(str(error))
      continue
    settings, own_problems = parse_settings.parse_all(tree)
    problems += [f'stages.{entry["name"]}: {problem}' for problem in own_problems]
    specs.append(StageSpec(entry['name'], entry.get('run', 'train'), settings, stage_kwargs))
  if problems:
    raise UserError('\n'.join(problems))
  return specs


def _name_problems(page: Tree, entries: Sequence[Tree]) -> list[str]:
  problems = []
  if not page.get('stages'):
    return problems
  # Names become folders, and --only matches them with the wildcards * and ?.
  names = [entry.get('name', '') for entry in entries]
  for name, entry in zip(names, entries, strict=True):
    good = name and all(c.isalnum() or c in '_-' for c in name)
    if not good or names.count(name) > 1:
      problems.append(
        f'stages: {name!r} is no good name; use letters, digits, _ and -, and each name once.'
      )
    try:
      registry.path('stages', entry.get('run', 'train'))
    except UserError as error:
      problems.append(f'stages.{name}: {error}')
  # A misspelt stage in the table would otherwise show only after the run.
  for cell in page.get('table') or ():
    for key in ('stage', 'control'):
      named = cell.get(key) or ()
      # Several are repetitions, whose scores are taken together.
      for name in [named] if isinstance(named, str) else named:
        if name not in names:
          guess = registry.nearest(name, names)
          problems.append(f'table: {key}={name!r} is the name of no stage{guess}.')
  return problems


def _stage_tree(base: Tree, entry: Tree, entries: Sequence[Tree]) -> tuple[Tree, Tree]:
  """The config of a stage, and the arguments of its function."""
  arguments = registry.parameters('stages', entry.get('run', 'train'))
  tree, stage_kwargs = base, {}
  where = f'stages.{entry["name"]}'
  # A control starts from the resolved stage that it is the control of, so a field changed there
  # is changed in both, and only the unlabeled images make the difference.
  if original := entry.get('control_of'):
    source = next((e for e in entries if e['name'] == original), None)
    if source is None or source is entry:
      names = [e['name'] for e in entries if e is not entry]
      guess = registry.nearest(original, names)
      raise UserError(f'{where}: control_of={original!r} is the name of no other stage{guess}.')
    tree, stage_kwargs = _stage_tree(base, source, entries)
    tree = labels_only(tree, where)
    stage_kwargs = {k: v for k, v in stage_kwargs.items() if k not in STREAM_ARGUMENTS}
  # First fields are taken away, then the stage's own are set.
  for removed in entry.get('without', ()):
    tree = _removed(tree, removed.split('.'), f'{where}: without={removed!r}')
  for key, value in entry.items():
    # A key of a stage is an argument of its function or a field of the config.
    if key in arguments:
      stage_kwargs[key] = value
    elif key not in SPECIAL:
      known = [*arguments, *SPECIAL]
      tree = _replaced(tree, key.split('.'), value, f'{where}: {key}', known)
  return tree, stage_kwargs


def _replaced(tree: Tree, path: list[str], value: Any, where: str, known: Iterable[str]) -> Tree:
  """The tree with one field changed; 'methods.fixmatch.weight' reaches inside."""
  first, *rest = path
  # Only the first name of a path can be checked here: what is inside dicts belongs to the parts.
  if known and first not in parse_settings.FIELDS:
    guess = registry.nearest(first, [*parse_settings.FIELDS, *known])
    raise UserError(f'{where} is neither a field of the config nor of the stage{guess}.')
  if not rest:
    return {**tree, first: value}
  # 'match.head' works also where the page leaves `match` empty.
  inner = {} if tree.get(first) is None else tree[first]
  if not isinstance(inner, Mapping):
    raise UserError(f'{where}: {first} has no fields.')
  # Copies along the path: other stages share the rest of the tree, which must stay unchanged.
  return {**tree, first: _replaced(dict(inner), rest, value, where, ())}


def _removed(tree: Tree, path: list[str], where: str) -> Tree:
  """The tree without one field."""
  first, *rest = path
  if first not in tree or (rest and not isinstance(tree[first], Mapping)):
    raise UserError(f'{where} is not there{registry.nearest(first, tree)}; nothing to take away.')
  if not rest:
    return {key: value for key, value in tree.items() if key != first}
  return {**tree, first: _removed(tree[first], rest, where)}


def labels_only(tree: Tree, where: str = 'control_of') -> Tree:
  """The supervised control of a config: without all that only unlabeled images need.

  Methods that need unlabeled images go, or leave the supervised part that their `control` names;
  so do views of any stream but 'labeled', and the batches of those streams.

  Raises:
    UserError: if nothing is left to learn from.
  """
  # Views of unlabeled images, or of pseudo-labels, go.
  streams = view_streams(tree['views'])
  views = {name: view for name, view in tree['views'].items() if streams[name] == 'labeled'}
  methods: Tree = {}
  for name, kwargs in tree['methods'].items():
    if learns_from_labels(name):
      methods[name] = dict(kwargs)
    # Some methods, such as MixMatch, include a supervised loss of their own, which must stay.
    elif hasattr(module := registry.find('methods', name), 'control'):
      given = {key: value for key, value in kwargs.items() if value is not None}
      methods |= module.control(**given)
  if not methods:
    raise UserError(f'{where}: no method learns from labels, so there is no supervised control.')
  for kwargs in methods.values():
    # Supervised losses on views that have gone would otherwise ask for them.
    if kwargs.get('shown'):
      removed = set(tree['views']) - set(views)
      kwargs['shown'] = tuple(view for view in kwargs['shown'] if view not in removed)
  batch = {name: size for name, size in tree['batch'].items() if name == 'labeled'}
  return {**tree, 'views': views, 'methods': methods, 'batch': batch}


def view_streams(views: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
  """The stream of which each view is made, directly or by way of other views."""

  def follow(name: str, seen: tuple[str, ...]) -> str:
    # Follows view after view until the source is a stream, or a circle (which recipes refuse).
    source = views[name].get('source') or ''
    # A name that is a view and a stream means the stream.
    if source not in views or source == name or source in seen:
      return source
    return follow(source, (*seen, name))

  return {name: follow(name, ()) for name in views}


def learns_from_labels(method: str) -> bool:
  """Whether a method learns from labels alone: its file says LABELED = True."""
  # Read from the text, because importing a method would import JAX.
  source = ast.parse(registry.path('methods', method).read_text())
  names = [
    target.id
    for node in source.body
    if isinstance(node, ast.Assign)
    for target in node.targets
    if isinstance(target, ast.Name)
  ]
  return 'LABELED' in names


def is_control(settings: Settings, stage_kwargs: Mapping[str, Any]) -> bool:
  """Whether a stage learns from labels alone, and from no pseudo-labels."""
  labels = all(learns_from_labels(name) for name in settings.methods)
  return labels and not stage_kwargs.get('pseudo') and not stage_kwargs.get('replay')


def differences(of: StageSpec, against: StageSpec) -> dict[str, tuple[Any, Any]]:
  """Fields in which two training stages differ, apart from what a control takes away.

  Where `against` learns from labels alone, it is held against the control of `of`; otherwise the
  two are compared as they are.
  """
  trees = []
  # Against a control, what `labels_only` takes away is the very difference to be measured.
  control = is_control(against.settings, against.stage_kwargs)
  for spec in (of, against):
    tree = parse_settings.to_dict(spec.settings)
    stage_kwargs = dict(spec.stage_kwargs)
    if control:
      tree = labels_only(tree)
      stage_kwargs = {k: v for k, v in stage_kwargs.items() if k not in STREAM_ARGUMENTS}
    # `_filled` writes out the defaults of the parts, `_without_defaults` leaves out the stage's:
    # either way a page that spells out a default does not count as different.
    kept = {key: value for key, value in _filled(tree).items() if key not in NO_EFFECT}
    trees.append(_leaves({**kept, **_without_defaults(spec.run, stage_kwargs)}))
  first, second = trees
  return {
    key: (first.get(key), second.get(key))
    for key in [*first, *(key for key in second if key not in first)]
    if first.get(key) != second.get(key)
  }


def _filled(tree: Tree) -> Tree:
  """A config in which the parts' own defaults are written out, so that equal ones compare equal."""

  def fill(kind: str, name: str, kwargs: Mapping[str, Any]) -> Tree:
    parameters = registry.parameters(kind, name)
    # Unknown defaults cannot be compared, so they are left out.
    known = {k: p.default for k, p in parameters.items() if not p.required}
    return {k: v for k, v in known.items() if not isinstance(v, registry.Unknown)} | dict(kwargs)

  methods = {name: fill('methods', name, kwargs) for name, kwargs in tree['methods'].items()}
  model = fill('models', tree['model']['name'], tree['model'])
  return {**tree, 'methods': methods, 'model': model}


def _without_defaults(run: str, stage_kwargs: Mapping[str, Any]) -> Tree:
  parameters = registry.parameters('stages', run)
  return {k: v for k, v in stage_kwargs.items() if v != parameters[k].default}


def _leaves(tree: Mapping[str, Any], prefix: str = '') -> Tree:
  """{'model.name': 'unet', ...}; empty fields, and a view's that are off, are left out."""
  leaves: Tree = {}
  for key, value in tree.items():
    # An empty dict is a leaf: a method without arguments is still there.
    if isinstance(value, Mapping) and value:
      leaves |= _leaves(value, f'{prefix}{key}.')
    elif value is not None:
      leaves[f'{prefix}{key}'] = value
  return leaves


def reach(page: Tree, overrides: Iterable[str]) -> list[str]:
  """Says of fields set from the shell which stages see them, where not all do.

  Raises:
    UserError: if a field reaches no stage, because each sets its own value.
  """
  entries = page.get('stages') or ()
  notes, problems = [], []
  for key in overrides:
    # Fields of the whole run always count, and a run without stages has no stage to miss.
    if key.split('.')[0] in PAGE_FIELDS or not entries:
      continue
    seen, masked = [], []
    for entry in entries:
      # A stage that never reads the field says nothing about it.
      if key.split('.')[0] not in uses(entry.get('run', 'train')):
        continue
      state = _sees(entry, entries, key, page)
      if state != 'without':
        (seen if state == 'sees' else masked).append(entry['name'])
    # The user asked for a change that would have no effect at all: refused rather than ignored.
    if masked and not seen:
      problems.append(
        f'--config.{key} would reach no stage: each of {_listed(masked)} sets its own; '
        f'change it on the page.'
      )
    elif masked:
      own = 'sets its own' if len(masked) == 1 else 'set their own'
      notes.append(f'{key} applies to {_listed(seen)}; {_listed(masked)} {own}')
  if problems:
    raise UserError('\n'.join(problems))
  return notes


def _listed(names: Sequence[str], most: int = 6) -> str:
  more = f' and {len(names) - most} more' if len(names) > most else ''
  return ', '.join(names[:most]) + more


def uses(run: str) -> tuple[str, ...]:
  """The fields of the config that a kind of stage reads: its USES, or all of them."""
  # Read from the text, like LABELED.
  for node in ast.parse(registry.path('stages', run).read_text()).body:
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'USES':
      return ast.literal_eval(node.value)
  return tuple(parse_settings.FIELDS)


def _sees(entry: Tree, entries: Sequence[Tree], key: str, page: Tree) -> str:
  """Whether a stage 'sees' a field of the page, 'sets' its own, or does 'without' it."""
  value = _get(page, key)
  for name, own in entry.items():
    # Either the stage sets the field itself, a dict around it, or a field inside it.
    if name not in SPECIAL and _overlap(name, key):
      inner = _get({name: own}, key, name)
      return 'sees' if inner == value else 'sets'
  if any(_overlap(removed, key) for removed in entry.get('without', ())):
    return 'without'
  # A control sees what its original sees, unless the field went with the unlabeled images.
  if original := entry.get('control_of'):
    state = _sees(next(e for e in entries if e['name'] == original), entries, key, page)
    if state == 'sees' and _get(labels_only(plain(page)), key) is None and value is not None:
      return 'without'
    return state
  return 'sees'


def _overlap(first: str, second: str) -> bool:
  """Whether one of two dotted names is the other, or lies in it."""
  # With the dots 'lr' does not count as the beginning of 'lr_multiplier'.
  one, two = f'{first}.', f'{second}.'
  return one.startswith(two) or two.startswith(one)


def _get(tree: Mapping[str, Any], key: str, prefix: str = '') -> Any:
  """The value of a dotted name in a tree, whose first key may itself be dotted (`prefix`)."""
  value: Any = tree
  rest = key
  if prefix:
    value = tree[prefix]
    rest = key[len(prefix) :].lstrip('.')
  for part in rest.split('.') if rest else ():
    if not isinstance(value, Mapping) or part not in value:
      return None
    value = value[part]
  return value
