"""Going on from a finished run: what messages advise is followed."""

import json
import shlex
import shutil

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from ssl_jax import cli
from ssl_jax.errors import UserError
from ssl_jax.io.run_log import read_done
from ssl_jax.running import continuation

PAGE = """
import sys
sys.path.insert(0, {tests!r})
import conftest
from ml_collections import ConfigDict

def get_config():
  config = conftest.tiny_page()
  config.unlock()
  config.data = ConfigDict(dict(
    name='folder', labeled={data!r}, test_fraction=0.34, classes=('background', 'cell')
  ))
  config.views = ConfigDict(dict(labeled=dict(source='labeled')))
  config.methods = ConfigDict(dict(supervised=dict(weight=1.0)))
  config.batch = ConfigDict(dict(labeled=2))
  config.update(stages=(), table=(), steps=2, eval_every=2, crop_size=(16, 16))
  return config.lock()
"""


def _write_image(folder, number):
  rng = np.random.default_rng(number)
  mask = np.zeros((20, 20), np.uint8)
  mask[4:12, 5:15] = 1
  pixels = (rng.normal(90, 5, mask.shape) + 80 * mask).astype(np.uint8)
  for kind, array in (('images', pixels), ('masks', mask)):
    (folder / kind).mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(folder / kind / f'im{number}.png')


@pytest.fixture(scope='module')
def first(tmp_path_factory):
  """A folder with the images data/, the page page.py, and its finished run `run`."""
  folder = tmp_path_factory.mktemp('going')
  for number in range(3):
    _write_image(folder / 'data', number)
  page = PAGE.format(tests=str(ROOT / 'tests'), data=str(folder / 'data'))
  (folder / 'page.py').write_text(page)
  assert cli.train(_words(folder)) == 0
  return folder


@pytest.fixture
def folder(first, tmp_path):
  """A copy of it."""
  copy = tmp_path / 'copy'
  shutil.copytree(first, copy)
  # As if it had been made there.
  for path in (copy / 'page.py', copy / 'run' / 'config.json'):
    path.write_text(path.read_text().replace(str(first), str(copy)))
  return copy


def _words(folder, *more, run='run'):
  return [f'--config={folder / "page.py"}', *more, f'--workdir={folder / run}']


def _advice(words, capsys):
  """The words of the command that a refusal advises."""
  with pytest.raises(SystemExit) as ended:
    cli.train(words)
  assert ended.value.code == 1
  sentence = capsys.readouterr().err
  assert 'Traceback' not in sentence
  program, page, *rest = shlex.split(sentence.split('start from its networks: ')[1])
  assert (program, page) == ('python', 'main.py')
  return sentence, rest


def _content(folder):
  return {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_more_steps_are_a_new_run_that_starts_from_the_old(folder, capsys):
  before = _content(folder / 'run')
  words = _words(folder, '--config.steps=4')
  sentence, advised = _advice(words, capsys)
  assert 'holds a run of another config: steps was 2, now it is 4' in sentence
  assert cli.train(advised) == 0
  said = capsys.readouterr().out
  assert f'Starts from {folder / "run"}, step 2; steps, optimizer and schedule begin anew' in said
  new = folder / 'run-2'
  assert read_done(new)['steps'] == 4
  record = json.loads((new / 'weights.json').read_text())
  assert record['run'] == str(folder / 'run')
  assert record['random'] == []
  # The same images, the same draw: the test is still unseen.
  assert 'test_images_seen' not in record
  assert json.loads((new / 'provenance.json').read_text())[-1]['init_from'] == str(folder / 'run')
  assert json.loads((new / 'config.json').read_text())['init_from'] == str(folder / 'run')
  assert _content(folder / 'run') == before
  # The advice of a second try names the next free folder.
  _, advised = _advice(words, capsys)
  assert f'--workdir={folder / "run-3"}' in advised


def test_new_images_are_a_new_run(folder, capsys):
  before = _content(folder / 'run')
  for number in range(3, 6):
    _write_image(folder / 'data', number)
  sentence, advised = _advice(_words(folder), capsys)
  assert 'The data have changed since' in sentence
  assert '(images: labeled 2 -> 4, test 1 -> 2)' in sentence
  assert cli.train(advised) == 0
  said = capsys.readouterr().out
  record = json.loads((folder / 'run-2' / 'weights.json').read_text())
  # Which images are the test is drawn anew, of all six.
  seen = record.get('test_images_seen', [])
  assert (f'learned from {len(seen)} of the test images' in said) == bool(seen)
  assert set(seen) <= {'im0', 'im1', 'im2'}
  assert _content(folder / 'run') == before


def test_test_images_that_the_network_has_seen_are_counted(folder, capsys):
  """The new run tests on the very images that the old one learned from."""
  words = _words(folder, '--config.seed=1', f'--config.init_from={folder / "run"}', run='new')
  assert cli.train(words) == 0
  record = json.loads((folder / 'new' / 'weights.json').read_text())
  assert len(record['test_images_seen']) == 1
  assert 'Scores will be too good' in capsys.readouterr().out


def test_other_classes_have_a_new_head(folder, capsys):
  words = _words(
    folder,
    "--config.data.classes=('background','nucleus')",
    f'--config.init_from={folder / "run"}',
    run='new',
  )
  assert cli.train(words) == 0
  said = capsys.readouterr().out
  assert 'its classes are background, cell, here background, nucleus, so the head starts' in said
  record = json.loads((folder / 'new' / 'weights.json').read_text())
  assert record['random'] == ['head/bias', 'head/kernel']


@pytest.mark.parametrize(
  ('named', 'says'),
  [
    ('nowhere', 'There is no folder .*nowhere'),
    ('data', 'holds no config.json, so it is no run'),
    ('run', 'is the folder of this run itself; give another --workdir'),
  ],
)
def test_what_cannot_be_gone_on_from_is_named(folder, named, says):
  with pytest.raises(UserError, match=says):
    continuation.adopt({'init_from': str(folder / named), 'model': {}}, folder / 'run')


def test_a_run_without_a_checkpoint_is_no_beginning(folder):
  shutil.rmtree(folder / 'run' / 'checkpoints')
  with pytest.raises(UserError, match='has no checkpoint yet'):
    continuation.adopt({'init_from': str(folder / 'run'), 'model': {}}, folder / 'new')
  # No advice that would not work.
  assert 'init_from' not in continuation.refusal(folder / 'run', 'steps was 2, now it is 4')


def test_another_network_gets_no_advice_to_start_from_it(folder):
  text = continuation.refusal(folder / 'run', 'model.widths was [4, 8], now it is [8, 16]')
  assert text.endswith('use another --workdir, or delete the folder.')


def test_a_network_that_the_page_leaves_open_is_that_of_the_run(folder):
  page = {
    'init_from': str(folder / 'run'),
    'configure': ('model', 'normalize', 'steps'),
    'normalize': None,
    'steps': None,
    'model': {'name': None, 'pretrained': None, 'backbone': None, 'widths': None, 'fixed': None},
  }
  page = continuation.adopt(page, folder / 'new')
  assert page['normalize'] == 'data'
  assert page['steps'] is None
  model = page['model']
  assert (model['name'], model['widths']) == ('unet', (4, 8))
  assert model['pretrained'] == str(folder / 'run')


def test_flags_are_taken_out_of_a_command():
  command = 'python main.py --config=a.py --workdir old --config.init_from=x --config.steps=3'
  advice = continuation.advice(ROOT / 'no_such_run', command)
  new = f'{ROOT / "no_such_run"}-2'
  assert advice.endswith(
    f'python main.py --config=a.py --config.steps=3 --config.init_from={ROOT / "no_such_run"} '
    f'--workdir={new}'
  )
  assert 'init_from=' in continuation.advice(ROOT / 'no_such_run')


def test_a_stage_starts_from_the_stage_of_its_name(tmp_path):
  stages = [{'name': 'control'}, {'name': 'fixmatch'}, {'name': 'verdict', 'run': 'compare'}]
  (tmp_path / 'config.json').write_text(json.dumps({'stages': stages}))
  for name in ('control/seed_0', 'control/seed_1', 'fixmatch'):
    (tmp_path / name / 'checkpoints' / '10').mkdir(parents=True)
  (tmp_path / 'control' / 'config.json').write_text('{}')
  assert continuation.network_of(tmp_path, 'control') == tmp_path / 'control' / 'seed_0'
  # Any other stage starts from the network that the run is about.
  assert continuation.network_of(tmp_path, 'uda') == tmp_path / 'fixmatch'
  assert (
    continuation.network_of(tmp_path / 'control', 'fixmatch') == tmp_path / 'control' / 'seed_0'
  )
