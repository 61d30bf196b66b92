import pytest
from ml_collections import ConfigDict

from ssl_jax.errors import UserError
from ssl_jax.views import recipes

STREAMS = {'labeled', 'unlabeled'}
GOOD = dict(
  labeled=dict(of='labeled', base=32, scale=(0.5, 2.0), flip=0.5),
  weak=dict(of='unlabeled', base=None, scale=(1, 1), flip=0),
  strong=dict(of='weak', jitter=dict(p=0.8, hue=0.25, contrast=(2, 2)), cutmix=dict(p=0.5)),
)


@pytest.mark.parametrize(
  ('recipe', 'words'),
  [
    (dict(of='labeled', blurr=1), ("'bad'", "'blurr'", 'blur')),
    (dict(of='labelled'), ("'bad'", 'of', 'labeled or unlabeled')),
    (dict(flip=0.5), ("'bad'", '`of`')),
    (dict(of='bad'), ("'bad'", 'of')),
    (dict(of='labeled', flip=1.5), ("'bad'", 'flip', '[0, 1]', '1.5')),
    (dict(of='labeled', scale=(2, 0.5)), ("'bad'", 'scale', 'lo <= hi')),
    (dict(of='labeled', scale=1.5), ("'bad'", 'scale')),
    (dict(of='labeled', rotate=360), ("'bad'", 'rotate', '180')),
    (dict(of='labeled', base=-3), ("'bad'", 'base')),
    (dict(of='labeled', flip=True), ("'bad'", 'flip')),
    (dict(of='labeled', jitter=0.5), ("'bad'", 'jitter', 'dict')),
    (dict(of='labeled', jitter=dict(hue=0.7)), ("'bad'", 'jitter', 'hue', '0.5')),
    (dict(of='labeled', jitter=dict(tone=0.7)), ("'bad'", 'jitter', "'tone'")),
    (dict(of='labeled', prominence=dict(least=2)), ("'bad'", 'prominence', 'least')),
    (dict(of='labeled', prominence=dict(tries=0)), ("'bad'", 'prominence', 'tries')),
    (dict(of='labeled', blur=dict(noise=2)), ("'bad'", 'blur', 'noise')),
    (dict(of='labeled', blur=dict(sigma=0)), ("'bad'", 'blur', 'sigma')),
    (dict(of='labeled', cutout=dict(area=(0.2, 1.4))), ("'bad'", 'cutout', 'area')),
    (dict(of='labeled', cutmix=dict(p=float('nan'))), ("'bad'", 'cutmix', 'p')),
    (dict(of='labeled', cutmix={}), ("'bad'", 'cutmix', 'dict')),
    (dict(of='strong', rotate=30), ("'bad'", 'rotate', 'jitter', "'strong'")),
    (dict(of='strong', cutmix=dict(p=1)), ("'bad'", 'cutmix', "'strong'")),
    ('labeled', ("'bad'", 'dict')),
  ],
)
def test_bad_recipes_are_refused_in_one_sentence(recipe, words):
  with pytest.raises(UserError) as error:
    recipes.check_recipes({**GOOD, 'bad': recipe}, STREAMS)
  said = str(error.value)
  assert all(word in said for word in words), said
  assert said.endswith('.')
  assert '\n' not in said


def test_good_recipes_are_ordered_by_what_they_are_made_of():
  assert recipes.check_recipes(GOOD, STREAMS) == ['labeled', 'weak', 'strong']
  late = dict(c=dict(of='b'), b=dict(of='a'), a=dict(of='unlabeled'))
  assert recipes.check_recipes(ConfigDict(late), STREAMS) == ['a', 'b', 'c']
  with pytest.raises(UserError, match="'a', 'b'"):
    recipes.check_recipes(dict(a=dict(of='b'), b=dict(of='a')), STREAMS)
