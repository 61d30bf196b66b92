"""The typed tree of settings: defaults, parsing, and a sentence for all that is wrong."""

import dataclasses
import subprocess
import sys

import pytest
from conftest import ROOT

from ssl_jax import settings
from ssl_jax.errors import UserError
from ssl_jax.parsing import configuration, parse_settings


def complete(**changes):
  config = settings.defaults()
  config.data = dict(name='synthetic')
  config.update(changes)
  return settings.complete(config)


def test_defaults_are_valid_settings_and_come_back_as_they_went():
  parsed = parse_settings.parse(complete().to_dict())
  assert parsed.steps == 1000
  assert parsed.crop_size == (128, 128)
  assert parse_settings.parse(parse_settings.to_dict(parsed)) == parsed


def test_settings_are_frozen_and_their_parts_hold_only_their_fields():
  parsed = parse_settings.parse({'steps': 7})
  with pytest.raises(dataclasses.FrozenInstanceError):
    parsed.steps = 8  # pyrefly: ignore
  loop = parsed.part(settings.Loop)
  assert loop.steps == 7
  assert not hasattr(loop, 'methods')


def test_every_field_has_help_and_those_with_a_range_a_default_inside_it():
  sections = [settings.Settings, *(section for _, section in settings.NESTED.values())]
  sections += [settings.Optimizer, settings.Schedule, settings.Match, settings.Gan]
  for section in sections:
    for field in dataclasses.fields(section):
      assert field.metadata['help'].endswith('.'), field.name
  _, problems = parse_settings.parse_all(parse_settings.to_dict(parse_settings.parse({})))
  assert problems == []


def test_the_config_is_locked_and_any_argument_of_its_parts_can_be_set():
  config = complete(methods=dict(supervised=dict(), fixmatch=dict(threshold=0.9)))
  assert config.is_locked
  config.methods.fixmatch.ramp_up_steps = 5  # the page does not write it
  config.model.dropout = 0.5
  parsed = parse_settings.parse(config.to_dict())
  assert parsed.methods['fixmatch'] == {'threshold': 0.9, 'ramp_up_steps': 5}
  assert parsed.model.kwargs == {'dropout': 0.5}


@pytest.mark.parametrize(
  ('tree', 'says'),
  [
    ({'stpes': 1}, 'stpes is no field of the config (did you mean steps?)'),
    ({'replicas': 3}, 'did you mean num_seeds?'),
    ({'size': 96}, 'did you mean crop_size?'),
    ({'steps': 0}, 'steps=0 is not in the range at least 1'),
    ({'steps': True}, 'steps=True is not a whole number'),
    ({'ema_decay': 2.0}, 'ema_decay=2.0 is not in the range 0.0 to 1.0'),
    ({'teacher': 'emma'}, "teacher='emma' is not one of student, ema (did you mean ema?)"),
    ({'teacher': 'ema'}, "teacher='ema' needs a decay"),
    ({'crop_size': 'large'}, "crop_size='large' is not a tuple of numbers"),
    ({'crop_size': (64,) * 4}, 'neither two nor three sides'),
    ({'batch': {'labeled': 0}}, 'batch.labeled=0 is not in the range'),
    ({'batch': 8}, 'batch=8 is not a dict'),
    ({'views': {'weak': 3}}, 'views.weak=3 is not a dict of fields'),
    ({'optimizer': 'adam'}, "optimizer='adam' is not a dict of fields"),
    ({'optimizer': {'learning_rate': 1.0}}, 'did you mean lr?'),
    ({'optimizer': {'momentum': 0.5}}, 'adam has optimizer.b1'),
    ({'optimizer': {'name': 'sgd', 'b1': 0.5}}, 'sgd has optimizer.momentum'),
    ({'schedule': {'warmup': 5000}}, 'warmup=5000 leaves nothing of steps=1000'),
    ({'methods': {}}, 'methods is empty'),
    ({'match': {'how': 'luck'}}, "match.how='luck' is not one of one-to-one, overlap"),
    ({'gan': {'critics': 0}}, 'gan.critics=0 is not in the range 1 to 1,000'),
  ],
)
def test_what_is_wrong_gets_a_sentence(tree, says):
  with pytest.raises(UserError) as error:
    parse_settings.parse(tree)
  assert says in str(error.value)


def test_all_problems_are_told_at_once():
  tree = {'stpes': 1, 'ema_decay': 'high', 'optimizer': {'name': 'adan', 'lr': -1.0}}
  _, problems = parse_settings.parse_all(tree)
  assert len(problems) == 4


def test_settings_and_their_parsing_need_no_jax():
  code = (
    'import sys; from ssl_jax import settings; from ssl_jax.parsing import stage_list; '
    'c = settings.defaults(); settings.complete(c); sys.exit("jax" in sys.modules)'
  )
  assert subprocess.run([sys.executable, '-c', code], cwd=ROOT).returncode == 0


def test_the_page_of_the_docs_is_what_the_code_says():
  written = (ROOT / 'docs' / 'configuration.md').read_text()
  assert written == configuration.page(), (
    'run: python -m ssl_jax.parsing.configuration > docs/configuration.md'
  )
