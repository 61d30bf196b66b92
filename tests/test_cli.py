"""The command line: help, wrong flags, dry runs, interruptions; what a shell shows."""

import errno
import importlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from ssl_jax import cli, registry, settings
from ssl_jax.data.masks.mask_values import parse_values
from ssl_jax.errors import UserError
from ssl_jax.parsing import parse_settings


def call(*words, timeout=120):
  command = [sys.executable, 'main.py', *words]
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)


@pytest.mark.parametrize(
  ('words', 'says'),
  [
    (['--config.stepz=1'], 'no field stepz (did you mean steps?)'),
    (['--config=configs/fixmatch_lisc.py', '--config.data.stepz=1'], 'data has no field stepz'),
    (['--config.optimizer.learning_rate=1'], 'did you mean lr?'),
    (['--steps=500'], 'fields of the config are set as --config.steps=...'),
    (['--config=configs/nowhere.py'], 'there is no config configs/nowhere.py'),
    (['--config=quikstart'], 'did you mean quickstart?'),
    (['--config.steps=many'], "--config.steps=many: 'many' is no whole number."),
    (
      ['--config=your_images', '--config.data.classes=body,nucleus'],
      "'body,nucleus' is no whole number; give names with the values, as in --config.data.values=",
    ),
    (['--config.optimizer.lr=small'], "'small' is no number."),
    (['--config.methods=3'], '--config.methods=3: it holds fields; set these, each by its name.'),
    (['--config.stages=3', '--dry_run'], 'stages must hold a dict for each stage'),
    (['--config.table=3', '--dry_run'], 'table must hold a dict for each cell'),
    (['--config=configs/lib/recipe.py'], 'did you mean configs/lib/recipes.py?'),
    (['configs/your_images.py'], 'is given as --config=configs/your_images.py'),
    (['--config=configs/gan_self_training_em.py:huge'], "does not know 'huge'"),
    (['--config=README.md'], 'is no Python (unterminated'),
    (['--dry_run=yes'], 'neither table nor json'),
  ],
)
def test_a_wrong_flag_gets_a_sentence(words, says, capsys):
  with pytest.raises(SystemExit) as ended:
    cli.train(words)
  assert ended.value.code == 1
  assert says in capsys.readouterr().err


@pytest.mark.parametrize(
  ('text', 'says'),
  [
    ('def get_config(\n', "mine.py, line 1, is no Python ('(' was never closed)"),
    ('def get_config():\n  return 3\n', 'returns no config; end it with'),
    ('x = 1\n', 'has no function get_config'),
  ],
)
def test_a_page_that_is_none_gets_a_sentence(text, says, tmp_path, capsys):
  page = tmp_path / 'mine.py'
  page.write_text(text)
  with pytest.raises(SystemExit):
    cli.train([f'--config={page}', '--dry_run'])
  assert says in capsys.readouterr().err


def test_all_unknown_fields_are_named_at_once(capsys):
  with pytest.raises(SystemExit):
    cli.train(['--config.stepz=1', '--config.data.siz=3'])
  said = capsys.readouterr().err
  assert '2 things are wrong' in said
  assert 'did you mean steps?' in said
  assert 'did you mean size?' in said


@pytest.mark.parametrize(
  ('words', 'says'),
  [
    (['--config.steps=0'], 'steps=0 is not in the range at least 1'),
    (['--config=configs/your_images.py'], 'data.labeled is not given'),
  ],
)
def test_a_shell_sees_a_sentence_no_traceback_and_no_folder(tmp_path, words, says):
  ended = call(*words, f'--workdir={tmp_path / "run"}')
  assert ended.returncode == 1
  assert says in ended.stderr
  assert 'Traceback' not in ended.stderr
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('flag', ['-h', '--help'])
def test_help_shows_the_pages_without_importing_jax(flag):
  code = f'import sys; sys.argv[1:] = ["{flag}"]; from ssl_jax import cli; cli.train(); ' \
         'sys.exit("jax" in sys.modules)'  # fmt: skip
  ended = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
  assert ended.returncode == 0, ended.stderr
  assert '--config.steps=500' in ended.stdout
  for path in cli.page_files():
    assert path.stem in ended.stdout
  assert 'your_images' in ended.stdout


def test_a_dry_run_resolves_every_stage_and_trains_nothing(tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  words = ['--config=quickstart', '--config.data.test=8', '--config.steps=7']
  assert cli.train([*words, '--dry_run']) == 0
  text = capsys.readouterr().out
  assert '8 labeled, 128 unlabeled, 8 test' in text
  assert (
    'network unet_efficientnet (efficientnet_lite0), 763,571 parameters, computes in float32'
    in text
  )
  assert cli.train([*words, '--dry_run=json']) == 0
  report = json.loads(capsys.readouterr().out)
  control, fixmatch, verdict = report['stages']
  assert [stage['run'] for stage in report['stages']] == ['train', 'train', 'compare']
  assert control['config']['steps'] == fixmatch['config']['steps'] == 7
  assert 'fixmatch' not in control['config']['methods']
  assert fixmatch['config']['methods']['fixmatch']['threshold'] == 0.95
  assert verdict['reads'] == ['fixmatch', 'control']
  assert list(tmp_path.iterdir()) == []


def test_the_console_command_lists_its_parts(capsys, monkeypatch):
  monkeypatch.setattr(sys, 'argv', ['ssl-jax', '--help'])
  assert cli.main() == 0
  said = capsys.readouterr().out
  assert all(f'ssl-jax {name}' in said for name in ('train', 'predict', 'table'))
  monkeypatch.setattr(sys, 'argv', ['ssl-jax', 'trian'])
  assert cli.main() == 1
  assert 'did you mean train?' in capsys.readouterr().out


@pytest.mark.skipif(os.name == 'nt', reason='signals of POSIX')
def test_an_interrupted_import_ends_in_a_sentence():
  process = subprocess.Popen(
    [sys.executable, 'main.py'], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
  )
  assert process.stderr.readline().startswith('Loading JAX')
  time.sleep(0.3)
  process.send_signal(signal.SIGINT)
  _, said = process.communicate(timeout=60)
  assert process.returncode == cli.INTERRUPTED
  assert 'interrupted' in said
  assert 'Traceback' not in said


def test_an_old_page_name_is_not_a_page():
  with pytest.raises(UserError, match='there is no config nothing'):
    cli._with_page('--config=nothing')


def test_an_error_of_the_system_is_a_sentence(capsys):
  with pytest.raises(SystemExit) as ended, cli._sentences('again'):
    raise OSError(errno.ENOSPC, 'No space left on device', 'runs/a/config.json')
  assert ended.value.code == 1
  said = capsys.readouterr().err
  assert said == (
    'ssl_jax: runs/a/config.json cannot be written: the disk is full; free some space and start '
    'again.\n'
  )


@pytest.mark.parametrize('page', ['your_images', 'your_volumes'])
@pytest.mark.parametrize('text', ['205:1, 420:2', '{205: 1, 420: 2}'])
def test_values_of_masks_can_be_typed(page, text):
  """A ConfigDict has a method of that name, which is not to be taken for the field."""
  word = f'--config.data.values={text}'
  request = cli._parse([f'--config={page}', '--config.data.labeled=x', word, '--config.steps=7'])
  data = parse_settings.parse(request.config.to_dict()).data
  assert data.kwargs['values'] == text
  assert registry.kwargs_problems('datasets', data.name, data.kwargs) == []
  assert set(request.overridden) == {'data.labeled', 'data.values', 'steps'}
  mapped = parse_values(data.kwargs['values'], None)
  assert mapped is not None
  assert mapped.ids == {0: 0, 205: 1, 420: 2}


def test_values_of_masks_can_stand_in_a_page():
  config = settings.defaults()
  config.data = dict(name='folder', labeled='x', values={205: 1, 420: 2})
  data = parse_settings.parse(settings.complete(config).to_dict()).data
  # As a run keeps them, and reads them back.
  kept = json.loads(json.dumps(data.kwargs))
  assert registry.kwargs_problems('datasets', 'folder', kept) == []
  for values in (data.kwargs['values'], kept['values']):
    mapped = parse_values(values, None)
    assert mapped is not None
    assert mapped.ids == {0: 0, 205: 1, 420: 2}


def test_compiled_programs_are_kept_where_asked(tmp_path, monkeypatch, capsys):
  seen = []

  def run(*_):
    seen.append(os.environ['JAX_COMPILATION_CACHE_DIR'])

  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', 'before')
  monkeypatch.setattr(importlib.import_module('ssl_jax.run'), 'run', run)
  monkeypatch.chdir(tmp_path)
  assert cli.train(['--cache=programs', '--config=quickstart']) == 0
  assert seen == [str(tmp_path / 'programs')]
  assert (tmp_path / 'programs').is_dir()
  (tmp_path / 'file').write_text('')
  with pytest.raises(SystemExit):
    cli.train(['--cache=file', '--config=quickstart'])
  assert '--cache=file cannot be made (File exists); give a folder.' in capsys.readouterr().err
