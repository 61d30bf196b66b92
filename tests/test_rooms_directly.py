"""Parts of the rooms exports and inspection, each asked by itself."""

import argparse
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import write_discs

from ssl_jax import settings
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.errors import UserError
from ssl_jax.exports import export_folder, onnx_graph, onnx_operations, onnx_program, volume_files
from ssl_jax.io import images
from ssl_jax.reports.inspection import (
  inspect_folders,
  inspection_page,
  pixels_of_folders,
  points_of_folders,
  volumes_of_folders,
)

NAMES = ('image', ('result',))


def test_a_program_with_open_sizes_becomes_onnx():
  onnx = pytest.importorskip('onnx', reason='the extra export is not installed')
  runtime = pytest.importorskip('onnxruntime', reason='the extra export is not installed')

  def program(weights, x):
    return (jnp.maximum(x * weights['scale'] - 0.5, 0).sum(2),)

  weights = {'scale': np.array([1.0, 2.0, 3.0], np.float32)[:, None]}
  model = onnx_program.to_onnx(program, weights, 'b, 3, w', np.float32, NAMES, {'0': 'background'})
  onnx.checker.check_model(model, full_check=True)
  assert model.opset_import[0].version == onnx_graph.OPSET
  session = runtime.InferenceSession(model.SerializeToString())
  for shape in ((1, 3, 4), (2, 3, 7)):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    [found] = session.run(['result'], {'image': x})
    np.testing.assert_allclose(found, program(weights, x)[0], rtol=1e-5)


def test_an_operation_that_is_not_known_is_named():
  pytest.importorskip('onnx', reason='the extra export is not installed')
  with pytest.raises(NotImplementedError, match='the operation sort'):
    onnx_program.to_onnx(lambda _, x: (jnp.sort(x),), {}, 'b, 3', np.float32, NAMES, {})


def test_a_constant_is_a_value_without_a_name():
  value = onnx_operations.Value((2,), np.dtype('float32'), array=np.zeros(2, np.float32))
  assert value.array is not None
  assert not value.name


def test_what_a_program_must_know_of_volumes():
  stats = DatasetStats(('background', 'a'), 2, None, (0.5,) * 2, (0.25,) * 2, {}, 0)
  ct = dict(spacing=(1.0, 1.5, 2.0), window=((-100.0, 300.0), (0.0, 50.0)))
  known = volume_files.about(
    settings.Settings(crop_size=(8, 16, 24)), stats._replace(preprocessing=ct)
  )
  assert known['spacing_mm'] == [2.0, 1.5, 1.0]  # along z first
  assert known['padding'] == [-100.0, 0.0]
  assert known['size'] == [8, 16, 24]
  assert known['values'].startswith('raw')


def test_a_run_that_is_none_is_named_before_anything_is_written(tmp_path):
  options = argparse.Namespace(run=tmp_path, out=tmp_path / 'out', seeds='first')
  with pytest.raises(UserError, match=str(tmp_path)):
    export_folder.export(options, ['stablehlo'])
  assert not (tmp_path / 'out').exists()


def test_names_and_samples_are_few():
  assert pixels_of_folders.spread([], 3) == []
  paths = [Path(name) for name in 'abcdefg']
  assert pixels_of_folders.spread(paths, 3) == [Path('a'), Path('d'), Path('g')]
  many = [f'{i}.png' for i in range(pixels_of_folders.MOST_NAMED + 2)]
  assert pixels_of_folders.named(many).endswith(' and 2 more')
  assert pixels_of_folders.named(many[:2]) == '0.png, 1.png'


def test_points_without_an_image_and_wrong_lines_are_found(tmp_path):
  write_discs(tmp_path, images=2)
  (tmp_path / 'points' / 'other.csv').write_text('x,y,class\n1,2,red\n')
  (tmp_path / 'points' / 'disc1.csv').write_text('x,y,class\n1,far,red\n')
  assert inspect_folders.kind_of(tmp_path) == 'points'
  paths = sorted((tmp_path / 'images').iterdir())
  headers = {path: images.read_header(path) for path in paths}
  findings = []
  points_of_folders.check(tmp_path, 'labeled', paths, headers, findings)
  assert all(finding.level == pixels_of_folders.PROBLEM for finding in findings)
  told = ' '.join(finding.text for finding in findings)
  assert 'other' in told
  assert 'disc1.csv' in told
  assert 'disc0.csv' not in told


def test_channels_of_a_volume_are_one_case(tmp_path):
  files = [tmp_path / f'a_000{i}.nii.gz' for i in range(2)]
  more = [tmp_path / f'b_000{i}.nii.gz' for i in range(2)]
  cases = volumes_of_folders.group({'labeled': files, 'unlabeled': more}, {'labeled': {'a'}})
  assert cases == {'labeled': [tuple(files)], 'unlabeled': [tuple(more)]}


def test_a_summary_says_what_was_left_out():
  sizes = {f'{side} x {side}, gray, uint8': 1 for side in range(7)}
  row = pixels_of_folders.class_row('cell', 12.5, 3, 4, (10.0, 12.0))
  finding = pixels_of_folders.Finding(pixels_of_folders.PROBLEM, 'a.png is broken.')
  result = inspect_folders.Inspection('images', [finding], {'labeled': 7}, sizes, [row], [], [], [])
  text = inspection_page.summary(result)
  assert 'and 2 more sizes' in text
  assert 'cell: 12.50 % of the pixels, in 3 of 4 images, typically 11 pixels across' in text
  assert text.endswith('Problem: a.png is broken.')
