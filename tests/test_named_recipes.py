"""Recipes by name: what pages have by default, what they may have, and rounds of self-training."""

import runpy

import numpy as np
import pytest
from conftest import ROOT, tiny_page

from configs.lib import recipes, self_training
from ssl_jax import open_fields, registry, run
from ssl_jax.errors import UserError
from ssl_jax.io.run_log import read_done
from ssl_jax.parsing import stage_list
from ssl_jax.running import self_configuration

BLUR = dict(p=0.5, sigma=(0.1, 2.0))


def _page(name, *argument):
  config = runpy.run_path(str(ROOT / 'configs' / f'{name}.py'))['get_config'](*argument)
  return stage_list.plain(config)


def _given(tree):
  """A tree without what is not set."""
  if not isinstance(tree, dict):
    return tree
  return {key: _given(value) for key, value in tree.items() if value is not None}


@pytest.mark.parametrize('argument', [(), ('default',)])
def test_the_default_of_images_is_fixmatch_with_dice_and_aligned_classes(argument):
  page = _page('quickstart', *argument)
  assert _given(page['methods']) == {
    'supervised': {'weight': 1.0, 'dice': 1.0},
    'fixmatch': {'threshold': 0.95, 'weight': 1.0, 'dice': 1.0, 'align_classes': True},
  }
  assert page['labels_first'] == 100
  strong = dict(p=0.8, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.1)
  cutmix = dict(p=0.5, area=(0.1, 0.4))
  found = _given(page['views']['strong'])
  assert found == dict(source='weak', jitter=strong, blur=BLUR, cutmix=cutmix)
  assert page['views'].keys() == {'labeled', 'weak', 'strong'}
  page = _page('your_images', *argument)
  assert _given(page['methods']) == {
    'supervised': {'weight': 1.0, 'dice': 1.0},
    'fixmatch': {'threshold': 0.95, 'weight': 1.0, 'dice': 1.0, 'align_classes': True},
  }
  assert _given(page['views']['strong']) == dict(
    source='weak', jitter=dict(p=0.8), blur=BLUR, cutmix=cutmix
  )
  assert page['configure'][-1] == 'labels_first'
  names = [stage['name'] for stage in page['stages']]
  assert names == ['control', 'fixmatch', 'verdict', 'final']


def test_the_default_of_volumes_is_mean_teacher_as_it_was():
  page = _page('your_volumes')
  assert page['methods']['mean_teacher'] == {'weight': 10.0, 'ramp_up_steps': None}
  assert page['configure'][-1] == 'methods.mean_teacher.ramp_up_steps'
  assert _given(page['views']['strong']).keys() == {'source', 'blur', 'noise', 'gamma', 'shift'}
  assert [stage['name'] for stage in page['stages']][:3] == ['control', 'mean-teacher', 'verdict']


def test_candidates_of_the_search_are_as_round_1_began():
  plain, cutmix = dict(source='weak'), dict(source='weak', cutmix=dict(p=0.5))
  one = {'views.strong': cutmix}
  late = {'labels_first': 150}
  expected = {
    'fixmatch': {'methods.fixmatch': dict(ramp_up_steps=150), **one},
    'fixmatch-aligned': {
      'methods.fixmatch': dict(dice=1.0, align_classes=True),
      **one,
      **late,
    },
    'fixmatch-held': {'methods.fixmatch': dict(dice=1.0, hold_back=True), **one, **late},
    'mean-teacher': {
      'methods.mean_teacher': dict(weight=1.0, ramp_up_steps=600),
      'views.strong': plain,
    },
    'mean-teacher-cutmix': {'methods.mean_teacher': dict(weight=3.0), **one, **late},
    'unimatch': {'methods.unimatch': dict(dice=1.0), **one, 'views.strong2': cutmix, **late},
    'bcp': {'methods': dict(bcp=dict(weight=0.5, pretraining_steps=200, largest_component=False))},
  }
  for name, fields in expected.items():
    assert recipes.fields(recipes.RECIPES[name], 600, 150, plain, cutmix) == fields


OF_PAGES = [
  name for name, one in recipes.RECIPES.items() if one.method in recipes.SHOWN and not one.rounds
]


@pytest.mark.parametrize('page', ['your_images', 'your_volumes', 'quickstart'])
@pytest.mark.parametrize('name', OF_PAGES)
def test_a_page_can_have_every_recipe_and_then_nothing_of_another(page, name):
  tree = _page(page, name)
  recipe = recipes.RECIPES[name]
  assert tree['methods'].keys() == {'supervised', recipe.method}
  views = {'labeled', 'weak', *recipes.STRONG_VIEWS[: recipe.strong_views]}
  assert tree['views'].keys() == views
  specs = stage_list.resolve(tree)
  trained = [spec for spec in specs if spec.run == 'train']
  assert trained[0].settings.methods.keys() == {'supervised'}
  for method, kwargs in trained[1].settings.methods.items():
    assert not registry.kwargs_problems('methods', method, kwargs)
  if page != 'quickstart':
    # All that waits for the length of the training is decided by it.
    tree = {**tree, 'steps': 800}
    decided, _ = self_configuration._decide_length(tree, None)
    ramp = decided['methods'][recipe.method]['ramp_up_steps'] or 0
    started = ramp + decided['labels_first']
    assert started == 200
    left = open_fields.open_leaves(decided)
    assert not any('labels_first' in key or 'ramp_up' in key for key in left)


@pytest.mark.parametrize('page', ['your_images', 'your_volumes', 'quickstart'])
@pytest.mark.parametrize('name', ['fixmath', 'bcp', 'fixmatch-dice-again', 'unimatch,fixmatch'])
def test_a_recipe_that_a_page_cannot_have_is_a_sentence_with_those_it_can(page, name):
  with pytest.raises(UserError, match=f"'{name}' is no recipe of this page; .* fixmatch-dice, "):
    _page(page, name)


def test_few_labels_can_train_its_rows_of_images_for_longer():
  spec_of = {spec.name: spec for spec in stage_list.resolve(_page('few_labels', 'default,2400'))}
  # Five draws of five sets, each with the recipe and two controls; slices keep their own length.
  assert len(spec_of) == 5 * 5 * 3
  assert not [name for name in spec_of if name.startswith(('acdc', 'la_mri'))]
  trained = spec_of['lisc-10-fixmatch-aligned-3'].settings
  assert (trained.steps, trained.labels_first, trained.data.kwargs['seed']) == (2400, 600, 3)
  assert spec_of['lisc-10-control-3'].settings.steps == 2400


def test_a_curve_over_updates_has_the_asked_recipe_and_draw():
  specs = stage_list.resolve(_page('updates', 'zheng1,unimatch,12'))
  lengths = {spec.name: spec.settings.steps for spec in specs}
  assert lengths == {
    f'{side}-{steps}': steps for steps in (600, 1200, 2400) for side in ('control', 'unimatch')
  }
  assert {spec.settings.seed for spec in specs} == {12}


def test_rounds_hand_on_pseudo_labels_alone():
  stages = self_training.rounds(
    'a', {'steps': 7}, dict(flip=0.5), 4, common={'seed': 3}, without=('views.weak',), count=2
  )
  assert [(stage['name'], stage.get('of'), stage.get('pseudo')) for stage in stages] == [
    ('a-first', None, None),
    ('a-labels1', 'a-first', None),
    ('a-again1', None, 'a-labels1'),
    ('a-labels2', 'a-again1', None),
    ('a', None, 'a-labels2'),
  ]
  assert all(stage['seed'] == 3 for stage in stages)
  assert stages[0]['steps'] == 7
  assert 'steps' not in stages[2]
  assert stages[2]['views.pseudo'] == dict(source='pseudo', flip=0.5)


def test_a_tiny_round_after_unimatch_v2(tmp_path):
  """The last network learns from labels and from the masks that the first one wrote."""
  config = tiny_page()
  with config.unlocked():
    del config.methods['fixmatch'], config.views['strong']
    strong = dict(source='weak', jitter=dict(p=0.8, brightness=0.5))
    recipe = recipes.RECIPES['unimatch-v2']
    fields = recipes.fields(recipe, 6, 2, strong, dict(**strong, cutmix=dict(p=0.5)))
    config.stages = tuple(
      self_training.rounds(
        'again', fields, dict(flip=0.5), 4, without=('views.weak', 'batch.unlabeled')
      )
    )
  done = run.run(config, tmp_path / 'run')
  assert np.isfinite(done['test/miou'])
  folder = tmp_path / 'run'
  assert len(list((folder / 'again-labels1' / 'masks').iterdir())) == 8
  first = read_done(folder / 'again-first')
  assert np.isfinite(first['test/miou'])
  # UniMatch V2 waited for its two steps on labels, then learned; the last one learns from masks.
  log = (folder / 'again-first' / 'metrics.jsonl').read_text()
  assert 'loss/unimatch_v2/strong2' in log
  log = (folder / 'again' / 'metrics.jsonl').read_text()
  assert 'loss/supervised/pseudo' in log
  assert 'unimatch' not in log
