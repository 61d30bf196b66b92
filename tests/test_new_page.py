"""`ssl-jax new-page`: a page for one's own data."""

import runpy

import numpy as np
import pytest
from conftest import ROOT, write_discs, write_volumes
from ml_collections import ConfigDict
from PIL import Image

from ssl_jax import new_page, registry
from ssl_jax.datasets import synthetic
from ssl_jax.parsing import stage_list
from ssl_jax.run import run


@pytest.fixture
def cells(tmp_path):
  """Folders of six labeled and four unlabeled images."""
  source = synthetic.load(labeled=10, unlabeled=0, test=0, size=40).labeled
  for kind in ('images', 'masks'):
    (tmp_path / 'labeled' / kind).mkdir(parents=True)
  (tmp_path / 'more').mkdir()
  for i in range(10):
    folder = tmp_path / ('labeled/images' if i < 6 else 'more')
    Image.fromarray(source[i]['image']).save(folder / f'cell{i}.png')
    if i < 6:
      Image.fromarray(source[i]['label']).save(tmp_path / 'labeled' / 'masks' / f'cell{i}.png')
  return tmp_path


def _call(folder, *more, task='masks', page='mine.py'):
  words = [f'--task={task}', f'--labeled={folder / "labeled"}', f'--unlabeled={folder / "more"}']
  return new_page.main([*words, *more, str(folder / page)])


def _config(folder, page='mine.py'):
  return runpy.run_path(str(folder / page))['get_config']()


def test_a_page_holds_what_was_said_and_takes_two_steps(cells):
  assert _call(cells, '--classes=background,cytoplasm,nucleus', '--minutes=7') == 0
  config = _config(cells)
  assert config.is_locked
  assert config.minutes == 7
  assert config.data.classes == ('background', 'cytoplasm', 'nucleus')
  assert config.data.labeled == str(cells / 'labeled')
  with config.unlocked():
    config.model = ConfigDict(dict(name='unet', widths=(4, 8)))
    small = dict(steps=2, eval_every=2, checkpoint_every=2, num_seeds=1, crop_size=(32, 32))
    config.update(small)
    config.batch = ConfigDict(dict(labeled=2, unlabeled=2))
    config.stages = (dict(name='fixmatch'),)
  done = run(config, cells / 'run')
  assert done['steps'] == 2
  assert np.isfinite(done['test/miou'])


def test_every_field_of_the_data_is_explained(cells):
  _call(cells)
  text = (cells / 'mine.py').read_text()
  for name in registry.parameters('datasets', 'folder'):
    assert f'# {name}=' in text or f'    {name}=' in text
  # Help of a field beside its value, and of a setting in a comment.
  assert "    # a folder of images only.\n    unlabeled='" in text
  assert '# Optimizer updates of a training stage.\n  # config.steps = ' in text
  assert all(len(line) <= 100 for line in text.splitlines() if str(cells) not in line)
  # It is the page of configs/, and names itself.
  assert f'--config={(cells / "mine.py").as_posix()}' in text
  assert 'configs/your_images' not in text


def test_without_wishes_it_trains_what_its_base_trains(cells):
  _call(cells)
  ours = stage_list.plain(_config(cells))
  base = runpy.run_path(str(ROOT / 'configs' / 'your_images.py'))['get_config']()
  theirs = stage_list.plain(base)
  theirs['data'] |= {'labeled': str(cells / 'labeled'), 'unlabeled': str(cells / 'more')}
  assert ours == theirs


def test_what_is_there_stays(cells, capsys):
  (cells / 'mine.py').write_text('mine')
  assert _call(cells) == 1
  assert 'is there already and stays as it is' in capsys.readouterr().err
  assert (cells / 'mine.py').read_text() == 'mine'


@pytest.mark.parametrize(
  ('more', 'page', 'says'),
  [
    (['--test=nowhere'], 'mine.py', 'nowhere (--test) does not exist'),
    (['--minutes=0'], 'mine.py', '--minutes=0.0 is not above 0'),
    (['--classes=cell'], 'mine.py', 'neither a number nor several names'),
    ([], 'mine.txt', 'give one that ends in .py'),
    ([], 'my-page.py', 'use letters, digits and _'),
  ],
)
def test_a_mistake_is_a_sentence_and_no_page(cells, more, page, says, capsys):
  assert _call(cells, *more, page=page) == 1
  assert says in capsys.readouterr().err
  assert not (cells / page).exists()


def test_instances_and_volumes_and_cells(tmp_path, capsys):
  write_volumes(tmp_path / 'labeled', count=1)
  (tmp_path / 'more').mkdir()
  assert _call(tmp_path, task='volumes', page='v.py') == 0
  assert _config(tmp_path, 'v.py').data.name == 'nifti'
  # Instances of volumes, as the files show.
  assert _call(tmp_path, task='instances', page='i.py') == 0
  data = _config(tmp_path, 'i.py').data
  assert (data.name, data.instances) == ('nifti', True)
  write_discs(tmp_path / 'discs', images=1)
  labeled = f'--labeled={tmp_path / "discs"}'
  assert _call(tmp_path, labeled, task='cells', page='c.py') == 0
  assert _config(tmp_path, 'c.py').data.name == 'points'
  assert _call(tmp_path, labeled, '--values=205:1', task='cells', page='d.py') == 1
  assert '--values is nothing that pages of cells have' in capsys.readouterr().err
  assert _call(tmp_path, labeled, task='instances', page='e.py') == 0
  data = _config(tmp_path, 'e.py').data
  assert (data.name, data.instances) == ('folder', True)
