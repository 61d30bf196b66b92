"""Exported networks say what `predict` says, for images of any size."""

import json
import os
import runpy
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from jax import export as jax_export
from PIL import Image

from ssl_jax import build, export, parallel, settings
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.data.volume_preprocessing import VolumePreprocessing, scale_window
from ssl_jax.errors import UserError
from ssl_jax.exports import (
  bioimage_package,
  equality,
  exported_network,
  needed_packages,
  onnx_file,
  stablehlo_files,
)
from ssl_jax.exports.bioimage_package import Details
from ssl_jax.exports.exported_network import Member, Network
from ssl_jax.inference import sliding_window
from ssl_jax.inference.patches import predict_patches
from ssl_jax.inference.trained_networks import state_predict_fn
from ssl_jax.parsing import parse_settings
from ssl_jax.types import TrainState
from tests.conftest import tiny_page

# Multiples of what the network needs, no multiples, and a side below the padding.
SIZES = ((32, 48), (37, 41), (3, 50))


def _network(stats, members=1, size=(32, 32), **model):
  """Networks as `exported_network.load` returns them, with random weights."""
  page = tiny_page().to_dict()
  page |= {'model': model, 'crop_size': size}
  settings = parse_settings.parse({key: page[key] for key in page if key != 'stages'})
  learner = build.learner(
    *(settings.part(part) for part in (exported_network.Learning, _inputs())),
    settings.steps,
    stats,
    methods=False,
  )
  rng = np.random.default_rng(0)
  example = jax.ShapeDtypeStruct((1, *size, stats.channels), np.float32)
  shapes = jax.eval_shape(learner.init, jax.random.key(0), example, stats.normalization()).student
  found, weights = [], {}
  for number in range(members):
    tree = jax.tree.map(lambda leaf: _random(rng, leaf.shape), shapes)
    state = TrainState(np.zeros((), np.int32), tree, tree, (), stats.normalization())
    predict_fn = state_predict_fn(
      parallel.jit_predict(learner.predict), state, size, learner.multiple
    )
    bare = state.replace(student={}, ema=None)
    found.append(Member(learner.predict, predict_fn, bare, True, stats, learner.multiple, None))
    flat = exported_network.traverse_util.flatten_dict(tree, sep='/')
    weights |= {f'{number}/{path}': array for path, array in flat.items()}
  return Network(tuple(found), weights, (), settings)


def _inputs():
  from ssl_jax.settings import Inputs

  return Inputs


def _random(rng, shape):
  """Positive where it may be a variance; kernels of the usual size."""
  if len(shape) == 1:
    return rng.uniform(0.5, 1.5, shape).astype(np.float32)
  return rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape).astype(np.float32)


def _stats(channels=3, **more):
  given = dict(intensity=None, mean=(0.4,) * channels, std=(0.3,) * channels, counts={'labeled': 4})
  return DatasetStats(('background', 'cell', 'edge'), channels, fingerprint=1, **given | more)


DEEP = dict(kind=dict(dtypes=('uint16',), layouts=('grey',)), intensity=(100.0, 900.0), scale=0.6)


@pytest.fixture(scope='module')
def rgb():
  return _network(_stats(), name='unet', widths=(4, 8, 8), norm='group')


@pytest.fixture(scope='module')
def deep():
  """16 bits, made smaller by the training, and two seeds."""
  return _network(_stats(1, **DEEP), members=2, name='unet', widths=(4, 8))


def _image(network, size, seed=0):
  stats = network.stats
  high = 255 if stats.intensity is None else 1000
  pixels = np.random.default_rng(seed).integers(0, high, (*size, stats.channels))
  return pixels.astype(network.dtypes()[0])


def _assert_equal(probs, expected, mask=None):
  np.testing.assert_allclose(probs, expected, atol=2e-5)
  if mask is not None:
    # Where two classes are equally likely, rounding may choose either.
    ordered = np.sort(expected, -1)
    sure = ordered[..., -1] - ordered[..., -2] > 1e-4
    assert sure.mean() > 0.9
    assert (mask == expected.argmax(-1))[sure].all()


@pytest.mark.parametrize('which', ['rgb', 'deep'])
def test_stablehlo_says_what_predict_says(which, request):
  network = request.getfixturevalue(which)
  dtype = np.dtype(network.dtypes()[0])
  program = jax_export.deserialize(bytearray(stablehlo_files.serialized(network, dtype)))
  assert program.platforms == ('cpu', 'cuda', 'tpu')
  call = jax.jit(program.call)
  for size in SIZES:
    image = _image(network, size)
    probs, mask = call(dict(network.weights), np.stack([image, image]))
    assert mask.dtype == np.uint8
    _assert_equal(np.asarray(probs[1]), equality.predicted(network, image), np.asarray(mask[1]))


def test_the_loader_needs_no_ssl_jax(rgb, tmp_path):
  files = stablehlo_files.write(rgb, tmp_path)
  assert {*files} == {path.name for path in tmp_path.iterdir()}
  image = _image(rgb, (37, 41))
  Image.fromarray(image).save(tmp_path / 'image.png')
  code = (
    'import runpy, sys; sys.modules["ssl_jax"] = None; sys.argv = sys.argv[1:]; '
    'runpy.run_path(sys.argv[0], run_name="__main__")'
  )
  words = [tmp_path / name for name in ('load.py', 'image.png', 'mask.png')]
  environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
  subprocess.run([sys.executable, '-I', '-c', code, *words], check=True, env=environment)
  expected = equality.predicted(rgb, image)
  _assert_equal(expected, expected, np.asarray(Image.open(tmp_path / 'mask.png')))


@pytest.mark.parametrize('which', ['rgb', 'deep'])
def test_onnx_says_what_predict_says(which, request):
  onnx = pytest.importorskip('onnx', reason='the extra export is not installed')
  runtime = pytest.importorskip('onnxruntime', reason='the extra export is not installed')
  network = request.getfixturevalue(which)
  model = onnx_file.to_model(network, with_mask=True)
  onnx.checker.check_model(model, full_check=True)
  session = runtime.InferenceSession(model.SerializeToString())
  for size in SIZES:
    image = _image(network, size)
    batch = np.moveaxis(np.stack([image, image]), -1, 1).astype(np.float32)
    probs, mask = session.run(['probabilities', 'mask'], {'image': batch})
    _assert_equal(np.moveaxis(probs[1], 0, -1), equality.predicted(network, image), mask[1])


NETWORKS = {
  'nnunet': dict(widths=(4, 8, 8)),
  'prominence_unet': dict(widths=(4, 8), stem=4),
  'unet_efficientnet': {},
  'unet_resnet': dict(backbone='resnet18'),
  'deeplabv2': dict(backbone='resnet18'),
  'deeplabv3plus': dict(backbone='resnet18'),
  'pspnet': dict(backbone='resnet18'),
}


QUICK = 'nnunet'
MARKED = [pytest.param(name, marks=() if name == QUICK else pytest.mark.slow) for name in NETWORKS]


@pytest.mark.parametrize('name', MARKED)
def test_every_network_of_images_becomes_onnx(name):
  pytest.importorskip('onnx', reason='the extra export is not installed')
  pytest.importorskip('onnxruntime', reason='the extra export is not installed')
  network = _network(_stats(), name=name, **NETWORKS[name])
  model = onnx_file.to_model(network, with_mask=False).SerializeToString()
  for size in ((64, 64), (45, 70)):
    image = _image(network, size)
    _assert_equal(equality.ask_onnx(model, image), equality.predicted(network, image))


def test_the_bioimage_package_passes_the_zoo_s_own_test(deep, tmp_path):
  pytest.importorskip('onnx', reason='the extra export is not installed')
  core = pytest.importorskip('bioimageio.core', reason='the extra export is not installed')
  image = _image(deep, (96, 80))
  details = Details('Cells', ['Ada Byron'], 'CC-BY-4.0')
  probs = equality.predicted(deep, image)
  bioimage_package.write(deep, details, image, probs, tmp_path)
  summary = core.test_description(tmp_path / bioimage_package.FILE)
  assert summary.status == 'passed', summary.format()
  difference = equality.check('bioimage', deep, image, tmp_path, [bioimage_package.FILE])
  assert difference < 2e-5
  with zipfile.ZipFile(tmp_path / bioimage_package.FILE) as package:
    assert {'rdf.yaml', 'cover.png', 'documentation.md'} <= {*package.namelist()}


def test_a_license_that_does_not_exist_is_refused(rgb, tmp_path):
  pytest.importorskip('onnx', reason='the extra export is not installed')
  pytest.importorskip('bioimageio.spec', reason='the extra export is not installed')
  image = _image(rgb, (64, 64))
  probs = np.full((64, 64, 3), 1 / 3, np.float32)
  with pytest.raises(UserError, match='license'):
    bioimage_package.write(rgb, Details('Cells', ['Ada'], 'none of them'), image, probs, tmp_path)
  assert not list(tmp_path.iterdir())


def test_files_that_say_something_else_are_deleted(rgb, tmp_path):
  files = stablehlo_files.write(rgb, tmp_path)
  changed = {name: array * 2 for name, array in rgb.weights.items()}
  other = rgb._replace(weights=changed)
  with pytest.raises(UserError, match='deleted'):
    equality.check('stablehlo', other, _image(rgb, (32, 32)), tmp_path, files)
  assert not list(tmp_path.iterdir())


def test_scaled_sizes_round_as_python_does():
  for scale in (0.5, 0.37, 0.05):
    for size in range(1, 120):
      assert exported_network.scaled_size(size, scale) == max(round(size * scale), 1)


def test_the_door_writes_and_overwrites_nothing(finished, tmp_path, capsys):
  out = tmp_path / 'out'
  assert export.main([str(finished), str(out)]) == 0
  printed = capsys.readouterr().out
  assert 'differ from those of predict by at most' in printed
  assert str(finished / 'fixmatch') in printed
  assert export.main([f'--run={finished}', f'--out={out}']) == 1
  assert 'not an empty folder' in capsys.readouterr().err


@pytest.mark.parametrize(
  ('more', 'sentence'),
  [
    ([], '--out is missing'),
    (['--out=new', '--format=bioimage'], '--example'),
    (['--out=new', '--format=bioimage', '--example=a.png'], '--license'),
  ],
)
def test_what_is_missing_is_named(more, sentence, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  assert export.main(['--run=run', *more]) == 1
  assert sentence in capsys.readouterr().err
  assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(needed_packages.importlib.util, 'find_spec', lambda name: None)
  assert export.main([f'--run={tmp_path}', f'--out={tmp_path / "o"}', '--format=onnx']) == 1
  assert 'pip install' in capsys.readouterr().err


CT = VolumePreprocessing(spacing=(1.0, 1.0, 2.0), window=((-100.0, 300.0), (0.0, 50.0)))
VOLUMES = {
  'raw': dict(preprocessing=CT.to_dict()),
  'clipped': dict(preprocessing=CT._replace(clip=True).to_dict()),
  'scaled': dict(preprocessing=VolumePreprocessing().to_dict()),
}
WINDOW = (16, 20, 12)


def _of_volumes(which, **more):
  return _network(_stats(2, **VOLUMES[which]), size=WINDOW, **more)


@pytest.fixture(scope='module')
def volumes():
  return _of_volumes('raw', name='nnunet', widths=(4, 8))


def test_stablehlo_of_volumes_says_what_predict_says_of_a_window(volumes):
  window = equality.read_example(None, volumes)
  assert window.shape == (*WINDOW, 2)
  window[:3] = 1000  # outside of the range of the training
  program = jax_export.deserialize(
    bytearray(stablehlo_files.serialized(volumes, np.dtype('float32')))
  )
  probs, mask = jax.jit(program.call)(dict(volumes.weights), np.stack([window, window]))
  expected = equality.predicted(volumes, window)
  assert expected.std() > 0.05
  _assert_equal(np.asarray(probs[1]), expected, np.asarray(mask[1]))


@pytest.mark.parametrize('which', VOLUMES)
def test_onnx_of_volumes_says_what_predict_says_of_a_window(which, volumes):
  pytest.importorskip('onnx', reason='the extra export is not installed')
  pytest.importorskip('onnxruntime', reason='the extra export is not installed')
  network = volumes
  if which != 'raw':  # the weights stay
    stats = _stats(2, **VOLUMES[which])
    network = volumes._replace(members=(volumes.members[0]._replace(stats=stats),))
  window = equality.read_example(None, network)
  window[:3] *= 1.5
  model = onnx_file.to_model(network, with_mask=True).SerializeToString()
  _assert_equal(equality.ask_onnx(model, window), equality.predicted(network, window))


def test_the_loader_of_volumes_slides_windows_as_predict_does(volumes, tmp_path):
  files = stablehlo_files.write(volumes, tmp_path)
  assert {*files} == {path.name for path in tmp_path.iterdir()}
  about = json.loads((tmp_path / 'volume.json').read_text())
  assert (about['spacing_mm'], about['size']) == ([2.0, 1.0, 1.0], list(WINDOW))
  # Smaller than a window along y.
  volume = np.random.default_rng(0).uniform(-150, 350, (25, 18, 30, 2)).astype(np.float32)
  scaled = [scale_window(volume[..., c], *CT.window[c]) for c in range(2)]
  expected = sliding_window.predict_probabilities(
    volumes.members[0].predict_fn.predict_fn, np.stack(scaled, -1), WINDOW
  )
  np.save(tmp_path / 'volume.npy', volume)
  code = (
    'import runpy, sys; sys.modules["ssl_jax"] = None; sys.argv = sys.argv[1:]; '
    'runpy.run_path(sys.argv[0], run_name="__main__")'
  )
  words = [tmp_path / name for name in ('load.py', 'volume.npy', 'mask.npy')]
  environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
  subprocess.run([sys.executable, '-I', '-c', code, *words], check=True, env=environment)
  _assert_equal(expected, expected, np.load(tmp_path / 'mask.npy'))


def test_slices_are_exported_as_images_in_the_range_of_volumes():
  preprocessing = VolumePreprocessing(window=(0.0, 200.0), slices=True, size=(32, 32))
  network = _network(_stats(1, preprocessing=preprocessing.to_dict()), name='unet', widths=(4, 8))
  assert network.window is None
  plane = np.random.default_rng(0).uniform(-50, 250, (37, 41, 1)).astype(np.float32)
  program = jax_export.deserialize(
    bytearray(stablehlo_files.serialized(network, np.dtype('float32')))
  )
  probs, _ = jax.jit(program.call)(dict(network.weights), plane[None])
  _assert_equal(np.asarray(probs[0]), equality.predicted(network, plane))


def test_patches_of_cells_have_classes_and_places(tmp_path):
  onnx = pytest.importorskip('onnxruntime', reason='the extra export is not installed')
  model = dict(name='hydra', depth=10, width=1, classify=(8,), locate=(8,))
  network = _network(_stats(task='cells'), size=(21, 21), **model)
  patches = np.random.default_rng(0).integers(0, 255, (2, 21, 21, 3)).astype(np.uint8)
  images = patches.astype(np.float32) / 255
  expected, points = predict_patches(network.members[0].predict_fn, images, 2)
  assert np.asarray(points).std() > 0
  stablehlo_files.write(network, tmp_path)
  loaded = runpy.run_path(str(tmp_path / 'load.py'))
  found = loaded['predict'](patches)
  session = onnx.InferenceSession(onnx_file.to_model(network, True).SerializeToString())
  channels_first = np.moveaxis(patches, -1, 1).astype(np.float32)
  for probs, places in (found, session.run(['probabilities', 'points'], {'image': channels_first})):
    np.testing.assert_allclose(probs, expected, atol=2e-5)
    np.testing.assert_allclose(places, points, atol=2e-5)
  assert (
    equality.check('stablehlo', network, patches[0], tmp_path, ['program_uint8.stablehlo']) < 2e-5
  )


def test_generators_and_packages_of_volumes_are_refused(volumes, tmp_path, monkeypatch, capsys):
  generator = replace(volumes.settings, gan=settings.Gan())
  monkeypatch.setattr(exported_network.run_folder, 'stage_entry', lambda run: {'run': 'train_gan'})
  with pytest.raises(UserError, match='makes images'):
    exported_network._check(Path('run'), generator)
  monkeypatch.setattr(exported_network, 'load', lambda run, every_seed: volumes)
  monkeypatch.setattr(needed_packages, 'check', lambda name: None)
  words = ['--run=run', f'--out={tmp_path / "out"}', '--format=bioimage', '--example=a.png']
  assert export.main([*words, '--license=CC0-1.0', '--author=Ada']) == 1
  assert 'was trained on volumes or patches' in capsys.readouterr().err
  assert not (tmp_path / 'out').exists()
