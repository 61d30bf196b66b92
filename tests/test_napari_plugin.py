"""The panels for napari: what they compute and save; with napari itself where it is installed."""

import inspect
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from conftest import ROOT
from PIL import Image

from ssl_jax import napari_plugin, predict
from ssl_jax.datasets import synthetic
from ssl_jax.errors import UserError
from ssl_jax.io.masks import read_mask


@pytest.fixture
def image(tmp_path):
  """A file, and the layer as which napari opens it."""
  pixels = synthetic.load(labeled=1, unlabeled=0, test=0, size=40).labeled[0]['image']
  (tmp_path / 'in').mkdir()
  path = tmp_path / 'in' / 'cell.png'
  Image.fromarray(pixels).save(path)
  return _layer(pixels, path)


def _layer(pixels, path=None, name='cell'):
  source = SimpleNamespace(path=None if path is None else str(path))
  return SimpleNamespace(data=pixels, rgb=pixels.ndim == 3, name=name, source=source, scale=(1, 1))


def test_the_mask_is_that_of_predict(finished, image, tmp_path):
  ids, properties, kind = napari_plugin.predict_layer(image, finished)
  assert (kind, properties['name']) == ('labels', 'cell mask')
  words = [f'--run={finished}', f'--images={tmp_path / "in"}', f'--out={tmp_path / "out"}']
  assert predict.main(words) == 0
  np.testing.assert_array_equal(ids, read_mask(tmp_path / 'out' / 'masks' / 'cell.png'))


def test_a_corrected_mask_is_saved_beside_its_image(image, tmp_path):
  mask = _layer(np.eye(40, dtype=np.int32) * 2)
  assert napari_plugin.save_label(image, mask, tmp_path / 'labeled').endswith('masks/cell.png')
  stored = tmp_path / 'labeled' / 'images' / 'cell.png'
  assert stored.read_bytes() == Path(image.source.path).read_bytes()
  np.testing.assert_array_equal(read_mask(tmp_path / 'labeled' / 'masks' / 'cell.png'), mask.data)
  # A second time nothing is overwritten.
  with pytest.raises(UserError, match='is there already'):
    napari_plugin.save_label(image, mask, tmp_path / 'labeled')


def test_many_objects_become_a_tiff_and_a_layer_without_a_file_too(tmp_path):
  image = _layer(np.arange(1600, dtype=np.uint16).reshape(40, 40))
  mask = _layer(np.arange(1600, dtype=np.int32).reshape(40, 40))
  napari_plugin.save_label(image, mask, tmp_path)
  np.testing.assert_array_equal(read_mask(tmp_path / 'masks' / 'cell.tif'), mask.data)
  np.testing.assert_array_equal(read_mask(tmp_path / 'images' / 'cell.tif'), image.data)


def test_what_is_no_image_is_a_sentence(image, tmp_path):
  with pytest.raises(UserError, match='is a stack or a volume'):
    napari_plugin.pixels_of(SimpleNamespace(data=np.zeros((4, 8, 8)), rgb=False, name='stack'))
  with pytest.raises(UserError, match='not as large'):
    napari_plugin.save_label(image, _layer(np.zeros((8, 8), int)), tmp_path)


def test_the_manifest_names_what_is_there():
  manifest = yaml.safe_load((ROOT / 'ssl_jax' / 'napari.yaml').read_text())
  commands = {one['id']: one['python_name'] for one in manifest['contributions']['commands']}
  for name in commands.values():
    module, _, function = name.partition(':')
    assert module == 'ssl_jax.napari_plugin'
    # napari makes a field of a panel from each annotated parameter.
    for parameter in inspect.signature(getattr(napari_plugin, function)).parameters.values():
      assert parameter.annotation is not inspect.Parameter.empty
  assert {one['command'] for one in manifest['contributions']['widgets']} == set(commands)


def test_napari_accepts_the_manifest():
  npe2 = pytest.importorskip('npe2')
  manifest = npe2.PluginManifest.from_file(ROOT / 'ssl_jax' / 'napari.yaml')
  manifest.validate_imports()
  assert [widget.display_name for widget in manifest.contributions.widgets] == [
    'Predict',
    'Save as a label',
  ]
