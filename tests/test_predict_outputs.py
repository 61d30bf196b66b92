"""What predict writes beside masks, from one network and from several."""

import csv
import json
import shutil

import nibabel
import numpy as np
import pytest
import roifile
import tifffile
from conftest import write_volumes
from PIL import Image

from ssl_jax import predict, run_folder
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.datasets import synthetic
from ssl_jax.errors import UserError
from ssl_jax.inference import averaging, predict_folder, run_networks, write_predictions
from ssl_jax.inference.volumes import WindowSettings
from ssl_jax.inference.writing.cleaning import Cleaning
from ssl_jax.inference.writing.outputs import Wanted
from ssl_jax.inference.writing.prediction_folder import Origin, open_folder
from ssl_jax.io import nifti
from ssl_jax.io.formats.pixel_size import PixelSize, read_pixel_size

STATS = DatasetStats(('background', 'cell', 'spot'), 1, None, (0.5,), (0.2,), {}, 0)


@pytest.fixture
def folder(tmp_path):
  cells = synthetic.load(labeled=2, unlabeled=0, test=0, size=64).labeled
  (tmp_path / 'in').mkdir()
  Image.fromarray(cells[0]['image'][:40, :40]).save(tmp_path / 'in' / 'a.png')
  size = dict(resolution=(20000, 20000), resolutionunit='CENTIMETER')
  tifffile.imwrite(tmp_path / 'in' / 'b.tif', cells[1]['image'][:33], photometric='rgb', **size)
  return tmp_path


@pytest.fixture(scope='module')
def seeds(finished, tmp_path_factory):
  """A stage of two seeds, made of the two networks of the tiny run."""
  stage = tmp_path_factory.mktemp('seeds') / 'run' / 'stage'
  for number, name in enumerate(('fixmatch', 'control')):
    ignored = shutil.ignore_patterns('config.json', 'test')
    shutil.copytree(finished / name, stage / f'seed_{number}', ignore=ignored)
  config = json.loads((finished / 'fixmatch' / 'config.json').read_text())
  (stage / 'config.json').write_text(json.dumps(config | {'seed': 0, 'num_seeds': 2}))
  return stage


def _call(run, folder, *more, out='out'):
  return predict.main([f'--run={run}', f'--images={folder / "in"}', f'--out={folder / out}', *more])


def _rows(path):
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def test_all_seeds_predict_and_one_is_taken_by_its_number(seeds, folder, capsys):
  shown = np.random.default_rng(0).uniform(size=(1, 32, 32, 3)).astype(np.float32)
  one, other = (predict_folder.load(seeds / f'seed_{number}')[0](shown) for number in (0, 1))
  assert np.abs(one - other).max() > 1e-3
  np.testing.assert_allclose(predict_folder.load(seeds)[0](shown), (one + other) / 2, atol=1e-6)
  np.testing.assert_array_equal(predict_folder.load(seeds, 1)[0](shown), other)
  np.testing.assert_array_equal(predict_folder.load(seeds / 'seed_1', 1)[0](shown), other)
  with pytest.raises(UserError, match=r'--seed=7: .* has the seeds 0, 1'):
    predict_folder.load(seeds, 7)
  assert _call(seeds, folder) == 0
  assert 'the mean of 2 networks predicts' in capsys.readouterr().out
  # One of them is another network than the mean.
  assert _call(seeds, folder, '--seed=1') == 1
  assert 'holds predictions of another network' in capsys.readouterr().err


def test_a_seed_that_is_not_trained_yet_is_named(seeds, tmp_path):
  shutil.copytree(seeds, tmp_path / 'stage')
  shutil.rmtree(tmp_path / 'stage' / 'seed_1')
  networks = run_networks.find(tmp_path / 'stage')
  assert [member.seed for member in networks.members] == [0]
  assert 'for the seeds 1 of' in networks.notes[0]


def test_seeds_that_drew_other_images_see_each_image_in_their_own_range(seeds):
  first, second = (run_folder.read_stats(seeds / f'seed_{number}') for number in (0, 1))
  every = [first._replace(intensity=(0.0, 100.0)), second._replace(intensity=(50.0, 250.0))]
  shared = run_networks._shared(every)
  assert shared.intensity == (0.0, 250.0)
  raw = np.array([0, 25, 75, 100, 200, 250], np.float32)[None, :, None, None]
  for stats in every:
    low, high = stats.intensity
    predict_fn = run_networks._of_own_intensity(lambda images: images, stats, shared)
    np.testing.assert_allclose(
      predict_fn(raw / 250), np.clip((raw - low) / (high - low), 0, 1), atol=1e-6
    )


def test_everything_is_written_and_fits_the_mask(seeds, folder, capsys):
  every = ['--probabilities', '--uncertainty', '--geojson', '--rois', '--tta=turn', '--bits=16']
  assert _call(seeds, folder, *every) == 0
  assert 'predicted 8 times, mirrored and turned' in capsys.readouterr().out
  out = folder / 'out'
  for name, size in (('a', (40, 40)), ('b', (33, 64))):
    mask = np.asarray(Image.open(out / 'masks' / f'{name}.png'))
    with tifffile.TiffFile(out / 'probabilities' / f'{name}.ome.tif') as tif:
      probs = tif.asarray()
      assert tif.ome_metadata is not None
      assert all(f'Name="{word}"' in tif.ome_metadata for word in ('background', 'nucleus'))
    assert probs.shape == (3, *size)
    assert probs.dtype == np.uint16
    assert np.abs(probs.sum(0, dtype=int) - 65535).max() <= 2
    np.testing.assert_array_equal(np.take_along_axis(probs, mask[None], 0)[0], probs.max(0))
    entropy, disagreement = tifffile.imread(out / 'uncertainty' / f'{name}.ome.tif') / 65535
    expected = averaging.entropy(np.moveaxis(probs / 65535, 0, -1))
    np.testing.assert_allclose(entropy, expected, atol=1e-3)
    assert 0 < disagreement.max() <= entropy.max()
    features = json.loads((out / 'geojson' / f'{name}.geojson').read_text())['features']
    area = sum(feature['properties']['measurements']['Area px^2'] for feature in features)
    assert area == np.count_nonzero(mask)
    rois = roifile.roiread(out / 'rois' / f'{name}.zip') if features else []
    assert len(np.atleast_1d(np.array(rois, object))) == len(features)


def test_measurements_are_those_of_the_mask(finished, folder):
  assert _call(finished, folder) == 0
  rows = _rows(folder / 'out' / 'measurements.csv')
  assert [(row['name'], row['class']) for row in rows] == [
    (name, word) for name in 'ab' for word in ('cytoplasm', 'nucleus')
  ]
  for row in rows:
    mask = np.asarray(Image.open(folder / 'out' / 'masks' / f'{row["name"]}.png'))
    inside = mask == ('cytoplasm', 'nucleus').index(row['class']) + 1
    assert int(row['pixels']) == inside.sum()
    assert float(row['share']) == pytest.approx(inside.mean(), rel=1e-4)
    # 20,000 pixels a centimeter are half a micrometer each; a PNG says nothing.
    expected = f'{inside.sum() / 4:g}' if row['name'] == 'b' else ''
    assert row['area_um2'] == expected
    if inside.any():
      path = folder / 'in' / ('a.png' if row['name'] == 'a' else 'b.tif')
      image = np.asarray(Image.open(path)) if path.suffix == '.png' else tifffile.imread(path)
      means = [float(row[f'mean_intensity_{channel}']) for channel in (1, 2, 3)]
      np.testing.assert_allclose(means, image[inside].mean(0), rtol=1e-4)


def test_a_resumed_call_adds_what_is_new_and_refuses_other_cleaning(finished, folder, capsys):
  assert _call(finished, folder) == 0
  assert not (folder / 'out' / 'geojson').exists()
  assert _call(finished, folder, '--geojson', '--resume') == 0
  assert len([*(folder / 'out' / 'geojson').iterdir()]) == 2
  before = (folder / 'out' / 'geojson' / 'a.geojson').stat().st_mtime_ns
  assert _call(finished, folder, '--geojson', '--no-overlays', '--resume') == 0
  assert (folder / 'out' / 'geojson' / 'a.geojson').stat().st_mtime_ns == before
  assert len(_rows(folder / 'out' / 'measurements.csv')) == 4
  assert _call(finished, folder, '--fill_holes', '--largest') == 0
  assert _call(finished, folder, '--largest', '--resume') == 1
  assert '--largest --fill_holes=inf; give these and no others' in capsys.readouterr().err
  assert _call(finished, folder, '--largest', '--fill_holes=inf', '--resume') == 0


def _of_thirds(batch):
  """Dark pixels are background, gray ones cells, bright ones spots."""
  levels = np.array([0.0, 0.5, 1.0], np.float32)
  likeness = np.exp(-20 * (batch - levels) ** 2)
  return likeness / likeness.sum(-1, keepdims=True)


def test_masks_are_cleaned_before_anything_is_written(tmp_path):
  pixels = np.zeros((20, 20), np.uint8)
  pixels[2:12, 2:12] = 128
  pixels[5, 5] = 0  # a hole
  pixels[15, 15] = 128  # a speck
  pixels[16:19, 2:5] = 255
  (tmp_path / 'in').mkdir()
  Image.fromarray(pixels).save(tmp_path / 'in' / 'a.png')
  wanted = Wanted(overlays=False, geojson=True, cleaning=Cleaning(min_size=4, max_hole=1))
  with open_folder(tmp_path / 'out', tmp_path / 'in', Origin('run', 'net', {})) as out:
    task = write_predictions.Masks(STATS, wanted=wanted)
    assert not write_predictions.write(_of_thirds, task, tmp_path / 'in', out)
  mask = np.asarray(Image.open(tmp_path / 'out' / 'masks' / 'a.png'))
  assert np.bincount(mask.ravel()).tolist() == [400 - 100 - 9, 100, 9]
  assert [row['components'] for row in _rows(tmp_path / 'out' / 'measurements.csv')] == ['1', '1']
  features = json.loads((tmp_path / 'out' / 'geojson' / 'a.geojson').read_text())['features']
  assert features[0]['geometry']['coordinates'] == [[[2, 2], [12, 2], [12, 12], [2, 12], [2, 2]]]
  assert not (tmp_path / 'out' / 'overlays').exists()


@pytest.mark.parametrize('bits', [8, 16])
def test_maps_of_volumes_lie_on_their_grid(tmp_path, bits):
  write_volumes(tmp_path, count=1)
  path = tmp_path / 'images' / 'case0.nii.gz'
  one, other = (
    (lambda x: _of_thirds(np.clip(x, 0, 1))),
    (lambda x: _of_thirds(np.clip(1 - x, 0, 1))),
  )
  both = averaging.average([one, other], averaging.copies_of(3, False), spread=True)
  windows = WindowSettings((16, 16, 16))
  preprocessing = VolumePreprocessing(spacing=(2.0, 2.0, 2.0), foreground_threshold=45.0)
  stats = STATS._replace(preprocessing=preprocessing.to_dict())
  wanted = Wanted(True, True, True, spread=True, bits=bits)
  with open_folder(tmp_path / 'out', tmp_path / 'images', Origin('run', 'net', {})) as out:
    images = tmp_path / 'images'
    task = write_predictions.Volumes(stats, windows, wanted)
    assert not write_predictions.write(both, task, images, out)
  volume = nibabel.load(path)
  probs = nibabel.load(tmp_path / 'out' / 'probabilities' / 'case0.nii.gz')
  assert probs.shape == (*volume.shape, 3)
  assert probs.get_data_dtype() == np.dtype(f'uint{bits}')
  np.testing.assert_allclose(probs.affine, volume.affine)
  assert 'spot' in str(probs.header['descrip'])
  values = probs.get_fdata()
  np.testing.assert_allclose(values.sum(-1), 1, atol=2 / 2**bits)
  mask = np.asarray(nibabel.load(tmp_path / 'out' / 'masks' / 'case0.nii.gz').dataobj)
  chosen = np.take_along_axis(values, mask[..., None].astype(int), -1)[..., 0]
  np.testing.assert_allclose(chosen, values.max(-1), atol=1e-6)
  uncertainty = nibabel.load(tmp_path / 'out' / 'uncertainty' / 'case0.nii.gz').get_fdata()
  assert uncertainty.shape == (*volume.shape, 2)
  assert 0.1 < uncertainty[..., 1].max() <= 1
  rows = _rows(tmp_path / 'out' / 'measurements.csv')
  assert float(rows[0]['mm3']) == pytest.approx(1.5 * int(rows[0]['voxels']))
  picture = Image.open(tmp_path / 'out' / 'overlays' / 'case0.png')
  assert picture.height == 384
  with pytest.raises(UserError, match='--rois writes outlines of images'):
    write_predictions.write(both, task._replace(wanted=Wanted(rois=True)), images, out)


def test_planes_of_a_volume_are_shown_upright(tmp_path):
  from ssl_jax.inference.writing import volume_outputs

  mask = np.zeros((8, 10, 12), np.uint8)
  mask[6:, 7:, 9:] = 1  # right, front, top
  like = nibabel.Nifti1Image(mask, np.eye(4))
  volume = nifti.Volume(np.zeros(mask.shape, np.float32), (1.0, 1.0, 1.0), like)
  picture = volume_outputs.three_planes(volume, mask, height=120)
  widths = [96, 80, 100]  # 8 of 10 by 120, 8 of 12 by 120, 10 of 12 by 120
  assert picture.shape == (120, sum(widths), 3)
  for plane in np.split(picture, np.cumsum(widths)[:-1], axis=1):
    marked = plane.any(-1)
    assert marked[:30, -20:].all()
    assert not marked[60:].any()
    assert not marked[:, : marked.shape[1] // 2].any()


@pytest.mark.parametrize(
  ('options', 'expected'),
  [
    (
      dict(ome=True, metadata={'axes': 'YX', 'PhysicalSizeX': 0.2, 'PhysicalSizeY': 0.4}),
      (0.2, 0.4),
    ),
    (
      dict(
        ome=True,
        metadata={
          'axes': 'YX',
          'PhysicalSizeX': 200,
          'PhysicalSizeXUnit': 'nm',
          'PhysicalSizeY': 200,
          'PhysicalSizeYUnit': 'nm',
        },
      ),
      (0.2, 0.2),
    ),
    (dict(imagej=True, resolution=(4, 2), metadata={'unit': 'micron'}), (0.25, 0.5)),
    (dict(imagej=True, resolution=(4, 2), metadata={'unit': 'pixel'}), None),
    (dict(resolution=(10000, 10000), resolutionunit='CENTIMETER'), (1.0, 1.0)),
    (dict(resolution=(300, 300), resolutionunit='INCH'), None),  # of a printer
    (dict(resolution=(25400, 25400), resolutionunit='INCH'), (1.0, 1.0)),
    ({}, None),
  ],
)
def test_pixel_sizes_are_those_of_the_file(tmp_path, options, expected):
  tifffile.imwrite(tmp_path / 'a.tif', np.zeros((8, 8), np.uint8), **options)
  size = read_pixel_size(tmp_path / 'a.tif')
  if expected is None:
    assert size is None
  else:
    assert size == pytest.approx(PixelSize(*expected))
