"""New images against what a run learned from: other kinds are refused or converted with a word."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_orientation import _save

from ssl_jax.data import dataset_stats
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.data.masks import image_kind
from ssl_jax.datasets import folder
from ssl_jax.errors import UserError
from ssl_jax.inference import write_predictions
from ssl_jax.inference.writing.new_image import read_new_image
from ssl_jax.inference.writing.prediction_folder import Origin, open_folder
from ssl_jax.io.formats import stored_image
from ssl_jax.parsing import parse_settings
from ssl_jax.stages.learning import training_sources

RNG = np.random.default_rng(0)


def write(path, array):
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.suffix == '.png':
    Image.fromarray(array).save(path)
  else:
    colors = 'rgb' if array.ndim == 3 and array.shape[-1] == 3 else 'minisblack'
    tifffile.imwrite(path, array, photometric=colors, planarconfig='contig')
  return path


def cells(kind, channels=1, size=16):
  shape = (size, size, channels) if channels > 1 else (size, size)
  top = {'uint8': 255, 'uint16': 4000, 'float32': 3.0}[kind]
  array = RNG.uniform(0.1 * top, top, shape)
  return array.astype(kind)


def trained_on(tmp_path, *arrays):
  """The statistics of a run on these images, as its folder keeps them."""
  for number, array in enumerate(arrays):
    write(tmp_path / 'labeled/images' / f'{number}.tif', array)
    mask = np.zeros(array.shape[:2], np.uint8)
    mask[3:9, 3:9] = 1
    write(tmp_path / 'labeled/masks' / f'{number}.png', mask)
  stats = dataset_stats.compute_stats(folder.load(labeled=tmp_path / 'labeled', test_fraction=0))
  return DatasetStats(**parse_settings.tuples(json.loads(json.dumps(stats._asdict()))))


def read(path, stats):
  notes = image_kind.FileNotes()
  _, prepared = read_new_image(path, stats, notes)
  assert prepared.shape[-1] == stats.channels
  assert prepared.dtype == np.float32
  return notes.sentences()


@pytest.mark.parametrize('kind', ['uint8', 'uint16', 'float32'])
@pytest.mark.parametrize('other', ['uint8', 'uint16', 'float32'])
def test_other_numbers_are_refused_in_a_sentence(tmp_path, kind, other):
  stats = trained_on(tmp_path, cells(kind), cells(kind))
  assert stats.image_kind().dtypes == (kind,)
  path = write(tmp_path / 'new' / 'x.tif', cells(other))
  if kind == other:
    assert read(path, stats) == []
    return
  says = (
    rf'x\.tif is {image_kind.NUMBERS[other]} but the run learned from {image_kind.NUMBERS[kind]}'
  )
  with pytest.raises(UserError, match=says):
    read(path, stats)


def test_both_kinds_of_a_mixed_training_are_taken(tmp_path):
  stats = trained_on(tmp_path, cells('uint8'), cells('uint16'))
  for kind in ('uint8', 'uint16'):
    assert read(write(tmp_path / 'new' / 'x.tif', cells(kind)), stats) == []


def test_a_range_that_cannot_be_that_of_the_training_is_doubted(tmp_path):
  stats = trained_on(tmp_path, cells('float32') * 1000, cells('float32') * 1000)
  small = write(tmp_path / 'new' / 'small.tif', cells('float32') / 3)
  (sentence,) = read(small, stats)
  assert sentence.startswith('small.tif: its values')
  assert 'do not trust its prediction' in sentence
  large = write(tmp_path / 'new' / 'large.tif', cells('float32') * 10_000)
  assert 'do not trust' in read(large, stats)[0]
  # A picture that is somewhat brighter is ordinary.
  assert read(write(tmp_path / 'new' / 'a.tif', cells('float32') * 1200), stats) == []


def test_gray_and_color_are_converted_with_a_word(tmp_path):
  color = trained_on(tmp_path / 'rgb', cells('uint8', 3), cells('uint8', 3))
  gray = trained_on(tmp_path / 'gray', cells('uint8'), cells('uint8'))
  gray_file = write(tmp_path / 'new' / 'g.png', cells('uint8'))
  equal = write(tmp_path / 'new' / 'e.png', np.repeat(cells('uint8')[..., None], 3, -1))
  assert read(gray_file, color) == ['g.png: gray, repeated to the RGB from which the run learned']
  assert read(equal, gray) == ['e.png: RGB, taken as the gray from which the run learned']
  with pytest.raises(UserError, match=r'c\.png is in color'):
    read(write(tmp_path / 'new' / 'c.png', cells('uint8', 3)), gray)


@pytest.mark.parametrize('channels', [2, 4, 5])
def test_another_number_of_channels_is_refused(tmp_path, channels):
  stats = trained_on(tmp_path, cells('uint16', channels), cells('uint16', channels))
  assert stats.channels == channels
  assert len(stats.intensity) == channels
  assert read(write(tmp_path / 'new' / 'x.tif', cells('uint16', channels)), stats) == []
  for other in {1, 2, 3, 4, 5} - {channels}:
    path = write(tmp_path / 'new' / 'x.tif', cells('uint16', other))
    with pytest.raises(UserError, match=rf'has {other} channels? but .* trained on {channels}'):
      read(path, stats)


def test_a_run_of_an_earlier_version_still_predicts(tmp_path):
  stats = trained_on(tmp_path, cells('uint16'), cells('uint16'))
  kept = json.loads(json.dumps(stats._asdict()))
  del kept['kind']
  old = DatasetStats(**parse_settings.tuples(kept))
  assert read(write(tmp_path / 'new' / 'x.tif', cells('uint16')), old) == []
  # Not known to be another kind, but known to be out of range.
  assert 'do not trust' in read(write(tmp_path / 'new' / 'f.tif', cells('float32') / 3), old)[0]


def test_a_training_of_an_earlier_version_goes_on(tmp_path):
  stats = trained_on(tmp_path, cells('uint16'), cells('uint16'))
  folder_of_run = tmp_path / 'run'
  (folder_of_run / 'checkpoints' / '10').mkdir(parents=True)
  kept = stats._asdict()
  del kept['kind']
  (folder_of_run / 'data.json').write_text(json.dumps(kept))
  assert training_sources.has_begun(folder_of_run)
  training_sources.keep_stats(folder_of_run, stats)
  other = stats._replace(kind={**stats.kind, 'dtypes': ('uint8',)})
  (folder_of_run / 'data.json').write_text(json.dumps(other._asdict()))
  with pytest.raises(UserError, match='have changed since its training began: kind was'):
    training_sources.keep_stats(folder_of_run, stats)


def bright(images):
  """A network that calls the bright pixels class 1."""
  dark = (np.asarray(images)[..., :1] < 0.5).astype(np.float32)
  return np.concatenate([dark, 1 - dark], -1)


def predicted(stats, folder):
  """Predicts folder/new into folder/out; returns what was refused."""
  with open_folder(folder / 'out', folder / 'new', Origin('run', 'network', {})) as out:
    return write_predictions.write(bright, write_predictions.Masks(stats), folder / 'new', out)


@pytest.mark.parametrize('drawn', ['tag', 'stored'])
def test_predicted_masks_lie_as_those_of_the_training_did(tmp_path, drawn, capsys):
  stats = trained_on(tmp_path, cells('uint8'), cells('uint8'))
  stats = stats._replace(kind={**stats.kind, 'masks_stored': drawn == 'stored'})
  (tmp_path / 'new').mkdir()
  stored = np.zeros((16, 24), np.uint8)
  stored[2:7, 3:20] = 255
  _save(tmp_path / 'new' / 'a.png', stored, 6)
  assert predicted(stats, tmp_path) == []
  with Image.open(tmp_path / 'out/masks/a.png') as mask:
    expected = stored if drawn == 'stored' else stored_image.turn(stored, 6)
    np.testing.assert_array_equal(np.asarray(mask) * 255, expected)
  says = 'the pixels as stored' if drawn == 'stored' else 'the turned image'
  assert f'its mask lies on {says}' in capsys.readouterr().out


def test_images_with_many_channels_are_predicted_and_shown(tmp_path):
  stats = trained_on(tmp_path, cells('uint16', 4), cells('uint16', 4))
  write(tmp_path / 'new' / 'a.tif', cells('uint16', 4))
  write(tmp_path / 'new' / 'f.tif', cells('float32', 4))
  refused = predicted(stats, tmp_path)
  assert len(refused) == 1
  assert 'f.tif is floating point' in refused[0]
  with Image.open(tmp_path / 'out/overlays/a.png') as overlay:
    assert overlay.mode == 'RGB'
