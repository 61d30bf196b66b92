"""What is left open is decided once for a run folder; what a person sets stays."""

import json
import runpy

import numpy as np
import pytest
from conftest import ROOT, write_discs
from PIL import Image

from ssl_jax import open_fields
from ssl_jax import run as runs
from ssl_jax.datasets import synthetic
from ssl_jax.errors import Stopped, UserError
from ssl_jax.io.run_log import replace_text
from ssl_jax.parsing import stage_list
from ssl_jax.reports import dry_run
from ssl_jax.running import configuration_report, self_configuration, stage_runner, step_time
from ssl_jax.running import configuration_rules as rules


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  """Fields of the page for small cells of about 10 pixels, 80 x 80."""
  folder = tmp_path_factory.mktemp('data')
  cells = synthetic.load(labeled=8, unlabeled=0, test=0, size=80).labeled
  for part in ('labeled/images', 'labeled/masks', 'more'):
    (folder / part).mkdir(parents=True)
  for i in range(8):
    image = Image.fromarray(cells[i]['image'])
    image.save(folder / 'labeled' / 'images' / f'cell{i}.png')
    Image.fromarray(cells[i]['label']).save(folder / 'labeled' / 'masks' / f'cell{i}.png')
    Image.fromarray(255 - cells[i]['image']).save(folder / 'more' / f'more{i}.png')
  return {'data.labeled': str(folder / 'labeled'), 'data.unlabeled': str(folder / 'more')}


def _page(data, name='your_images', **fields):
  config = runpy.run_path(str(ROOT / 'configs' / f'{name}.py'))['get_config']()
  config.update_from_flattened_dict({'num_seeds': 1, **data})
  for key, value in fields.items():
    config.update_from_flattened_dict({key.replace('__', '.'): value})
  return config


def _plain(data, **fields):
  return stage_list.plain(_page(data, **fields))


@pytest.fixture
def measured(monkeypatch):
  """Counts measurements of a step, and says half a second of each."""
  calls = []

  def measure(settings, splits, stop):
    calls.append(settings)
    return step_time.StepTime(0.5, 20.0, step_time.work(settings))

  monkeypatch.setattr(step_time, 'measure', measure)
  return calls


@pytest.fixture
def untrained(monkeypatch):
  """Runs whose stages do nothing but log a step."""
  done = []

  def do(spec, workdir, stop):
    done.append((spec.name, spec.settings))
    replace_text(workdir / spec.name / 'metrics.jsonl', '{"step": 1}\n')
    raise Stopped('enough')

  monkeypatch.setattr(stage_runner, 'do', do)
  return done


def test_everything_open_is_decided(data, measured):
  decided = self_configuration.configure(_plain(data))
  page = decided.page
  assert page['steps'] == 2400  # 20 minutes at half a second
  assert (page['eval_every'], page['labels_first']) == (600, 600)
  assert page['crop_size'] == (96, 96)  # the images have 80 pixels
  assert page['batch'] == {'labeled': 8, 'unlabeled': 8}
  # Weights and widths may stay empty: then they are the network's own.
  assert set(open_fields.open_leaves(page)) <= {
    f'model.{part}' for part in ('pretrained', 'widths', 'backbone', 'fixed')
  }
  assert list(decided.decisions) == list(page['configure'])
  # The costliest stage is timed, with all streams.
  assert [set(settings.batch) for settings in measured] == [{'labeled', 'unlabeled'}]


def test_what_a_person_sets_stays(data, measured):
  page = _plain(
    data, crop_size=(64, 64), batch__labeled=2, views__strong__jitter__hue=0.4, steps=30
  )
  decided = self_configuration.configure(page)
  assert decided.page['crop_size'] == (64, 64)
  assert decided.page['batch'] == {'labeled': 2, 'unlabeled': 8}
  assert decided.page['views']['strong']['jitter']['hue'] == 0.4
  assert decided.decisions['crop_size'].reason == 'set by you'
  assert decided.decisions['batch'].reason.endswith('(labeled: set by you)')
  assert decided.decisions['steps'] == rules.Choice(30, 'set by you')
  # Nothing depends on the time of a step any more.
  assert not measured
  assert decided.page['eval_every'] == 7


def test_a_network_of_ones_own_is_taken_as_it_is(data, measured):
  config = _page(data)
  config.model.name = 'deeplabv3plus'
  decided = self_configuration.configure(stage_list.plain(config), timing=False)
  assert decided.page['model']['name'] == 'deeplabv3plus'
  assert decided.page['model']['widths'] is None
  assert decided.decisions['model'].reason == 'set by you'


def test_a_run_decides_once_and_a_resumed_run_takes_over(
  data, measured, untrained, tmp_path, capsys
):
  with pytest.raises(Stopped):
    runs.run(_page(data), tmp_path / 'run')
  assert 'The whole run will take about' in capsys.readouterr().out
  first = (tmp_path / 'run' / 'config.json').read_bytes()
  with pytest.raises(Stopped):
    runs.run(_page(data), tmp_path / 'run')
  assert 'settings stay those of' in capsys.readouterr().out
  assert len(measured) == 1
  assert (tmp_path / 'run' / 'config.json').read_bytes() == first
  assert untrained[0] == untrained[1]


def test_seeds_and_stages_may_be_added_without_a_new_measurement(
  data, measured, untrained, tmp_path
):
  with pytest.raises(Stopped):
    runs.run(_page(data), tmp_path / 'run')
  config = _page(data)
  config.stages = (*config.to_dict()['stages'], dict(name='longer'))
  with pytest.raises(Stopped):
    runs.run(config, tmp_path / 'run')
  assert len(measured) == 1


@pytest.mark.parametrize(
  ('fields', 'says'),
  [
    ({'minutes': 5.0}, 'minutes was 20.0, now it is 5.0'),
    ({'crop_size': (64, 64)}, 'crop_size was open, now it is'),
    ({'data__test_fraction': 0.5}, 'data.test_fraction was 0.25, now it is 0.5'),
  ],
)
def test_other_wishes_are_refused_once_a_training_has_begun(
  data, measured, untrained, tmp_path, fields, says
):
  with pytest.raises(Stopped):
    runs.run(_page(data), tmp_path / 'run')
  with pytest.raises(UserError, match=says):
    runs.run(_page(data, **fields), tmp_path / 'run')
  assert len(measured) == 1


def test_other_images_are_refused_once_a_training_has_begun(data, measured, untrained, tmp_path):
  with pytest.raises(Stopped):
    runs.run(_page(data), tmp_path / 'run')
  path = tmp_path / 'run' / 'configuration.json'
  stored = json.loads(path.read_text())
  path.write_text(json.dumps(stored | {'data': stored['data'] + 1}))
  with pytest.raises(UserError, match='its images or masks have changed since'):
    runs.run(_page(data), tmp_path / 'run')


def test_before_anything_has_begun_other_wishes_are_decided_anew(
  data, measured, untrained, tmp_path
):
  with pytest.raises(Stopped):
    runs.run(_page(data), tmp_path / 'run')
  (tmp_path / 'run' / 'control' / 'metrics.jsonl').unlink()
  with pytest.raises(Stopped):
    runs.run(_page(data, minutes=5.0), tmp_path / 'run')
  assert [settings.steps for _, settings in untrained] == [2400, 600]


@pytest.mark.parametrize(
  ('fields', 'says'),
  [
    ({'minutes': 0.0}, 'minutes=0.0 is no number of minutes above 0'),
    ({'minutes': -3.0}, 'minutes=-3.0 is no number'),
    ({'data__labeled': '/nowhere'}, 'nowhere'),
    ({'data__unlabeled': None}, 'no unlabeled images'),
    ({'configure': ('crop_sise',)}, 'crop_sise cannot be decided from the data'),
    ({'crop_size': (2, 2)}, 'crop_size=2 is not in the range'),
  ],
)
def test_what_is_wrong_gets_a_sentence_before_anything_is_measured(
  data, measured, tmp_path, fields, says
):
  with pytest.raises(UserError, match=says):
    runs.run(_page(data, **fields), tmp_path / 'run')
  assert not measured
  assert not (tmp_path / 'run').exists()


def test_minutes_are_refused_where_they_have_no_effect(page):
  page.minutes = 5.0
  with pytest.raises(UserError, match='minutes=5 has no effect'):
    self_configuration.configure(stage_list.plain(page))


def test_a_dry_run_shows_what_needs_no_measurement(data, measured):
  text = dry_run.describe(_page(data), 'your_images')
  assert 'Chosen for your data\n  data.scale: 1.0 (' in text
  assert 'crop_size: 96 x 96 (' in text
  assert 'steps follow from the time of a step on this machine' in text
  assert 'labels_first' not in text
  assert not measured
  report = json.loads(dry_run.describe(_page(data), 'your_images', as_json=True))
  assert report['decisions']['batch']['value'] == {'labeled': 8, 'unlabeled': 8}
  assert report['stages'][0]['config']['steps'] is None


def test_the_page_for_people(data, measured, untrained, tmp_path):
  with pytest.raises(Stopped):
    runs.run(_page(data, crop_size=(64, 64)), tmp_path / 'run')
  text = (tmp_path / 'run' / 'configuration.md').read_text()
  assert text.startswith('# How this run was configured\n')
  assert '| field | value | why |' in text
  assert '| `crop_size` | 64 x 64 | set by you |' in text
  assert '| `steps` | 2,400 | one step takes 0.5 s on this machine' in text
  assert "    --config.crop_size='(64,64)'" in text
  assert '    --config.views.strong.jitter.hue=' in text
  assert '    --config.batch.unlabeled=8' in text
  assert '- 6 labeled and 8 unlabeled images' in text
  assert '- size in pixels (rows, columns): 80 x 80' in text


def test_the_words_of_the_page_set_what_they_say(data, measured):
  """A command with all words of configuration.md gives the same run without deciding anything."""
  decided = self_configuration.configure(_plain(data))
  config = _page(data)
  for field, choice in decided.decisions.items():
    for word in configuration_report.overrides(field, choice):
      name, _, value = word.removeprefix('--config.').partition('=')
      kind = type(open_fields.get(decided.page, name))
      read = tuple(map(int, value.strip("'()").split(','))) if kind is tuple else kind(value)
      config.update_from_flattened_dict({name: read})
  again = self_configuration.configure(stage_list.plain(config))
  assert stage_list.resolve(again.page) == stage_list.resolve(decided.page)
  assert len(measured) == 1


def test_patches_get_a_batch_and_a_length(tmp_path, measured):
  write_discs(tmp_path / 'labeled', images=8)
  write_discs(tmp_path / 'more', images=2, seed=1)
  fields = {
    'data.labeled': str(tmp_path / 'labeled'),
    'data.unlabeled': str(tmp_path / 'more' / 'images'),
  }
  decided = self_configuration.configure(stage_list.plain(_page(fields, 'your_cells')))
  assert decided.page['batch'] == {'labeled': 32, 'unlabeled': 32}
  assert decided.page['methods']['hydramix']['ramp_up_steps'] == 600
  assert decided.page['crop_size'] == (41, 41)


def test_a_step_is_really_timed(data):
  config = _page(data, crop_size=(32, 32), batch__labeled=2, batch__unlabeled=2)
  config.model.update(name='unet', widths=(4, 8))
  page = self_configuration.configure(stage_list.plain(config), timing=False).page
  spec = step_time.costliest(stage_list.resolve(page))
  assert spec.name == 'fixmatch'
  splits = self_configuration.build.splits(spec.settings.data)
  timed = step_time.measure(spec.settings, splits, lambda: False)
  assert 0 < timed.seconds < timed.compile_seconds
  with pytest.raises(Stopped, match='before the first training'):
    step_time.measure(spec.settings, splits, lambda: True)


def test_the_time_of_a_whole_run(data, measured):
  page = self_configuration.configure(_plain(data, num_seeds=3)).page
  control, fixmatch, verdict, final = stage_list.resolve(page)
  assert (final.settings.num_seeds, final.settings.data.kwargs['test_fraction']) == (1, 0)
  # Weak views are only predicted: 8 + 8 / 3 + 8 images, and 8.
  assert step_time.work(fixmatch.settings) == pytest.approx(18.67, abs=0.01)
  assert step_time.work(control.settings) == 8
  timed = step_time.StepTime(0.5, 20.0, step_time.work(fixmatch.settings))
  splits = self_configuration.build.splits(fixmatch.settings.data)._replace(test=None)
  seconds = step_time.run_seconds([control, fixmatch, verdict], timed, splits)
  # Without test images: 2400 steps, 3 seeds, 8 / 18.67 of the time for the control; two compiled.
  assert seconds == pytest.approx(3 * 2400 * 0.5 * (1 + 8 / 18.67) + 2 * 1.5 * 20, rel=1e-3)


@pytest.mark.parametrize(
  ('seconds', 'words'),
  [
    (0.2, 'a few seconds'),
    (10, '10 seconds'),
    (89, '89 seconds'),
    (91, '2 minutes'),
    (7140, '119 minutes'),
    (7200, '2 hours'),
    (11_500, '3 hours 10 minutes'),
  ],
)
def test_times_in_words(seconds, words):
  assert step_time.in_words(seconds) == words


def test_open_fields_of_a_page():
  page = {'configure': ('crop_size', 'batch'), 'crop_size': None, 'batch': {'labeled': 4}}
  # What is not there at all was taken away, and is not to be decided.
  assert open_fields.open_leaves(page) == ['crop_size']
  assert open_fields.without_open(page) == {
    'configure': ('crop_size', 'batch'), 'batch': {'labeled': 4}
  }  # fmt: skip
  assert open_fields.put(page, 'batch.labeled', 2)['batch'] == {'labeled': 2}
  assert page['batch'] == {'labeled': 4}
  assert np.isclose(open_fields.get(page, 'batch.labeled'), 4)
  assert open_fields.get(page, 'batch.labeled.more') is None
