"""The documentation says what is there: links, commands, code."""

import ast
import fnmatch
import re
import runpy
import shlex

import numpy as np
import pytest
from conftest import ROOT

from ssl_jax import predict, run
from ssl_jax.datasets import synthetic
from ssl_jax.io.images import write_image
from ssl_jax.io.masks import read_mask
from ssl_jax.parsing import stage_list

PAGES = sorted([ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', ROOT / 'CHANGELOG.md'])
PAGES += sorted((ROOT / 'docs').rglob('*.md'))


def _outside_code(text):
  return re.sub(r'```.*?```', '', text, flags=re.DOTALL)


def _anchors(text):
  """The anchors that a web page of the file gets, one for each heading."""
  headings = re.findall(r'^#+ (.*)$', _outside_code(text), flags=re.MULTILINE)
  plain = [re.sub(r'[^\w\- ]', '', heading.lower()) for heading in headings]
  return {heading.replace(' ', '-') for heading in plain}


@pytest.mark.parametrize('page', PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
  for link in re.findall(r'\]\(([^)\s]+)\)', _outside_code(page.read_text())):
    if link.startswith('http'):
      continue
    name, _, anchor = link.partition('#')
    target = page.parent / name if name else page
    assert target.exists(), f'{page.name}: {link}'
    if anchor:
      assert anchor in _anchors(target.read_text()), f'{page.name}: {link}'


def _commands():
  """Documented commands of main.py with a page of configs/: (file, words after main.py)."""
  commands = []
  for page in PAGES:
    for line in page.read_text().splitlines():
      if line.startswith('    ') and 'python main.py' in line:
        words = shlex.split(line.split('python main.py')[1])
        if not any('mine/' in word for word in words):
          commands.append(pytest.param(words, id=f'{page.stem}-{len(commands)}'))
  return commands


@pytest.mark.parametrize('words', _commands())
def test_fields_and_stages_of_a_command_are_there(words):
  file, only, fields = 'configs/quickstart.py', '*', {}
  for word in words:
    flag, _, value = word.partition('=')
    if flag == '--config':
      file = value.replace('PAGE', 'fixmatch_lisc.py')
    elif flag == '--only':
      only = value
    elif flag.startswith('--config.'):
      fields[flag.removeprefix('--config.')] = value
  # PAGE:WORD gives the page a word, as in flare22.py:2.
  file, _, word = file.partition(':')
  config = runpy.run_path(str(ROOT / file))['get_config'](*([word] if word else []))
  for field, text in fields.items():
    *path, last = field.split('.')
    section = config
    for name in path:
      section = section[name]
    assert last in section, f'{file} has no field {field}'
    try:
      section[last] = ast.literal_eval(text)
    except (ValueError, SyntaxError):
      section[last] = text
  page = stage_list.plain(config)
  stage_list.reach(page, fields)
  names = [spec.name for spec in stage_list.resolve(page)]
  for pattern in only.split(','):
    assert fnmatch.filter(names, pattern), f'--only={pattern} is no stage of {file}'


def test_fixmatch_is_shown_whole():
  code = (ROOT / 'ssl_jax' / 'methods' / 'fixmatch.py').read_text()
  assert f'```python\n{code}```' in (ROOT / 'docs' / 'adding.md').read_text()


def test_parts_of_ones_own_run_as_they_are_shown(tmp_path, monkeypatch):
  text = (ROOT / 'docs' / 'adding.md').read_text()
  files = re.findall(r'`(mine/[\w/]+\.py)`:\n\n```python\n(.*?)```', text, flags=re.DOTALL)
  assert len(files) == 5
  for name, code in files:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
  cells = synthetic.load(labeled=8, unlabeled=4, test=0, size=32)
  records = [cells.labeled[i] for i in range(8)]
  np.savez(
    tmp_path / 'cells.npz',
    images=np.stack([record['image'] for record in records]),
    masks=np.stack([record['label'] > 0 for record in records]),
    unlabeled=np.stack([cells.unlabeled[i]['image'] for i in range(4)]),
  )
  monkeypatch.chdir(tmp_path)
  config = runpy.run_path('mine/page.py')['get_config']()
  config.update(steps=2, eval_every=2, num_seeds=1, crop_size=(16, 16))
  config.data.file = 'cells.npz'
  done = run.run(config, 'runs/mine')
  assert np.isfinite(done['test/miou'])
  covered = [done[f'coverage/coverage/{name}'] for name in ('background', 'object')]
  assert sum(covered) == pytest.approx(100)
  assert (tmp_path / 'runs' / 'mine' / 'coverage' / 'coverage.csv').exists()

  (tmp_path / 'new').mkdir()
  write_image(tmp_path / 'new' / 'a.png', records[0]['image'])
  assert predict.main(['--run=runs/mine', '--images=new', '--out=out']) == 0
  assert read_mask(tmp_path / 'out' / 'masks' / 'a.png').shape == (32, 32)
