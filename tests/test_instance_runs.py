"""Runs of instances from end to end: files, training, scores, verdict, table, prediction."""

import csv
import json
import runpy

import nibabel
import numpy as np
import pytest
import tifffile
from conftest import ROOT
from PIL import Image

from ssl_jax import predict, run_folder, table
from ssl_jax import run as runs
from ssl_jax.reports import table_cells


def page_of(name):
  config = runpy.run_path(str(ROOT / 'configs' / f'{name}.py'))['get_config']()
  config.unlock()
  return config


def write_images(folder, count, first=0, masks=True):
  """Bright discs on a dark ground, three in each image; the first two touch."""
  rows, columns = np.indices((48, 48))
  for number in range(first, first + count):
    rng = np.random.default_rng(number)
    ids = np.zeros((48, 48), np.uint16)
    row = rng.integers(12, 18)
    for value, (r, c, radius) in enumerate([(row, 12, 8), (row, 29, 8), (38, 30, 7)], start=1):
      ids[((rows - r) ** 2 + (columns - c) ** 2 <= radius**2) & (ids == 0)] = 100 * value
    pixels = np.where(ids > 0, 180, 40) + rng.integers(0, 20, ids.shape)
    for kind, array in (('images', pixels.astype(np.uint8)), ('masks', ids)):
      if kind == 'images' or masks:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(folder / kind / f'im{number}.png')


@pytest.fixture(scope='module')
def finished_run(tmp_path_factory):
  root = tmp_path_factory.mktemp('instances')
  write_images(root / 'labeled', 12)
  write_images(root / 'more', 4, first=20, masks=False)
  config = page_of('your_images')
  small = {
    'data.labeled': str(root / 'labeled'),
    'data.unlabeled': str(root / 'more' / 'images'),
    'data.instances': True,
    'data.test_fraction': 0.5,
    'num_seeds': 1,
    'steps': 40,
    'eval_every': 40,
    'checkpoint_every': 40,
    'crop_size': (32, 32),
    'batch.labeled': 4,
    'batch.unlabeled': 4,
    'ema_decay': 0.5,
    'optimizer.lr': 0.01,
    'optimizer.head_lr_multiplier': 1.0,
  }
  config.minutes = None
  config.update_from_flattened_dict(small)
  config.model = dict(name='unet', widths=(8, 16))
  stages = [dict(stage) for stage in config.to_dict()['stages']]
  config.stages = tuple(stage for stage in stages if stage['name'] != 'final')
  config.table = tuple(
    dict(table='T', row=name, column=figure, stage=name, control='control', figure=figure)
    for name in ('control', 'fixmatch')
    for figure in ('ap50', 'ap75')
  )
  done = runs.run(config, root / 'run')
  return root, done


def test_a_run_is_judged_by_average_precision(finished_run, capsys):
  root, done = finished_run
  run = root / 'run'
  names = ('ap50', 'ap75', 'ap', 'ap_per_image', 'f1', 'pq', 'count_error', 'miou')
  for name in names:
    assert np.isfinite(done[f'test/{name}'])
    assert np.isfinite(done[f'control/test/{name}'])
  verdict = (run / 'verdict' / 'verdict.txt').read_text()
  assert 'points of test AP at IoU 0.5 against the supervised control' in verdict
  difference = done['fixmatch/test/ap50'] - done['control/test/ap50']
  assert done['verdict/test/ap50_difference'] == pytest.approx(difference)
  assert (run / 'verdict' / 'picture.png').exists()
  stats = run_folder.read_stats(run / 'fixmatch')
  assert stats.classes == ('background', 'body', 'border')
  assert stats.instances['min_size'] > 1
  stored = np.load(run / 'control' / 'test' / 'matrices.npz')
  assert stored['objects'].shape == (6, 9, 2, 2)
  # Three in each image are found or missed.
  assert (stored['objects'][:, :, 1].sum(-1) == 3).all()
  assert table.main([str(run)]) == 0
  cells = table_cells.read_cells(run)
  assert {cell.figure for cell in cells} == {'ap50', 'ap75'}
  assert all(len(cell.scores) == 1 for cell in cells)


def test_a_run_of_before_there_were_instances_still_loads(finished_run):
  folder = finished_run[0] / 'run' / 'control'
  stored = json.loads((folder / 'data.json').read_text())
  del stored['instances']
  (folder / 'old').mkdir()
  (folder / 'old' / 'data.json').write_text(json.dumps(stored))
  assert run_folder.read_stats(folder / 'old').instances is None


def test_prediction_gives_instances_tables_and_counts(finished_run, tmp_path):
  root, _ = finished_run
  write_images(tmp_path / 'new', 3, first=40)
  call = [
    f'--run={root / "run" / "control"}',
    f'--images={tmp_path / "new" / "images"}',
    f'--out={tmp_path / "out"}',
  ]
  assert predict.main(call) == 0
  out = tmp_path / 'out'
  with (out / 'counts.csv').open() as file:
    counts = {row['name']: int(row['instances']) for row in csv.DictReader(file)}
  assert list(counts) == ['im40', 'im41', 'im42']
  for name, count in counts.items():
    found = tifffile.imread(out / 'instances' / f'{name}.tif')
    assert found.shape == (48, 48)
    assert found.max() == count
    with Image.open(out / 'masks' / f'{name}.png') as mask:
      # Instances cover what the mask calls body or border, but for what was dropped.
      assert not (found > 0)[np.asarray(mask) == 0].any()
    with (out / 'instances' / f'{name}.csv').open() as file:
      rows = list(csv.DictReader(file))
    assert len(rows) == count
    assert (out / 'overlays' / f'{name}.png').exists()
  # Easy images: each disc is found, also the two that touch.
  assert list(counts.values()) == [3, 3, 3]
  text = (out / 'counts.csv').read_text()
  (out / 'counts.csv').unlink()
  assert predict.main([*call, '--resume']) == 0
  assert (out / 'counts.csv').read_text() == text
  assert predict.main([*call, '--min_size=100000']) == 0
  assert tifffile.imread(out / 'instances' / 'im40.tif').max() == 0
  assert predict.main([*call, '--min_size=0']) == 1


def write_volumes(folder, count):
  """Two bright balls that touch, in voxels of 1 x 1 x 2 mm."""
  for kind in ('images', 'masks'):
    (folder / kind).mkdir(parents=True, exist_ok=True)
  grid = np.indices((32, 20, 10))
  for number in range(count):
    rng = np.random.default_rng(number)
    ids = np.zeros(grid.shape[1:], np.int32)
    for value, x in ((7, 9), (70_000, 22)):
      center = (x, 10 + rng.integers(-1, 2), 5)
      distance = sum((grid[i] - center[i]) ** 2 * (1, 1, 4)[i] for i in range(3))
      ids[(distance <= 42) & (ids == 0)] = value
    voxels = np.where(ids > 0, 120, 20) + rng.normal(0, 5, ids.shape)
    for kind, array in (('images', voxels.astype(np.int16)), ('masks', ids)):
      image = nibabel.Nifti1Image(array[::-1], np.diag([-1.0, 1, 2, 1]))
      nibabel.save(image, folder / kind / f'v{number}.nii.gz')


@pytest.mark.parametrize('slices', [False, True])
def test_volumes(slices, tmp_path):
  write_volumes(tmp_path / 'labeled', 5)
  config = page_of('your_volumes')
  small = {
    'data.labeled': str(tmp_path / 'labeled'),
    'data.unlabeled': None,
    'data.instances': True,
    'data.spacing': (1.0, 1.0, 1.0),
    'data.cache': str(tmp_path / 'cache'),
    'data.test_fraction': 0.4,
    'num_seeds': 1,
    'steps': 4,
    'eval_every': 4,
    'checkpoint_every': 4,
    'crop_size': (16, 16, 16),
    'batch.labeled': 2,
  }
  config.data.slices = slices
  config.minutes = None
  config.configure = ()
  config.batch = dict(labeled=2)
  config.update_from_flattened_dict(small)
  config.model = dict(name='nnunet', widths=(4, 6))
  if slices:
    config.model = dict(name='unet', widths=(4, 8))
    config.crop_size = (16, 16)
  config.views = dict(labeled=dict(source='labeled', flip=0.5))
  config.methods = dict(supervised=dict(weight=1.0, dice=1.0))
  config.stages = (dict(name='net'), dict(name='organs', run='segment', of='net'))
  done = runs.run(config, tmp_path / 'run')
  for stage in ('net', 'organs'):
    for name in ('ap50', 'pq', 'count_error'):
      assert f'{stage}/test/{name}' in done
  call = [
    f'--run={tmp_path / "run" / "net"}',
    f'--images={tmp_path / "labeled" / "images"}',
    f'--out={tmp_path / "out"}',
  ]
  assert predict.main(call) == 0
  with (tmp_path / 'out' / 'counts.csv').open() as file:
    counts = {row['name']: int(row['instances']) for row in csv.DictReader(file)}
  assert len(counts) == 5
  for name, count in counts.items():
    found = nibabel.load(tmp_path / 'out' / 'instances' / f'{name}.nii.gz')
    like = nibabel.load(tmp_path / 'labeled' / 'images' / f'{name}.nii.gz')
    np.testing.assert_array_equal(found.affine, like.affine)
    assert found.shape == like.shape
    assert np.asanyarray(found.dataobj).max() == count
    assert np.asanyarray(found.dataobj).dtype == np.uint16
