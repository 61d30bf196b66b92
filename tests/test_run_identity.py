"""A run is known by its settings and by what its data are, not by where they lie."""

import json
import shutil
import types

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from ssl_jax import registry, run_folder
from ssl_jax.data.volume_source import FileDigests
from ssl_jax.errors import UserError
from ssl_jax.io.folders import lock
from ssl_jax.parsing import data_locations, stage_list
from ssl_jax.run import run
from ssl_jax.running import run_identity, stage_runner


def _write_images(folder, seed=0):
  rng = np.random.default_rng(seed)
  for kind in ('labeled/images', 'labeled/masks', 'unlabeled'):
    (folder / kind).mkdir(parents=True)
  for number in range(6):
    mask = np.zeros((40, 40), np.uint8)
    mask[8:20, number : number + 12] = 1
    image = (rng.normal(60, 8, (40, 40)) + 90 * mask).astype(np.uint8)
    if number < 4:
      Image.fromarray(image).save(folder / 'labeled' / 'images' / f'c{number}.png')
      Image.fromarray(mask).save(folder / 'labeled' / 'masks' / f'c{number}.png')
    else:
      Image.fromarray(image).save(folder / 'unlabeled' / f'u{number}.png')


def _page(page, folder):
  page.unlock()
  data = dict(labeled=f'{folder}/labeled', unlabeled=f'{folder}/unlabeled')
  page.data = ConfigDict(dict(name='folder', scale=1.0, drop_instances=None, **data))
  page.stages = (dict(name='control', control_of='fixmatch'), dict(name='fixmatch'))
  page.steps, page.eval_every = 2, 2
  return page


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A folder with images in data/ and a finished run in run/."""
  from conftest import tiny_page

  folder = tmp_path_factory.mktemp('identity')
  _write_images(folder / 'data')
  run(_page(tiny_page(), folder / 'data'), folder / 'run')
  return folder


@pytest.fixture
def copied(trained, tmp_path):
  shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
  return tmp_path


def test_moved_data_are_the_same_run(copied, page, capsys, monkeypatch):
  (copied / 'data').rename(copied / 'elsewhere')
  # The first stage is done; the second was killed before its end.
  (copied / 'run' / 'done.json').unlink()
  (copied / 'run' / 'fixmatch' / 'done.json').unlink()
  monkeypatch.chdir(copied)
  done = run(_page(page, 'elsewhere'), copied / 'run')  # a relative path as well
  assert done['fixmatch/steps'] == 2
  assert 'control is done' in capsys.readouterr().out
  # Stages that read a finished one look for the images where they are now.
  for stage in ('control', 'fixmatch'):
    settings = run_folder.read_settings(copied / 'run' / stage)
    assert settings.data.kwargs['labeled'] == 'elsewhere/labeled'


def test_home_is_expanded_in_the_config(copied, page, monkeypatch, capsys):
  monkeypatch.setenv('HOME', str(copied))
  run(_page(page, '~/data'), '~/run')
  assert 'fixmatch is done' in capsys.readouterr().out


@pytest.mark.parametrize('kind', ['images', 'masks'])
def test_other_bytes_in_the_same_place_are_another_run(copied, page, kind):
  path = copied / 'data' / 'labeled' / kind / 'c1.png'
  pixels = np.asarray(Image.open(path)).copy()
  pixels[30:35, 30:35] = pixels.max()
  Image.fromarray(pixels).save(path)
  before = (copied / 'run' / 'done.json').read_bytes()
  with pytest.raises(
    UserError, match=r'The data have changed since .*control was trained.*use another --workdir'
  ):
    run(_page(page, copied / 'data'), copied / 'run')
  assert (copied / 'run' / 'done.json').read_bytes() == before


def test_another_folder_is_another_run(copied, page):
  _write_images(copied / 'other')
  Image.new('L', (40, 40), 9).save(copied / 'other' / 'unlabeled' / 'u4.png')
  with pytest.raises(UserError, match='The data have changed since'):
    run(_page(page, copied / 'other'), copied / 'run')
  run(_page(page, copied / 'other'), copied / 'new')


def test_whether_there_is_a_folder_still_counts(copied, page):
  page = _page(page, copied / 'data')
  _write_images(copied / 'other', seed=1)
  page.data.test = str(copied / 'other' / 'labeled')
  with pytest.raises(UserError, match=r'data\.test was open'):
    run(page, copied / 'run')


def test_two_processes_do_not_share_a_stage(copied, page):
  stage = copied / 'run' / 'fixmatch'
  for folder in (copied / 'run', stage):
    (folder / 'done.json').unlink()
  elsewhere = lock._mine()._replace(host='elsewhere', pid=77)
  (stage / lock.FILE).write_text(json.dumps(elsewhere._asdict()))
  before = {path: path.stat().st_mtime_ns for path in copied.rglob('*') if path.is_file()}
  page = _page(page, copied / 'data')
  page.optimizer.lr = 0.5  # it does not even get so far as to compare the config
  with pytest.raises(UserError, match=r'fixmatch is in use by process 77 on elsewhere \(since 2'):
    run(page, copied / 'run')
  assert before == {p: p.stat().st_mtime_ns for p in copied.rglob('*') if p.is_file()}


def test_of_two_runs_that_start_at_once_none_clears_what_the_other_works_on(copied, page):
  """The other has its lock and its settings, but no step yet; here the stage would be another."""
  for stage in ('control', 'fixmatch'):
    shutil.rmtree(copied / 'run' / stage)
  folder = copied / 'run' / 'fixmatch'
  (copied / 'run' / 'done.json').unlink()
  folder.mkdir()
  (folder / 'config.json').write_text('{}')
  (folder / 'steps.json').write_text('{}')
  holder = {'host': 'elsewhere', 'pid': 77, 'began': 0.0, 'since': '2026-01-01 00:00:00'}
  (folder / lock.FILE).write_text(json.dumps(holder))
  other = _page(page, copied / 'data')
  other.precision = 'float32'  # which a run settles
  other.stages = (other.stages[0], {'name': 'fixmatch', 'optimizer.lr': 0.5})
  specs = stage_list.resolve(stage_list.plain(other))
  with pytest.raises(UserError, match='fixmatch is in use by process 77 on elsewhere'):
    run_identity.refuse_other(copied / 'run', specs, specs[:1])
  assert sorted(path.name for path in folder.iterdir()) == ['config.json', lock.FILE, 'steps.json']
  (folder / lock.FILE).unlink()
  run_identity.refuse_other(copied / 'run', specs, specs[:1])
  assert list(folder.iterdir()) == []


def test_a_stage_keeps_its_settings_while_it_has_the_lock(copied, page, monkeypatch):
  spec = stage_list.resolve(stage_list.plain(_page(page, copied / 'data')))[1]
  folder = copied / 'new' / 'fixmatch'
  seen = []

  def stage(settings, stage_folder, stop):
    seen.append((lock.text(stage_folder) != '', run_folder.read_settings(stage_folder) == settings))
    return {'steps': 2}

  assert not stage_runner.check_done(spec, copied / 'new')
  assert not folder.exists()
  monkeypatch.setattr(registry, 'find', lambda kind, name: types.SimpleNamespace(stage=stage))
  stage_runner.do(spec, copied / 'new', lambda: False)
  assert seen == [(True, True)]
  assert stage_runner.check_done(spec, copied / 'new')


def test_a_stage_that_lost_its_settings_does_not_get_those_of_the_run(copied, page):
  stage = copied / 'run' / 'control'
  methods = run_folder.read_settings(stage).methods
  assert 'fixmatch' not in methods
  (stage / 'config.json').unlink()
  with pytest.raises(UserError, match=r'lost its config\.json; the command of the run writes it'):
    run_folder.read_settings(stage)
  run(_page(page, copied / 'data'), copied / 'run')
  assert run_folder.read_settings(stage).methods == methods


def test_fields_of_paths_are_known_by_their_annotation():
  data = dict(name='folder', labeled='a', unlabeled=None, test_fraction=0.5)
  assert data_locations.without(data) == data | {'labeled': 'a path'}
  counts = dict(name='synthetic', labeled=3, unlabeled=4)
  assert data_locations.without(counts) == counts
  volumes = dict(name='nifti', labeled='a', cache='b')
  assert data_locations.without(volumes) == {'name': 'nifti', 'labeled': 'a path'}


def test_moved_volumes_are_known_by_their_content(tmp_path):
  (tmp_path / 'a.nii').write_bytes(b'voxels')
  with FileDigests(tmp_path / 'cache') as digests:
    before = digests.sha256(tmp_path / 'a.nii')
  (tmp_path / 'a.nii').rename(tmp_path / 'b.nii')
  with FileDigests(tmp_path / 'cache') as digests:
    assert digests.sha256(tmp_path / 'b.nii') == before


def test_settings_of_a_stage_that_is_done_change_in_the_place_of_its_data_alone(page, tmp_path):
  spec = stage_list.resolve(page.to_dict())[0]
  run_identity.keep_settings(spec, tmp_path, done=False)
  stored = run_folder.read_page(tmp_path)
  with page.unlocked():
    page.steps = 99
    page.data.size = 48
  moved = stage_list.resolve(page.to_dict())[0]
  run_identity.keep_settings(moved, tmp_path, done=True)
  now = run_folder.read_page(tmp_path)
  assert now['steps'] == stored['steps'] != 99
  assert now['data']['size'] == 48
  run_identity.keep_settings(moved, tmp_path, done=False)
  assert run_folder.read_page(tmp_path)['steps'] == 99
