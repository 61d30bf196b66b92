"""Every page of configs/: its form, its stages, and its network."""

import ast
import contextlib
import fnmatch
import functools
import json
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from conftest import ROOT
from page_cases import CASES, NAMES, PAGES, page_of

from ssl_jax import parallel, registry
from ssl_jax.data.selection.fingerprint import Fingerprint
from ssl_jax.errors import UserError
from ssl_jax.parsing import parse_settings, stage_list
from ssl_jax.running import self_configuration
from ssl_jax.running.configuration_rules import Machine
from ssl_jax.stages import compare


def _comparisons(specs):
  """The compare stages of a run, and all its stages by name."""
  by_name = {spec.name: spec for spec in specs}
  return [spec for spec in specs if spec.run == 'compare'], by_name


# ---- Form


@pytest.mark.parametrize('name', NAMES)
def test_a_page_is_locked_and_its_docstring_says_how_to_run_it(name):
  assert page_of(name).is_locked
  docstring = ast.get_docstring(ast.parse((ROOT / 'configs' / f'{name}.py').read_text()))
  command = 'python main.py' if name == 'quickstart' else f'--config=configs/{name}.py'
  assert re.search(r'^Run:  python main.py', docstring, re.MULTILINE)
  assert command in docstring
  assert 'Data:' in docstring


@pytest.mark.parametrize('name', NAMES)
def test_a_page_starts_from_the_defaults_or_one_helper_and_ends_complete(name):
  text = (ROOT / 'configs' / f'{name}.py').read_text()
  assert len(text.splitlines()) <= 120
  assert re.search(r'config = (settings\.defaults|\w+\.page)\(', text)
  assert 'return settings.complete(config)' in text
  modules = set()
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.ImportFrom):
      modules.add(node.module)
    elif isinstance(node, ast.Import):
      modules |= {alias.name for alias in node.names}
  assert modules <= {'ssl_jax', 'configs.lib'}


def test_pages_import_no_jax():
  script = """
import runpy, sys
for path in sys.argv[1:]:
  runpy.run_path(path)['get_config']()
print(sorted({name.split('.')[0] for name in sys.modules} & {'jax', 'flax', 'optax', 'numpy'}))
"""
  command = [sys.executable, '-c', script, *map(str, PAGES)]
  ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
  assert ended.stdout.strip() == '[]', ended.stderr


# ---- Resolved stages


@pytest.mark.parametrize(('name', 'argument'), CASES)
def test_stages_resolve_and_every_field_is_one_of_its_part(name, argument):
  specs = stage_list.resolve(stage_list.plain(page_of(name, argument)))
  problems = []
  seen = set()
  for spec in specs:
    parts = [('models', spec.settings.model.name, spec.settings.model.kwargs)]
    parts += [('methods', method, kwargs) for method, kwargs in spec.settings.methods.items()]
    parts.append(('stages', spec.run, spec.stage_kwargs))
    # The folder of the data is the user's to give.
    given = {'labeled': 'folder', 'root': 'folder'}
    needed = registry.parameters('datasets', spec.settings.data.name)
    data = {key: value for key, value in given.items() if key in needed and needed[key].required}
    parts.append(('datasets', spec.settings.data.name, data | dict(spec.settings.data.kwargs)))
    for kind, part, kwargs in parts:
      key = json.dumps([kind, part, kwargs], sort_keys=True)
      if key not in seen:
        problems += registry.kwargs_problems(kind, part, kwargs)
      seen.add(key)
  assert not problems


@pytest.mark.parametrize(('name', 'argument'), CASES)
def test_table_names_stages_and_whole_comparisons(name, argument):
  page = stage_list.plain(page_of(name, argument))
  names = {stage['name'] for stage in page['stages']}
  for cell in page['table']:
    needed = set()
    for key in ('stage', 'control'):
      named = cell.get(key) or ()
      # Several stages are repetitions.
      needed |= {named} if isinstance(named, str) else set(named)
    assert needed <= names
    patterns = cell.get('only', '*').split(',')
    for stage in needed:
      assert any(fnmatch.fnmatchcase(stage, pattern) for pattern in patterns)


OVERRIDES = {
  'methods.supervised.dice': 0.25,
  'methods.supervised.weight': 3.0,
  'methods.hydramix.mu': 0.6,
  'views.labeled.rotate': 90.0,
  'views.labeled.flip': 0.1,
  'steps': 60,
  'crop_size': (48, 48),
  'ema_decay': 0.5,
  'optimizer.lr': 0.5,
  'seed': 3,
}
COMPARING = [case for case in CASES if "'compare'" in str(page_of(*case.values).stages)]


@pytest.mark.parametrize(('name', 'argument'), COMPARING)
def test_what_the_shell_sets_reaches_both_arms_of_every_comparison(name, argument):
  config = page_of(name, argument)
  for key, value in OVERRIDES.items():
    with contextlib.suppress(KeyError):  # not every page has all of these
      config.update_from_flattened_dict({key: value})
  specs = stage_list.resolve(stage_list.plain(config))
  comparisons, by_name = _comparisons(specs)
  assert comparisons
  for spec in comparisons:
    assert not compare.unnamed_differences(spec, by_name), spec.name


@pytest.mark.parametrize(('name', 'argument'), COMPARING)
def test_a_comparison_names_no_difference_that_is_not_there(name, argument):
  specs = stage_list.resolve(stage_list.plain(page_of(name, argument)))
  comparisons, by_name = _comparisons(specs)
  for spec in comparisons:
    nothing_named = spec._replace(stage_kwargs={**spec.stage_kwargs, 'differences': ()})
    differences = compare.unnamed_differences(nothing_named, by_name)
    for named in spec.stage_kwargs.get('differences', ()):
      assert any(f'{key}.'.startswith(f'{named}.') for key in differences)


@pytest.mark.parametrize(
  ('name', 'key', 'value', 'stages'),
  [
    ('quickstart', 'methods.supervised.dice', 0.0, '*'),
    ('your_images', 'views.labeled.rotate', 90.0, '*'),
    ('your_volumes', 'methods.supervised.dice', 0.0, '*'),
    ('your_cells', 'views.labeled.rotate', 90.0, '*'),
    ('methods_microscopy', 'views.labeled.rotate', 90.0, '*'),
    ('methods_microscopy', 'views.weak.rotate', 90.0, '*-mixmatch,*-fixmatch,*-entropy'),
    ('methods_microscopy', 'methods.supervised.dice', 0.0, '*-supervised,*-uda-kl,*-fixmatch'),
    ('methods_microscopy', 'optimizer.lr', 0.5, '*'),
    ('hydramix_crchisto', 'optimizer.lr', 0.5, '*'),
    ('hydramix_crchisto', 'batch.labeled', 8, '*'),
    ('uda_microscopy', 'methods.supervised.cross_entropy', 1.0, '*'),
    ('wbc_study', 'steps', 60, '*'),
    ('wbc_study', 'crop_size', (64, 64), '*'),
    ('wbc_study', 'model.norm', 'batch', '*'),
    ('wbc_study', 'views.labeled.flip', 0.0, '*-with*'),
    ('wbc_table1', 'methods.supervised.dice', 1.0, '*'),
    ('hippocampus', 'steps', 60, 'supervised,mean-teacher'),
    ('hippocampus', 'crop_size', (16, 16, 16), '*'),
    ('hippocampus', 'methods.supervised.dice', 0.0, '*'),
    ('your_gaps', 'views.labeled.rotate', 90.0, '*'),
    ('gan_self_training_em', 'steps', 60, 'r0-*,real*,made*'),
  ],
)
def test_a_field_of_the_page_reaches_every_training_that_it_is_about(name, key, value, stages):
  config = page_of(name)
  config.update_from_flattened_dict({key: value})
  specs = stage_list.resolve(stage_list.plain(config))
  reached = 0
  for spec in specs:
    asked = any(fnmatch.fnmatchcase(spec.name, pattern) for pattern in stages.split(','))
    if spec.run == 'train' and asked:
      assert _field(spec, key) == value, spec.name
      reached += 1
  assert reached > 1


@pytest.mark.parametrize(
  ('name', 'key', 'says'),
  [
    ('wbc_study', 'steps', ''),
    ('methods_microscopy', 'methods.supervised.dice', ''),
    ('hippocampus', 'steps', 'steps applies to supervised, mean-teacher; teacher, control, tuned1'),
    ('fixmatch_lisc', 'methods.supervised.weight', 'applies to fixmatch; control'),
  ],
)
def test_the_shell_says_which_stages_a_field_reaches(name, key, says):
  notes = stage_list.reach(stage_list.plain(page_of(name)), [key])
  assert says in ''.join(notes)
  assert bool(notes) == bool(says)


def test_a_field_that_every_stage_sets_itself_is_refused():
  config = page_of('wbc_table1')
  config.steps = 60
  with pytest.raises(UserError, match='steps would reach no stage: each of zheng1-'):
    stage_list.reach(stage_list.plain(config), ['steps'])


def _field(spec, key):
  """The value of a dotted name in the settings of a stage."""
  value = parse_settings.to_dict(spec.settings)
  for part in key.split('.'):
    value = value[part]
  return value


# ---- Networks

CLASSES = {'dsb2018': 3, 'wbc': 3, 'crchisto': 5, 'points': 3, 'acdc': 4}
CHANNELS = {'dsb2018': 3, 'wbc': 3, 'folder': 3, 'synthetic': 3, 'crchisto': 3, 'points': 3}
PARAMETERS = {
  'acdc': 763_140,
  'acdc:256': 1_812_292,
  'ablation_zheng1': 16_603_555,
  'fixmatch_knobs': 1_035_947,
  'fixmatch_lisc': 40_347_555,
  'fixmatch_zheng1': 40_347_555,
  'fixmatch_zheng2': 40_347_555,
  'flare22': 31_419_406,
  'gan_self_training_em': 324_810,
  'hippocampus': 353_707,
  'hydramix_crchisto': 5_468_871,
  'imagenet_weights': 762_850,
  'instances_microscopy': 763_571,
  'few_labels': 763_571,
  'few_labels:default,2400': 763_571,
  'updates': 763_571,
  'updates:zheng1,unimatch,12': 763_571,
  'updates:hippocampus': 762_995,
  'recipe_search': 762_850,
  'recipe_search:3': 762_850,
  'iic_microscopy': 31_031_308,
  'methods_microscopy': 1_035_794,
  'formula_choices': 121_186,
  'quickstart': 763_426,
  'quickstart:unimatch-v2': 763_426,
  'uda_microscopy': 31_030_658,
  'wbc_study': 1_035_947,
  'wbc_table1': 40_347_555,
  'wbc_table1_honest': 40_347_555,
  'your_cells': 4_303_557,
  'your_gaps': 1_296_946,
  'your_images': 763_426,
  'your_images:unimatch,minutes': 763_426,
  'your_volumes': 1_412_418,
  'your_volumes:fixmatch-soft': 1_412_418,
  'your_images:curve': 763_426,
  'your_volumes:fixmatch,curve': 1_412_418,
  'gan_self_training_em:full': 5_174_562,
  'flare22:2': 31_419_406,
}
"""Of each page's own network, with the classes and channels above (2 and 1 for other data)."""


def _decided(page):
  """A page in which nothing of the network is left open, as for large images or volumes."""
  if not page['configure']:
    return page
  size = (200, 200, 200) if page['data']['name'] == 'nifti' else (400, 400)
  data = Fingerprint(
    'masks', 8, 8, 3, 8, size, size, size, 'color', False, 0.5, 0.5, (0.5,), (0.2,), ()
  )
  return self_configuration.decide(page, data, Machine())[0]


@functools.cache
def _parameters(name, kwargs, outputs, precision, shape):
  kwargs = parse_settings.tuples(json.loads(kwargs))
  network = registry.build('models', name, kwargs, num_classes=outputs, dtype=precision)
  variables = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(shape))
  return sum(leaf.size for leaf in jax.tree.leaves(variables['params']))


@pytest.mark.parametrize(('name', 'argument'), CASES)
def test_the_network_of_a_page_fits_its_images_and_has_so_many_parameters(name, argument):
  fields = parse_settings.parse(_decided(stage_list.plain(page_of(name, argument))))
  classes = len(fields.data.kwargs.get('classes', ())) or CLASSES.get(fields.data.name, 2)
  count = _parameters(
    fields.model.name,
    json.dumps(fields.model.kwargs),
    classes + sum((fields.heads or {}).values()),
    parallel.choose_precision(fields.precision),
    (1, *fields.crop_size, CHANNELS.get(fields.data.name, 1)),
  )
  key = f'{name}:{argument}' if argument else name
  assert count == PARAMETERS[key]
