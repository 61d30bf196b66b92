"""Masks for a folder of new images, from a finished run."""

import json

import numpy as np
import pytest
from PIL import Image

from ssl_jax import predict, run_folder
from ssl_jax.datasets import synthetic
from ssl_jax.inference import write_predictions

SIZES = {'a.png': (40, 40), 'b.jpg': (33, 50), 'c.bmp': (64, 41)}


@pytest.fixture
def folder(tmp_path):
  cells = synthetic.load(labeled=3, unlabeled=0, test=0, size=64).labeled
  (tmp_path / 'in').mkdir()
  for index, (name, (height, width)) in enumerate(SIZES.items()):
    image = cells[index]['image'][:height, :width]
    Image.fromarray(image).save(tmp_path / 'in' / name)
  return tmp_path


def _given(page):
  """What the page says of its synthetic data."""
  ours = ('name', 'scale', 'drop_instances')
  return {k: v for k, v in page.data.items() if k not in ours and v is not None}


def _call(run, folder, *more):
  images, out = folder / 'in', folder / 'out'
  return predict.main([f'--run={run}', f'--images={images}', f'--out={out}', *more])


def _mask(folder, name):
  with Image.open(folder / 'out' / 'masks' / f'{name}.png') as mask:
    assert mask.mode == 'L'
    return np.asarray(mask)


def test_masks_have_class_ids_at_native_size(finished, folder, capsys):
  assert _call(finished, folder) == 0
  for name, size in SIZES.items():
    mask = _mask(folder, name[0])
    assert mask.shape == size
    assert mask.max() <= 2
    with Image.open(folder / 'out' / 'overlays' / f'{name[0]}.png') as overlay:
      assert overlay.size == size[::-1]
  assert '0 background, 1 cytoplasm, 2 nucleus' in capsys.readouterr().out


def test_a_run_means_its_last_trained_stage(finished, folder):
  _call(finished, folder)
  from_run = _mask(folder, 'a')
  _call(finished / 'fixmatch', folder)
  np.testing.assert_array_equal(_mask(folder, 'a'), from_run)


@pytest.mark.parametrize(
  ('asked', 'meant'),
  [('.', 'fixmatch/seed_3'), ('control', 'control/seed_3'), ('fixmatch', 'fixmatch/seed_3')],
)
def test_of_several_seeds_the_first_predicts(tmp_path, asked, meant):
  stages = [{'name': 'control'}, {'name': 'fixmatch'}, {'name': 'verdict', 'run': 'compare'}]
  for folder in ('control/seed_3', 'control/seed_4', 'fixmatch/seed_3', 'fixmatch/seed_10'):
    (tmp_path / folder).mkdir(parents=True)
  (tmp_path / 'config.json').write_text(json.dumps({'stages': stages}))
  for folder in ('control', 'fixmatch'):
    (tmp_path / folder / 'config.json').write_text('{}')
  assert run_folder.network_folder(tmp_path / asked) == tmp_path / meant


def test_masks_of_test_images_are_those_that_were_scored(finished, folder, page):
  cells = synthetic.load(**_given(page)).test
  for path in (folder / 'in').iterdir():
    path.unlink()
  names = [cells[i]['name'] for i in range(len(cells))]
  for i, name in enumerate(names):
    Image.fromarray(cells[i]['image']).save(folder / 'in' / f'{name}.png')
  assert _call(finished, folder) == 0
  for name in names:
    with Image.open(finished / 'fixmatch' / 'test' / 'masks' / f'{name}.png') as scored:
      np.testing.assert_array_equal(_mask(folder, name), np.asarray(scored))


def test_a_corrupt_file_is_named_and_the_others_are_done(finished, folder, capsys):
  (folder / 'in' / 'broken.png').write_bytes(b'\x89PNG\r\n\x1a\nnot really')
  assert _call(finished, folder) == 1
  assert 'broken.png' in capsys.readouterr().err
  assert {p.stem for p in (folder / 'out' / 'masks').iterdir()} == {'a', 'b', 'c'}


def test_only_names_that_clash_keep_their_ending(tmp_path):
  paths = [tmp_path / name for name in ('a.png', 'b.png', 'a.jpg')]
  assert write_predictions.output_names(paths) == ['a.png', 'b', 'a.jpg']


def test_images_of_one_stem_do_not_overwrite_each_other(finished, folder):
  Image.open(folder / 'in' / 'a.png').save(folder / 'in' / 'a.bmp')
  assert _call(finished, folder) == 0
  names = {p.name for p in (folder / 'out' / 'masks').iterdir()}
  assert names == {'a.png.png', 'a.bmp.png', 'b.png', 'c.png'}


def test_a_large_image_is_tiled_within_the_budget(finished, folder):
  assert _call(finished, folder, '--budget=0.0015') == 0  # 1500 pixels: tiles of 32 x 32
  assert _mask(folder, 'c').shape == SIZES['c.bmp']


def test_what_a_killed_call_has_written_is_left_out(finished, folder):
  assert _call(finished, folder) == 0
  expected = {name[0]: _mask(folder, name[0]) for name in SIZES}
  (folder / 'out' / 'overlays' / 'b.png').unlink()  # it is written after the mask
  for name in 'ab':
    (folder / 'out' / 'masks' / f'{name}.png').write_bytes(b'cut short')
  assert _call(finished, folder, '--resume') == 0
  assert (folder / 'out' / 'masks' / 'a.png').read_bytes() == b'cut short'
  np.testing.assert_array_equal(_mask(folder, 'b'), expected['b'])
  assert _call(finished, folder) == 0
  np.testing.assert_array_equal(_mask(folder, 'a'), expected['a'])


@pytest.mark.parametrize('what', ['no such folder', 'a folder without a run'])
def test_a_wrong_run_gets_one_sentence(folder, capsys, what):
  run = folder / ('nowhere' if what == 'no such folder' else 'in')
  assert _call(run, folder) == 1
  assert f'{run} holds no config.json' in capsys.readouterr().err


def test_an_empty_folder_of_images_gets_one_sentence(finished, folder, capsys):
  for path in (folder / 'in').iterdir():
    path.unlink()
  assert _call(finished, folder) == 1
  assert str(folder / 'in') in capsys.readouterr().err
