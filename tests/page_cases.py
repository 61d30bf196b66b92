"""The pages of configs/, with what may follow their names."""

import functools
import runpy

import pytest
from conftest import ROOT

PAGES = sorted((ROOT / 'configs').glob('[!_]*.py'))
NAMES = [path.stem for path in PAGES]
ARGUMENTS = {
  'gan_self_training_em': ('full',),
  'flare22': ('2',),
  'acdc': ('256',),
  'few_labels': ('default,2400',),
  'updates': ('hippocampus', 'zheng1,unimatch,12'),
  'recipe_search': ('3',),
  'quickstart': ('unimatch-v2',),
  'your_images': ('unimatch,minutes', 'curve'),
  'your_volumes': ('fixmatch-soft', 'fixmatch,curve'),
}
"""What may follow a page's name after a colon."""

TWINS = ('fixmatch_zheng2', 'wbc_table1_honest')
"""Pages that differ from another one in numbers alone; what they share is tested there."""

CASES = []
for stem in NAMES:
  for word in ('', *ARGUMENTS.get(stem, ())):
    CASES.append(pytest.param(stem, word, marks=pytest.mark.slow if stem in TWINS else ()))


@functools.cache
def config_function(name):
  return runpy.run_path(str(ROOT / 'configs' / f'{name}.py'))['get_config']


def page_of(name, argument=''):
  return config_function(name)(argument) if argument else config_function(name)()
