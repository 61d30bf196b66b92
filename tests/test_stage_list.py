"""From a page to its stages: replaced fields, controls, differences, and who sees an override."""

import pytest
from conftest import tiny_page

from ssl_jax.errors import UserError
from ssl_jax.parsing import stage_list


@pytest.fixture
def tree():
  return stage_list.plain(tiny_page())


def resolved(tree):
  return {spec.name: spec for spec in stage_list.resolve(tree)}


def test_a_control_is_its_stage_without_what_unlabeled_images_need(tree):
  tree['methods']['supervised']['dice'] = 0.25
  stages = resolved(tree)
  control, fixmatch = stages['control'].settings, stages['fixmatch'].settings
  assert set(control.methods) == {'supervised'}
  assert set(control.views) == {'labeled'}
  assert set(control.batch) == {'labeled'}
  assert control.methods['supervised'] == fixmatch.methods['supervised']
  assert control.methods['supervised']['dice'] == 0.25
  assert stage_list.is_control(control, {})
  assert not stage_list.is_control(fixmatch, {})
  assert stage_list.differences(stages['fixmatch'], stages['control']) == {}


def test_a_stage_replaces_fields_adds_to_open_dicts_and_takes_away(tree):
  tree['stages'] = (
    {
      'name': 'a',
      'steps': 3,
      'optimizer.lr': 0.5,
      'methods.entropy': {'weight': 0.5},
      'without': ('methods.fixmatch', 'views.strong'),
    },
  )
  settings = resolved(tree)['a'].settings
  assert settings.steps == 3
  assert settings.optimizer.lr == 0.5
  assert set(settings.methods) == {'supervised', 'entropy'}
  assert 'strong' not in settings.views


def test_the_control_of_a_method_that_replaces_supervised_keeps_its_labeled_part(tree):
  tree['methods'] = {'mixmatch': {'weight': 2.0, 'dice': 0.5}}
  tree['stages'] = ({'name': 'ours'}, {'name': 'control', 'control_of': 'ours'})
  methods = resolved(tree)['control'].settings.methods
  assert methods['supervised']['weight'] == 2.0
  assert methods['supervised']['dice'] == 0.5


def test_a_control_learns_from_no_pseudo_labels(tree):
  tree['stages'] = (
    {'name': 'teacher', 'without': ('methods.fixmatch',)},
    {'name': 'labels', 'run': 'pseudo_label', 'of': 'teacher'},
    {
      'name': 'student',
      'pseudo': 'labels',
      'without': ('methods.fixmatch',),
      'batch': {'labeled': 2, 'pseudo': 2},
      'views.pseudo': {'source': 'pseudo'},
      'methods.supervised.shown': ('labeled', 'pseudo'),
    },
    {'name': 'control', 'control_of': 'student'},
  )
  control = resolved(tree)['control']
  assert 'pseudo' not in control.stage_kwargs
  assert control.settings.methods['supervised']['shown'] == ('labeled',)
  assert control.settings.batch == {'labeled': 2}


@pytest.mark.parametrize(
  ('stages', 'says'),
  [
    (({'name': 'a', 'control_of': 'b'},), "control_of='b' is the name of no other stage"),
    (({'name': 'a', 'without': ('methods.fixmach',)},), 'did you mean fixmatch?'),
    (({'name': 'a', 'stepz': 1},), 'did you mean steps?'),
    (({'name': 'a', 'seed.x': 1},), 'seed has no fields'),
    (({'name': 'a', 'steps': 0},), 'stages.a: steps=0 is not in the range'),
    (({'name': 'a', 'run': 'trian'},), 'did you mean train?'),
    (({'name': 'a b'},), "'a b' is no good name"),
  ],
)
def test_a_stage_that_cannot_be_gets_a_sentence(tree, stages, says):
  tree['stages'] = stages
  with pytest.raises(UserError) as error:
    stage_list.resolve(tree)
  assert says in str(error.value)


def test_differences_beyond_the_control_are_found(tree):
  tree['stages'] = (
    {'name': 'control', 'control_of': 'ours', 'methods.supervised.weight': 2.0, 'steps': 4},
    {'name': 'ours'},
  )
  stages = resolved(tree)
  found = stage_list.differences(stages['ours'], stages['control'])
  assert found == {'methods.supervised.weight': (1.0, 2.0), 'steps': (6, 4)}


def test_a_default_that_is_written_out_is_no_difference(tree):
  tree['stages'] = (
    {'name': 'control', 'control_of': 'ours', 'methods.supervised.cross_entropy': 1.0},
    {'name': 'ours', 'log_every': 3},
  )
  stages = resolved(tree)
  assert stage_list.differences(stages['ours'], stages['control']) == {}


def test_two_systems_that_both_use_unlabeled_images_are_compared_as_they_are(tree):
  tree['stages'] = ({'name': 'a'}, {'name': 'b', 'methods.fixmatch.threshold': 0.5})
  stages = resolved(tree)
  assert list(stage_list.differences(stages['a'], stages['b'])) == ['methods.fixmatch.threshold']


def test_a_field_that_no_stage_would_see_is_refused(tree):
  tree['stages'] = ({'name': 'a', 'steps': 2}, {'name': 'b', 'steps': 3})
  tree['steps'] = 500
  with pytest.raises(UserError, match=r'--config.steps would reach no stage: each of a, b sets'):
    stage_list.reach(tree, ['steps'])


def test_a_field_that_only_some_see_is_said(tree):
  tree['stages'] = ({'name': 'a', 'steps': 2}, {'name': 'b'})
  tree['steps'] = 500
  assert stage_list.reach(tree, ['steps']) == ['steps applies to b; a sets its own']


def test_a_field_inside_what_a_stage_replaces_is_not_seen(tree):
  tree['stages'] = ({'name': 'a', 'methods': {'supervised': {'dice': 1.0}}}, {'name': 'b'})
  tree['methods']['supervised']['dice'] = 0.0
  assert stage_list.reach(tree, ['methods.supervised.dice']) == [
    'methods.supervised.dice applies to b; a sets its own'
  ]


def test_a_control_does_not_need_to_see_what_it_does_without(tree):
  assert stage_list.reach(tree, ['methods.fixmatch.threshold', 'steps', 'batch.unlabeled']) == []


def test_stages_that_do_not_read_a_field_do_not_count(tree):
  tree['stages'] = (
    {'name': 'a', 'crop_size': (16, 16)},
    {'name': 'v', 'run': 'compare', 'of': 'a', 'against': 'a'},
  )
  with pytest.raises(UserError, match='would reach no stage'):
    stage_list.reach(tree, ['crop_size'])
