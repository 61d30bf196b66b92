"""Masks for a folder of new images, from a finished run."""

import errno
import json
import os
import shutil
import unicodedata

import numpy as np
import pytest
from conftest import write_volumes
from PIL import Image

from ssl_jax import predict, run_folder
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.datasets import synthetic
from ssl_jax.inference import images as inference_images
from ssl_jax.inference import write_predictions
from ssl_jax.inference.volumes import WindowSettings
from ssl_jax.inference.writing import image_outputs
from ssl_jax.inference.writing.output_names import output_names
from ssl_jax.inference.writing.prediction_folder import Origin, open_folder
from ssl_jax.io.folders import listing

STATS = DatasetStats(('background', 'cell'), 1, None, (0.5,), (0.2,), {}, 0)

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
  def names(*files):
    return output_names([tmp_path / name for name in files], listing.IMAGES)

  assert names('a.png', 'b.png', 'a.jpg') == ['a.png', 'b', 'a.jpg']
  assert names('a.ome.tif', 'a.tif') == ['a.ome', 'a']


@pytest.mark.parametrize(
  'files',
  [
    ('a.png', 'a.tif', 'a.png.jpg'),  # 'a.png' is also the stem of the third
    ('A.png', 'a.png'),  # one file on disks that ignore case
    ('é.png', unicodedata.normalize('NFD', 'é.png')),
    ('a.nii', 'a.nii.gz'),
  ],
)
def test_no_two_files_share_an_output_on_any_disk(tmp_path, files):
  paths = [tmp_path / name for name in files]
  kind = listing.VOLUMES if '.nii' in files[0] else listing.IMAGES
  names = output_names(paths, kind)
  keys = {unicodedata.normalize('NFC', name).casefold() for name in names}
  assert len(keys) == len(files)
  # In any order of the folder.
  assert output_names(paths[::-1], kind) == names[::-1]


def test_images_of_one_stem_do_not_overwrite_each_other(finished, folder):
  Image.open(folder / 'in' / 'a.png').save(folder / 'in' / 'a.bmp')
  assert _call(finished, folder) == 0
  names = {p.name for p in (folder / 'out' / 'masks').iterdir()}
  assert names == {'a.png.png', 'a.bmp.png', 'b.png', 'c.png'}


def test_a_large_image_is_tiled_within_the_budget(finished, folder):
  assert _call(finished, folder, '--budget=0.0015') == 0  # 1500 pixels: tiles of 32 x 32
  assert _mask(folder, 'c').shape == SIZES['c.bmp']


def test_what_a_killed_call_has_written_is_left_out(finished, folder, capsys):
  assert _call(finished, folder) == 0
  expected = {name[0]: _mask(folder, name[0]) for name in SIZES}
  (folder / 'out' / 'overlays' / 'b.png').unlink()  # it is written after the mask
  masks = folder / 'out' / 'masks'
  (masks / 'a.png').write_bytes(b'cut short')
  before = (masks / 'b.png').stat().st_mtime_ns
  assert _call(finished, folder, '--resume') == 0
  assert (masks / 'a.png').read_bytes() == b'cut short'
  assert (masks / 'b.png').stat().st_mtime_ns > before
  np.testing.assert_array_equal(_mask(folder, 'b'), expected['b'])
  # Somebody has changed a.png: it is not replaced unless that is asked for.
  assert _call(finished, folder) == 1
  assert 'a.png has been changed since predict wrote it' in capsys.readouterr().err
  assert (masks / 'a.png').read_bytes() == b'cut short'
  assert _call(finished, folder, '--overwrite') == 0
  np.testing.assert_array_equal(_mask(folder, 'a'), expected['a'])
  assert _call(finished, folder) == 0


def test_masks_drawn_by_hand_are_never_overwritten(finished, folder, capsys):
  masks = folder / 'out' / 'masks'
  masks.mkdir(parents=True)
  (masks / 'a.png').write_bytes(b'drawn by hand')
  assert _call(finished, folder) == 1
  assert 'holds files that predict did not write' in capsys.readouterr().err
  assert [path.name for path in (folder / 'out').rglob('*.*')] == ['a.png']
  assert (masks / 'a.png').read_bytes() == b'drawn by hand'
  assert _call(finished, folder, '--overwrite') == 0
  assert _mask(folder, 'a').shape == SIZES['a.png']


def test_predictions_never_go_among_the_images(finished, folder, capsys):
  words = [f'--run={finished}', f'--images={folder / "in"}', '--overwrite']
  assert predict.main([*words, f'--out={folder / "in"}']) == 1
  assert 'would write among the images' in capsys.readouterr().err
  (folder / 'in').rename(folder / 'masks')
  words[1] = f'--images={folder / "masks"}'
  assert predict.main([*words, f'--out={folder}']) == 1
  assert 'would write among the images' in capsys.readouterr().err
  assert {path.name for path in (folder / 'masks').iterdir()} == set(SIZES)
  assert predict.main([*words, f'--out={finished}']) == 1
  assert 'is the folder of a run' in capsys.readouterr().err


def test_predictions_may_go_into_a_folder_inside_that_of_the_images(finished, folder):
  words = [f'--run={finished}', f'--images={folder / "in"}', f'--out={folder / "in" / "new"}']
  assert predict.main(words) == 0
  assert len([*(folder / 'in' / 'new' / 'masks').iterdir()]) == 3
  assert predict.main(words) == 0


def test_predictions_of_another_network_are_kept(finished, folder, capsys):
  assert _call(finished / 'control', folder) == 0
  before = _mask(folder, 'a')
  assert _call(finished / 'fixmatch', folder) == 1
  said = capsys.readouterr().err
  assert f'holds predictions of another network, that of {finished / "control"}' in said
  np.testing.assert_array_equal(_mask(folder, 'a'), before)
  assert _call(finished / 'fixmatch', folder, '--overwrite') == 0
  assert _call(finished, folder) == 0  # the run is about the same network


def test_a_moved_run_is_the_same_run(finished, folder):
  shutil.copytree(finished, folder / 'copy')
  assert _call(finished, folder) == 0
  assert _call(folder / 'copy', folder) == 0


def test_a_prediction_of_another_image_of_the_same_name_is_kept(finished, folder, capsys):
  assert _call(finished, folder) == 0
  Image.new('L', (40, 40)).save(folder / 'in' / 'a.png')
  for more in ([], ['--resume']):
    assert _call(finished, folder, *more) == 1
    assert 'a.png was predicted for another image of this name' in capsys.readouterr().err


def test_other_options_do_not_resume(finished, folder, capsys):
  assert _call(finished, folder) == 0
  assert _call(finished, folder, '--budget=0.0015', '--resume') == 1
  assert 'were made with --budget=1.048576' in capsys.readouterr().err
  assert _call(finished, folder, '--budget=0.0015') == 0


def test_whatever_fails_for_one_image_the_others_are_done(finished, folder, capsys, monkeypatch):
  cells = np.asarray(Image.open(folder / 'in' / 'a.png'))
  Image.fromarray(cells).save(folder / 'in' / 'd.png')
  read = write_predictions.read_new_image

  def fail(path, *rest):
    if path.stem == 'b':
      raise MemoryError
    if path.stem == 'c':
      raise ZeroDivisionError('odd shape')
    return read(path, *rest)

  monkeypatch.setattr(write_predictions, 'read_new_image', fail)
  assert _call(finished, folder) == 1
  said = capsys.readouterr().err
  assert said.count('Skipped: ') == 2
  assert 'b.jpg could not be predicted (MemoryError' in said
  assert 'c.bmp could not be predicted (ZeroDivisionError: odd shape)' in said
  assert {path.stem for path in (folder / 'out' / 'masks').iterdir()} == {'a', 'd'}


def _out(folder):
  return open_folder(folder / 'out', folder / 'in', Origin('a run', 'a network', {}))


def test_an_image_at_which_the_network_fails_is_left_out_of_its_batch(tmp_path):
  (tmp_path / 'in').mkdir()
  for number in range(6):
    Image.new('L', (32, 32), 40 * number).save(tmp_path / 'in' / f'{number}.png')

  def predict_fn(batch):
    if (batch > 0.99 * 120 / 255).any() and (batch < 1.01 * 120 / 255).any():
      raise MemoryError
    return np.concatenate([batch, 1 - batch], -1)

  with _out(tmp_path) as out:
    task = write_predictions.Masks(STATS)
    refused = write_predictions.write(predict_fn, task, tmp_path / 'in', out)
  assert ['3.png' in sentence for sentence in refused] == [True]
  assert len([*(tmp_path / 'out' / 'masks').iterdir()]) == 5


def test_a_folder_of_many_sizes_does_not_fill_the_memory(tmp_path, monkeypatch):
  monkeypatch.setattr(inference_images, 'WAITING_PIXELS', 3000)
  held = []

  def images():
    for side in range(20, 60):
      held.append(side)
      yield np.zeros((side, side, 1), np.float32)

  done = 0
  for _ in inference_images.predict_many(lambda batch: batch, images(), budget=3600):
    done += 1
    assert len(held) - done <= 9
  assert done == 40


def test_a_full_disk_ends_the_call_in_a_sentence(finished, folder, capsys, monkeypatch):
  def full(path, mask):
    raise OSError(errno.ENOSPC, 'No space left on device', str(path))

  monkeypatch.setattr(image_outputs.images, 'write_mask', full)
  assert _call(finished, folder) == 1
  said = capsys.readouterr().err
  assert 'cannot be written: the disk is full; free some space' in said
  assert 'Skipped' not in said


def test_a_damaged_volume_is_skipped_and_the_others_are_done(tmp_path):
  write_volumes(tmp_path, count=3)
  path = tmp_path / 'images' / 'case1.nii.gz'
  data = bytearray(path.read_bytes())
  data[-6] ^= 1  # the checksum, which comes after the last voxel
  path.write_bytes(data)
  (tmp_path / 'images' / 'away.nii.gz').symlink_to('nowhere')
  windows = WindowSettings((16, 16, 16), 0.5, 'constant', 1, 0, False)

  def predict_fn(batch):
    return np.concatenate([batch, 1 - batch], -1)

  stats = STATS._replace(preprocessing=VolumePreprocessing().to_dict())
  with open_folder(tmp_path / 'out', tmp_path / 'images', Origin('run', 'net', {})) as out:
    task = write_predictions.Volumes(stats, windows)
    refused = write_predictions.write(predict_fn, task, tmp_path / 'images', out)
  assert ['away.nii.gz is a link to a file that is not there' in refused[0]] == [True]
  assert 'case1.nii.gz cannot be read as NIfTI (CRC check failed' in refused[1]
  assert len(refused) == 2
  names = {path.name for path in (tmp_path / 'out' / 'masks').iterdir()}
  assert names == {'case0.nii.gz', 'case2.nii.gz'}


def test_names_as_long_as_the_disk_allows_and_names_that_are_no_text(finished, folder, capsys):
  for path in (folder / 'in').iterdir():
    path.unlink()
  odd = os.fsdecode('Blätter.png'.encode('latin-1'))
  long = 'n' * 251
  for name in (
    odd,
    f'{long}.png',
    f'{long}.jpg',
    'with space.png',
    unicodedata.normalize('NFD', 'é.png'),
  ):
    Image.new('L', (32, 32)).save(folder / 'in' / name)
  assert _call(finished, folder) == 1  # two share a name, and have no room for their endings
  said = capsys.readouterr().err
  assert said.count('Skipped: ') == 2
  assert 'longer than the 255 bytes' in said
  (folder / 'in' / f'{long}.jpg').unlink()
  assert _call(finished, folder, '--resume') == 0
  names = {path.name for path in (folder / 'out' / 'masks').iterdir()}
  assert names == {path.name for path in (folder / 'in').iterdir()}


def test_only_what_cannot_be_read_is_an_error(finished, folder, capsys):
  for path in (folder / 'in').iterdir():
    path.unlink()
  (folder / 'in' / 'x.png').symlink_to('nowhere')
  (folder / 'in' / 'y.gif').touch()
  assert _call(finished, folder) == 1
  printed = capsys.readouterr()
  assert 'x.png is a link to a file that is not there' in printed.err
  assert 'No file could be predicted' in printed.err
  assert 'Masks' not in printed.out
  assert '1 GIF' in printed.out


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
