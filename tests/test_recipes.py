"""Which recipes of views are accepted, and how the others are refused."""

import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from ssl_jax.errors import UserError
from ssl_jax.views import recipes

STREAMS = {'labeled', 'unlabeled'}
GOOD = dict(
  labeled=dict(source='labeled', resize_long_side=32, scale=(0.5, 2.0), flip=0.5),
  weak=dict(source='unlabeled', resize_long_side=None, scale=(1, 1), flip=0),
  strong=dict(source='weak', jitter=dict(p=0.8, hue=0.25, contrast=(2, 2)), cutmix=dict(p=0.5)),
)


@pytest.mark.parametrize(
  ('recipe', 'words'),
  [
    (dict(source='labeled', blurr=1), ('views.bad.blurr', 'did you mean blur?')),
    (dict(source='labelled'), ('views.bad.source', "'labelled'", 'labeled or unlabeled')),
    (dict(flip=0.5), ('views.bad has no source', 'labeled or unlabeled')),
    (dict(source='bad'), ('views.bad', 'circle')),
    (dict(source='labeled', flip=1.5), ('views.bad.flip=1.5', '[0, 1]')),
    (dict(source='labeled', scale=(2, 0.5)), ('views.bad.scale', 'low <= high')),
    (dict(source='labeled', scale=1.5), ('views.bad.scale=1.5',)),
    (dict(source='labeled', rotate=360), ('views.bad.rotate=360', '180')),
    (dict(source='labeled', resize_long_side=-3), ('views.bad.resize_long_side=-3',)),
    (dict(source='labeled', flip=True), ('views.bad.flip=True',)),
    (dict(source='labeled', jitter=0.5), ('views.bad.jitter=0.5', 'dict')),
    (dict(source='labeled', jitter=dict(hue=0.7)), ('views.bad.jitter.hue=0.7', '0.5')),
    (dict(source='labeled', jitter=dict(tone=0.7)), ('views.bad.jitter.tone', 'brightness')),
    (dict(source='labeled', prominence=dict(min_fraction=2)), ('prominence.min_fraction=2',)),
    (dict(source='labeled', prominence=dict(tries=0)), ('views.bad.prominence.tries=0',)),
    (dict(source='labeled', blur=dict(noise=2)), ('views.bad.blur.noise=2',)),
    (dict(source='labeled', blur=dict(sigma=0)), ('views.bad.blur.sigma=0',)),
    (dict(source='labeled', cutout=dict(area=(0.2, 1.4))), ('views.bad.cutout.area',)),
    (dict(source='labeled', cutmix=dict(p=float('nan'))), ('views.bad.cutmix.p=nan',)),
    (dict(source='labeled', cutmix={}), ('views.bad.cutmix', 'dict')),
    (dict(source='strong', rotate=30), ('views.bad.rotate', 'cutmix, jitter', "'strong'")),
    (dict(source='strong', cutmix=dict(p=1)), ('views.bad.cutmix', "'strong'")),
    (dict(source='weak', prominence=dict(tries=2)), ('views.bad.prominence', "'weak'")),
    ('labeled', ('views.bad', 'dict')),
  ],
)
def test_bad_recipes_are_refused_in_one_sentence(recipe, words):
  with pytest.raises(UserError) as error:
    recipes.check_recipes({**GOOD, 'bad': recipe}, STREAMS)
  message = str(error.value)
  assert all(word in message for word in words), message
  assert message.endswith('.')
  assert '\n' not in message


def test_all_that_is_wrong_is_said_at_once():
  bad = dict(source='labeled', flip=2, rotat=90, jitter=dict(p=-1, hues=0.1))
  problems = recipes.recipe_problems({**GOOD, 'bad': bad, 'none': dict(flip=0.5)}, STREAMS)
  fields = ('bad.flip', 'bad.rotat', 'bad.jitter.p', 'bad.jitter.hues', 'none has no source')
  assert len(problems) == len(fields)
  for problem, field in zip(problems, fields, strict=True):
    assert problem.startswith(f'views.{field}'), problem
    assert problem.endswith('.')
  assert 'did you mean rotate?' in problems[1]
  assert 'did you mean hue?' in problems[3]
  with pytest.raises(UserError) as error:
    recipes.check_recipes({**GOOD, 'bad': bad, 'none': dict(flip=0.5)}, STREAMS)
  assert str(error.value).split('\n') == problems


def test_fields_of_before_name_the_new_ones():
  old = dict(of='labeled', base=32)
  problems = recipes.recipe_problems({'view': old}, STREAMS)
  assert 'did you mean source?' in problems[0]
  assert 'did you mean resize_long_side?' in problems[1]


def test_good_recipes_are_ordered_by_what_they_are_made_of():
  assert recipes.check_recipes(GOOD, STREAMS) == ['labeled', 'weak', 'strong']
  late = dict(c=dict(source='b'), b=dict(source='a'), a=dict(source='unlabeled'))
  assert recipes.check_recipes(ConfigDict(late), STREAMS) == ['a', 'b', 'c']
  with pytest.raises(UserError, match=r'views\.a, views\.b'):
    recipes.check_recipes(dict(a=dict(source='b'), b=dict(source='a')), STREAMS)


def test_recipes_are_checked_without_jax():
  code = 'import sys; import ssl_jax.views.recipes; sys.exit("jax" in sys.modules)'
  assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
