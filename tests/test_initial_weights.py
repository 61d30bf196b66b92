"""What a training starts from: published weights, another run, or what a run goes without."""

import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest

from ssl_jax import build, settings
from ssl_jax.errors import UserError
from ssl_jax.io.folders import user_cache
from ssl_jax.run import run
from ssl_jax.stages.learning import initial_weights
from ssl_jax.training import pretrained, published_weights


@pytest.fixture
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  return tmp_path / 'cache' / 'ssl_jax' / 'weights'


@pytest.fixture
def published(tmp_path, monkeypatch):
  """A folder that stands for the address of the files, with one file of the right digits."""
  folder = tmp_path / 'address'
  folder.mkdir()
  content = b'the weights of a small network'
  name = f'resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth'
  (folder / name).write_bytes(content)
  monkeypatch.setattr(published_weights, 'ADDRESS', f'{folder.as_uri()}/')
  monkeypatch.setitem(published_weights.FILES, 'resnet18', name)
  return folder / name


def test_the_cache_is_where_other_programs_have_theirs(monkeypatch, tmp_path):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  assert user_cache.folder() == tmp_path / 'ssl_jax'
  # The specification: empty is the same as not set.
  monkeypatch.setenv('HOME', '/home/somebody')
  monkeypatch.setenv('XDG_CACHE_HOME', '')
  assert user_cache.folder() == Path('/home/somebody/.cache/ssl_jax')
  monkeypatch.delenv('XDG_CACHE_HOME')
  assert user_cache.folder() == Path('/home/somebody/.cache/ssl_jax')


def test_without_a_home_the_cache_is_among_temporary_files(monkeypatch):
  def nowhere():
    raise RuntimeError('Could not determine home directory.')

  monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
  monkeypatch.setattr(Path, 'home', nowhere)
  assert user_cache.folder().parent == Path(tempfile.gettempdir())


def test_a_file_is_downloaded_once_and_kept(cache, published):
  found = published_weights.find('resnet18')
  assert found == cache / published.name
  assert found.read_bytes() == published.read_bytes()
  assert [path.name for path in cache.iterdir()] == [published.name]
  published.unlink()
  assert published_weights.find('resnet18') == found


def test_a_machine_without_a_network_is_told_what_to_put_where(cache, published):
  content = published.read_bytes()
  published.unlink()
  with pytest.raises(UserError) as caught:
    published_weights.find('resnet18')
  sentence = str(caught.value)
  assert f'{published_weights.ADDRESS}{published.name} cannot be downloaded' in sentence
  # As it advises: the file of another machine, put where it says.
  place = Path(sentence.split('put it at ')[1].split(';')[0])
  place.write_bytes(content)
  assert published_weights.find('resnet18') == place


def test_a_file_of_other_digits_is_refused(cache, published):
  cache.mkdir(parents=True)
  (cache / published.name).write_bytes(b'half of it')
  with pytest.raises(UserError, match=r'is not the published file .*delete it and start again'):
    published_weights.find('resnet18')
  (cache / published.name).unlink()
  assert published_weights.find('resnet18').is_file()


def test_backbones_without_published_weights_are_named():
  with pytest.raises(UserError, match=r"no such weights of 'efficientnet_lite3' \(but of effic"):
    published_weights.find('efficientnet_lite3')
  with pytest.raises(UserError, match=r"pretrained='imagenet': unet has no backbone"):
    initial_weights.check(settings.Model(name='unet', pretrained='imagenet'))


def test_the_files_are_those_of_torchvision():
  for backbone, name in published_weights.FILES.items():
    stem, digits = name.removesuffix('.pth').split('-')
    assert stem == backbone
    assert len(bytes.fromhex(digits)) == 4


def frozen(name, pretrained=None, **kwargs):
  return build.frozen_by_default(settings.Model(name=name, pretrained=pretrained, kwargs=kwargs))


def test_statistics_are_frozen_where_an_efficientnet_is_pretrained(monkeypatch):
  assert frozen(name='unet_efficientnet', pretrained='imagenet')
  assert frozen(name='unet_efficientnet', pretrained='a.pth')
  assert not frozen(name='unet_efficientnet')
  assert not frozen(name='unet_resnet', pretrained='imagenet')
  assert frozen(name='unet_resnet', backbone='efficientnet_lite0', pretrained='imagenet')
  # Without the package there are no weights, and random ones need statistics of their own.
  monkeypatch.setitem(published_weights.PACKAGES, 'efficientnet_lite0', 'no_such_package')
  assert not frozen(name='unet_efficientnet', pretrained='imagenet')


def tiny(page, **model):
  page.unlock()
  page.stages, page.steps, page.num_seeds = (), 1, 1
  page.optimizer = dict(name='sgd', lr=0.0)
  page.model = model
  return page


def saved_params(folder):
  step = ocp.StandardCheckpointer().restore(folder / 'checkpoints' / '1' / 'default')
  return step['student']['params']


def test_imagenet_is_one_word(page, tmp_path):
  page = tiny(page, name='unet_efficientnet', pretrained='imagenet', widths=(8, 8, 8))
  run(page, tmp_path / 'run')
  arrays = pretrained.read_arrays(published_weights.find('efficientnet_lite0'))
  kernel = saved_params(tmp_path / 'run')['backbone']['blocks_3']['depthwise_conv']['kernel']
  theirs = arrays['_blocks.3._depthwise_conv.weight'].transpose(2, 3, 1, 0)
  np.testing.assert_array_equal(kernel, theirs)
  record = json.loads((tmp_path / 'run' / 'weights.json').read_text())
  # The name of the file carries the first digits of its SHA-256.
  assert record['file'] == f'efficientnet-lite0-{record["sha256"][:8]}.pth'


def test_without_the_package_a_run_says_so_and_goes_on(tmp_path, monkeypatch):
  monkeypatch.setitem(published_weights.PACKAGES, 'efficientnet_lite0', 'no_such_package')
  model = settings.Model(name='unet_efficientnet', pretrained='imagenet')
  initial_weights.check(model)
  (note,) = initial_weights.notes(model)
  assert 'the package no-such-package is not installed, so efficientnet_lite0 starts' in note
  assert initial_weights.pretrained_path(model) is None


def test_a_run_of_ones_own_gives_what_fits(page, tmp_path, capsys):
  page = tiny(page, name='unet', widths=(4, 8))
  run(page, tmp_path / 'first')
  before = saved_params(tmp_path / 'first')
  # Another seed, so that whatever is equal was taken over.
  page.seed = 5
  page.model.pretrained = str(tmp_path / 'first')
  # One class more: the head does not fit.
  page.heads = dict(extra=1)
  run(page, tmp_path / 'second')
  after = saved_params(tmp_path / 'second')
  np.testing.assert_array_equal(
    after['down0_1']['conv']['kernel'], before['down0_1']['conv']['kernel']
  )
  assert after['head']['kernel'].shape[-1] == before['head']['kernel'].shape[-1] + 1
  record = json.loads((tmp_path / 'second' / 'weights.json').read_text())
  assert record['step'] == 1
  assert record['random'] == ['head/bias', 'head/kernel']
  assert '2 arrays stay random (head/bias, head/kernel)' in capsys.readouterr().out


def test_a_verdict_is_told_what_a_network_began_as(tmp_path):
  stage = tmp_path / 'control'
  stage.mkdir()
  (stage / 'config.json').write_text(json.dumps({'methods': {'supervised': {}}}))
  for seed, record in enumerate(
    [
      {'run': 'a', 'methods': ['supervised', 'fixmatch'], 'test_images_seen': ['im1', 'im2']},
      {'run': 'b', 'methods': ['supervised'], 'test_images_seen': ['im3']},
    ]
  ):
    (stage / f'seed_{seed}').mkdir(parents=True)
    (stage / f'seed_{seed}' / 'weights.json').write_text(json.dumps(record))
  assert initial_weights.doubts(stage) == [
    'control started from networks that had learned from 3 of its test images.',
    'control started from a network that had been trained with fixmatch.',
  ]
  # Published weights are no run.
  (stage / 'seed_0' / 'weights.json').write_text(json.dumps({'file': 'a.pth'}))
  (stage / 'seed_1' / 'weights.json').unlink()
  assert initial_weights.doubts(stage) == []


def test_a_run_of_another_network_is_refused(page, tmp_path):
  page = tiny(page, name='unet', widths=(4, 8))
  run(page, tmp_path / 'first')
  page.model.widths = (8, 16)
  page.model.pretrained = str(tmp_path / 'first')
  with pytest.raises(UserError, match=r'first is of another network: \d+ of [\d,]+ parameters'):
    run(page, tmp_path / 'second')
  page.model.pretrained = str(tmp_path)
  with pytest.raises(UserError, match=r'holds no config.json, so it is no run'):
    run(page, tmp_path / 'third')
  assert not (tmp_path / 'third').exists()
