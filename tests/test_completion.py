"""Completion in shells: the tables behind it, and the scripts in the shells that are there."""

import importlib
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from ssl_jax import cli, completion, registry
from ssl_jax.parsing import commands, parse_settings
from ssl_jax.parsing.page_files import page_files


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.mark.parametrize(
  'command', ['inspect', 'new-page', 'predict', 'report', 'suggest', 'table']
)
def test_options_are_those_of_the_help(command, capsys):
  with pytest.raises(SystemExit):
    importlib.import_module(commands.module_of(command)).main(['--help'])
  told = re.findall(r'^  (?:-h, )?--(\w+)( [\w{])?', capsys.readouterr().out, re.MULTILINE)
  expected = {name: bool(value) for name, value in told if name != 'help'}
  assert {name: o.takes_value for name, o in commands.options(command).items()} == expected


def test_every_command_is_a_module_with_a_main():
  for command in commands.COMMANDS:
    if command != 'train':
      path = ROOT / 'ssl_jax' / f'{command.replace("-", "_")}.py'
      assert 'def main(' in path.read_text()


@pytest.mark.parametrize(
  ('line', 'found'),
  [
    ('ssl-jax pre', ['predict']),
    ('ssl-jax predict --o', ['--out=', '--overwrite', '--overlap=', '--overlays']),
    ('ssl-jax predict --run=', ['@directories']),
    ('ssl-jax predict --run ', ['@directories']),
    ('ssl-jax predict --resume --bu', ['--budget=']),
    ('ssl-jax report ', ['@directories']),
    ('ssl-jax new-page --task=c', ['--task=cells']),
    ('ssl-jax train --dry_run=j', ['--dry_run=json']),
    ('ssl-jax train --config=quick', ['--config=quickstart']),
    ('ssl-jax train --config=./some', ['@files']),
    ('ssl-jax train --config.opt', ['--config.optimizer.']),
    ('ssl-jax train --config.schedule.p', ['--config.schedule.power=']),
    ('ssl-jax train --config.teacher=', ['--config.teacher=student', '--config.teacher=ema']),
    ('ssl-jax train --config.redraw=T', ['--config.redraw=True']),
    ('ssl-jax train --config=your_images --config.data.la', ['--config.data.labeled=']),
    ('ssl-jax train --config=your_images --config.data.labeled=', ['@files']),
    ('ssl-jax train --config=your_images:curve --config.methods.f', ['--config.methods.fixmatch.']),
    ('ssl-jax train --config.nothing=', []),
    ('ssl-jax nothing --', []),
  ],
)  # fmt: skip
def test_what_a_word_may_become(line, found):
  assert completion.complete(line) == found


def test_all_fields_of_a_page_and_all_networks_are_known():
  [page] = [path for path in page_files() if path.stem == 'quickstart']
  known = completion.fields(page)
  assert {name.split('.')[0] for name in known} >= set(parse_settings.FIELDS) - {'heads'}
  assert known['model.name'] == registry.known('models')
  assert 'views.strong.cutmix.p' in known
  # Every completed field can be set.
  words = [f'--config.{name}=1' for name in known]
  assert cli._field_problems(words, cli._load_page(f'--config={page}')) == []


def test_a_page_that_changes_has_other_fields_and_a_broken_one_none(tmp_path):
  page = tmp_path / 'mine.py'
  text = (ROOT / 'configs' / 'quickstart.py').read_text()
  page.write_text(text)
  assert 'methods.uda.weight' not in completion.fields(page)
  more = '  config.methods.uda = dict()\n  return settings.complete('
  page.write_text(text.replace('  return settings.complete(', more))
  os.utime(page, (1, 1))
  assert 'methods.uda.weight' in completion.fields(page)
  page.write_text('this is no page')
  assert completion.fields(page) == {}
  assert completion.fields(tmp_path / 'nowhere.py') == {}


def test_a_completion_imports_neither_jax_nor_numpy():
  completion.complete('ssl-jax train --config.')  # fills the cache
  program = """
import sys
from ssl_jax import completion
assert completion.complete('ssl-jax train --config.st')
assert completion.complete('ssl-jax predict --r')
print(sorted({'jax', 'numpy', 'absl', 'ml_collections'} & set(sys.modules)))
"""
  printed = subprocess.run(
    [sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True, check=True
  )
  assert printed.stdout.strip() == '[]'


def _environment():
  return os.environ | {'PYTHONPATH': str(ROOT)}


BASH = r"""
eval "$("$1" -m ssl_jax.completion bash)"
complete -p ssl-jax
# What readline gives to the function, and what it would put in the place of the last word.
COMP_LINE=$2
COMP_POINT=${#2}
compopt() { echo "compopt $1 $2"; }
_ssl_jax
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(not shutil.which('bash'), reason='needs bash')
@pytest.mark.parametrize(
  ('line', 'found'),
  [
    ('ssl-jax pre', ['predict']),
    # Bash replaces what follows the equals sign.
    ('ssl-jax train --config=quick', ['quickstart']),
    ('ssl-jax train --config.optimizer.name=s', ['sgd']),
    ('ssl-jax train --config.opt', ['compopt -o nospace', '--config.optimizer.']),
    ('ssl-jax report FOLDER/a', ['compopt -o filenames', 'FOLDER/a folder']),
    ('ssl-jax predict --run=FOLDER/a', ['compopt -o filenames', 'FOLDER/a folder']),
  ],
)
def test_bash(line, found, tmp_path):
  (tmp_path / 'a folder').mkdir()
  line, *found = [text.replace('FOLDER', str(tmp_path)) for text in (line, *found)]
  command = ['bash', '-c', BASH, 'bash', sys.executable, line]
  ended = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=True)
  defined, *printed = ended.stdout.splitlines()
  assert defined == 'complete -F _ssl_jax ssl-jax'
  assert printed == found


@pytest.mark.skipif(not shutil.which('fish'), reason='needs fish')
@pytest.mark.parametrize(
  ('line', 'found'),
  [
    ('ssl-jax pre', 'predict'),
    ('ssl-jax train --config=quick', '--config=quickstart'),
    ('ssl-jax predict --run=FOLDER/a', '--run=FOLDER/a folder/'),
  ],
)
def test_fish(line, found, tmp_path):
  (tmp_path / 'a folder').mkdir()
  line, found = (text.replace('FOLDER', str(tmp_path)) for text in (line, found))
  program = f"'{sys.executable}' -m ssl_jax.completion fish | source; complete -C '{line}'"
  environment = _environment() | {'HOME': str(tmp_path)}
  ended = subprocess.run(
    ['fish', '--no-config', '-c', program], env=environment, capture_output=True, text=True
  )
  assert [text.split('\t')[0] for text in ended.stdout.splitlines()] == [found], ended.stderr


@pytest.mark.skipif(not shutil.which('zsh'), reason='needs zsh')
def test_zsh():
  """The function is defined and hands on what it is told; zsh has no way to ask it for a list."""
  program = f"""
autoload -U compinit; compinit -D
source <('{sys.executable}' -m ssl_jax.completion zsh)
[[ $_comps[ssl-jax] == _ssl_jax ]] || exit 3
compadd() {{ print -l -- "$@" }}
words=(ssl-jax train --config=quick); CURRENT=3; _ssl_jax
words=(ssl-jax train --config.opt); CURRENT=3; _ssl_jax
"""
  ended = subprocess.run(
    ['zsh', '-f', '-c', program], env=_environment(), capture_output=True, text=True
  )
  assert ended.stdout.split() == ['--', '--config=quickstart', '-S', '--', '--config.optimizer.'], (
    ended
  )


def test_the_command_prints_the_script_and_refuses_other_shells(capsys):
  assert completion.main(['fish']) == 0
  assert sys.executable in capsys.readouterr().out
  assert completion.main(['csh']) == 1
  assert 'bash|zsh|fish' in capsys.readouterr().err
