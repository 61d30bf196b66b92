"""Maps, tables and outlines of stacks are those of their planes as single files."""

import csv
import json
import zipfile

import nibabel
import numpy as np
import pytest
import roifile
import tifffile
from PIL import Image
from test_blocks import OBJECTS, STATS, discs, predict_fn
from test_stacks import _zarr_image

from ssl_jax.inference import averaging, write_predictions
from ssl_jax.inference.blocks import joined_measurements
from ssl_jax.inference.blocks.block_store import Block, BlockStore, Grid, to_bytes
from ssl_jax.inference.writing import measurements
from ssl_jax.inference.writing.cleaning import Cleaning
from ssl_jax.inference.writing.outputs import Wanted
from ssl_jax.inference.writing.prediction_folder import Origin, open_folder
from ssl_jax.io.stacks import planes

LARGE = discs(300, 520, seed=4)
STACK = np.stack([discs(60, 90, seed=seed) for seed in range(3)])
BOTH = averaging.average([predict_fn, lambda batch: predict_fn(batch * 0.9)], spread=True)
"""Two networks, of which the second one sees less light."""

EVERYTHING = Wanted(
  probabilities=True,
  uncertainty=True,
  spread=True,
  bits=16,
  geojson=True,
  rois=True,
  cleaning=Cleaning(min_size=4, max_hole=9),
)
SIZE = dict(
  photometric='minisblack', resolution=(20000, 20000), resolutionunit='CENTIMETER'
)  # half a micrometer


@pytest.fixture
def folder(tmp_path):
  for name in ('in', 'single'):
    (tmp_path / name).mkdir()
  return tmp_path


def _predict(folder, name='in', stats=STATS, wanted=EVERYTHING, resume=False, function=BOTH):
  out = folder / f'out_{name}'
  with open_folder(out, folder / name, Origin('run', 'net', {}), resume) as opened:
    task = write_predictions.Masks(stats, wanted=wanted)
    refused = write_predictions.write(function, task, folder / name, opened)
  return out, refused


def _write_singles(folder, stack=STACK, **more):
  for number, plane in enumerate(stack):
    tifffile.imwrite(folder / 'single' / f'{number}.tif', plane, **(SIZE | more))


def _rows(path):
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def _without(row, *columns):
  return {column: value for column, value in row.items() if column not in columns}


def _features(path):
  return json.loads(path.read_text())['features']


@pytest.mark.parametrize('stats', [STATS, OBJECTS], ids=['classes', 'objects'])
def test_a_plane_has_all_that_it_has_as_a_file_of_its_own(folder, stats):
  tifffile.imwrite(folder / 'in' / 'stack.tif', STACK, metadata={'axes': 'ZYX'}, **SIZE)
  _write_singles(folder)
  wanted = EVERYTHING
  if stats.instances is not None:
    wanted = wanted._replace(cleaning=Cleaning(max_hole=9))
  out, refused = _predict(folder, 'in', stats, wanted)
  single, _ = _predict(folder, 'single', stats, wanted)
  assert refused == []
  for kind in ('probabilities', 'uncertainty'):
    with tifffile.TiffFile(out / kind / 'stack.ome.tif') as tif:
      assert tif.series[0].axes == 'ZCYX'
      assert 'PhysicalSizeX="0.5"' in tif.ome_metadata
      stored = tif.asarray()
    expected = np.stack([tifffile.imread(single / kind / f'{i}.ome.tif') for i in range(3)])
    np.testing.assert_array_equal(stored, expected)
    assert stored.dtype == np.uint16
  masks = tifffile.imread(out / 'masks' / 'stack.tif')
  overlays = tifffile.imread(out / 'overlays' / 'stack.tif')
  table = 'measurements' if stats.instances is None else 'instances'
  rows = _rows(out / table / 'stack.csv')
  features = _features(out / 'geojson' / 'stack.geojson')
  rois = roifile.roiread(out / 'rois' / 'stack.zip')
  assert len(rois) == len(features)
  assert len({roi.name for roi in rois}) == len(rois)
  for number in range(3):
    mask = np.asarray(Image.open(single / 'masks' / f'{number}.png'))
    np.testing.assert_array_equal(masks[number], mask)
    if stats.instances is None:  # objects are colored by their ids, which run through the stack
      picture = np.asarray(Image.open(single / 'overlays' / f'{number}.png'))
      np.testing.assert_array_equal(overlays[number], picture)
    own = [row for row in rows if row['z'] == str(number)]
    alone = _rows(single / table / f'{number}.csv')
    assert len(own) == len(alone) > 1
    for row, other in zip(own, alone, strict=True):
      row, other = _without(row, 'name', 'id', 'z'), _without(other, 'name', 'id')
      assert row.keys() == other.keys()
      assert row.pop('class', '') == other.pop('class', '')
      values = [[float(value) for value in both.values()] for both in (row, other)]
      np.testing.assert_allclose(*values, rtol=1e-5)
    here = [f for f in features if f['geometry'].get('plane') == _plane(z=number)]
    alone = _features(single / 'geojson' / f'{number}.geojson')
    assert [_without(f['geometry'], 'plane') for f in here] == [f['geometry'] for f in alone]
    drawn = [roi for roi in rois if roi.position == number + 1]
    with zipfile.ZipFile(single / 'rois' / f'{number}.zip') as archive:
      alone = [roifile.ImagejRoi.frombytes(archive.read(name)) for name in archive.namelist()]
    assert len(drawn) == len(alone) > 1
    for roi, other in zip(drawn, alone, strict=True):
      np.testing.assert_array_equal(roi.coordinates(), other.coordinates())


def _plane(z=0, t=0):
  return {'c': -1, 'z': z, 't': t}


def test_outlines_of_a_hyperstack_lie_at_a_slice_and_a_time(folder):
  pixels = STACK[[0, 1, 2, 0]].reshape(2, 2, 60, 90)
  tifffile.imwrite(folder / 'in' / 'a.tif', pixels, imagej=True, metadata={'axes': 'TZYX'})
  wanted = Wanted(overlays=False, geojson=True, rois=True)
  out, refused = _predict(folder, wanted=wanted, function=predict_fn)
  assert refused == []
  assert not (out / 'overlays').exists()
  rois = roifile.roiread(out / 'rois' / 'a.zip')
  places = [(roi.t_position, roi.z_position) for roi in rois]
  assert sorted(set(places)) == [(1, 1), (1, 2), (2, 1), (2, 2)]
  assert {(roi.position, roi.c_position) for roi in rois} == {(0, 0)}
  of_first = [place for place in places if place == (1, 1)]
  assert len(of_first) == len([place for place in places if place == (2, 2)])
  planes_of = [f['geometry']['plane'] for f in _features(out / 'geojson' / 'a.geojson')]
  assert planes_of == [_plane(z - 1, t - 1) for t, z in places]


def _large(folder, monkeypatch, side=128):
  monkeypatch.setattr(planes, 'LARGE', 100_000)
  monkeypatch.setattr('ssl_jax.inference.blocks.block_store.SIDE', side)
  monkeypatch.setattr('ssl_jax.inference.blocks.block_store.STRIP', 128)
  monkeypatch.setattr('ssl_jax.inference.blocks.block_layers.STRIP', 128)
  monkeypatch.setattr('ssl_jax.io.stacks.tiff_stacks.SMALLEST_LEVEL', 512)
  tifffile.imwrite(folder / 'in' / 'slide.tif', LARGE, tile=(128, 128), **SIZE)


def test_a_large_image_has_the_maps_and_measurements_of_a_whole_one(folder, monkeypatch):
  _write_singles(folder, LARGE[None])
  wanted = EVERYTHING._replace(geojson=False, rois=False, cleaning=Cleaning(), bits=8)
  single, _ = _predict(folder, 'single', wanted=wanted)
  _large(folder, monkeypatch)
  out, refused = _predict(folder, wanted=wanted)
  assert refused == []
  for kind in ('probabilities', 'uncertainty'):
    expected = tifffile.imread(single / kind / '0.ome.tif')
    with tifffile.TiffFile(out / kind / 'slide.ome.tif') as tif:
      np.testing.assert_array_equal(tif.asarray(), expected)
      levels = tif.series[0].levels
      assert [level.shape[1:] for level in levels] == [(300, 520), (150, 260)]
      np.testing.assert_array_equal(levels[1].asarray(), expected[:, ::2, ::2])
      assert tif.pages[0].is_tiled
      assert 'PhysicalSizeY="0.5"' in tif.ome_metadata
  rows = [_without(row, 'name') for row in _rows(out / 'measurements.csv')]
  assert rows == [_without(row, 'name') for row in _rows(single / 'measurements.csv')]
  assert int(rows[0]['components']) > 50


def _never(batch):
  raise AssertionError


def test_of_a_large_image_the_rest_is_refused_before_anything_is_predicted(folder, monkeypatch):
  _large(folder, monkeypatch)

  out, [sentence] = _predict(folder, wanted=EVERYTHING, function=_never)
  assert 'slide.tif has more than 0.1 megapixels a plane' in sentence
  assert 'without --geojson, --rois, --largest, --min_size or --fill_holes; leave' in sentence
  assert not (out / 'masks').exists()


def test_rois_of_long_planes_are_refused_before_anything_is_predicted(folder):
  long = np.zeros((2, 4, 40_000), np.uint8)
  tifffile.imwrite(folder / 'in' / 'a.tif', long, metadata={'axes': 'ZYX'})
  _, [sentence] = _predict(folder, wanted=Wanted(rois=True), function=_never)
  assert 'ROIs of ImageJ end at 32767 pixels, and this image has 4 x 40000' in sentence


def test_what_a_killed_call_did_not_want_is_predicted_when_it_is_resumed(folder):
  tifffile.imwrite(folder / 'in' / 'a.tif', STACK, metadata={'axes': 'ZYX'}, **SIZE)
  batches = []

  def killed(batch):
    batches.append(batch)
    if len(batches) == 2:
      raise KeyboardInterrupt
    return predict_fn(batch)

  origin = Origin('run', 'net', {})
  # Planes one by one.
  task = write_predictions.Masks(STATS, 70 * 100)
  with (
    pytest.raises(KeyboardInterrupt),
    open_folder(folder / 'out_in', folder / 'in', origin) as opened,
  ):
    write_predictions.write(killed, task, folder / 'in', opened)
  [blocks] = (folder / 'out_in' / '.blocks').iterdir()
  assert [path.name for path in blocks.glob('*.npz')] == ['0_0_0.npz']
  wanted = Wanted(probabilities=True)
  out, refused = _predict(folder, wanted=wanted, resume=True, function=predict_fn)
  assert refused == []
  probs = tifffile.imread(out / 'probabilities' / 'a.ome.tif')
  assert probs.shape == (3, 3, 60, 90)
  masks = tifffile.imread(out / 'masks' / 'a.tif')
  chosen = np.take_along_axis(probs, masks[:, None], 1)[:, 0]
  np.testing.assert_array_equal(chosen, probs.max(1))


def test_maps_of_a_volume_lie_on_its_grid(folder):
  affine = np.diag([0.002, 0.003, 0.01, 1])
  image = nibabel.Nifti1Image(STACK.transpose(2, 1, 0), affine)
  image.header.set_xyzt_units('mm')
  nibabel.save(image, folder / 'in' / 'v.nii.gz')
  _write_singles(folder)
  out, refused = _predict(folder)
  single, _ = _predict(folder, 'single')
  assert refused == []
  for kind in ('probabilities', 'uncertainty'):
    stored = nibabel.load(out / kind / 'v.nii.gz')
    np.testing.assert_allclose(stored.affine, affine)
    for number in range(3):
      expected = tifffile.imread(single / kind / f'{number}.ome.tif') / 65535
      values = stored.get_fdata()[:, :, number]
      np.testing.assert_allclose(values, expected.transpose(2, 1, 0), atol=1e-6)
  row = _rows(out / 'measurements.csv')[0]
  # 2 by 3 micrometers.
  assert float(row['area_um2']) == pytest.approx(6 * int(row['pixels']), rel=1e-4)


def test_maps_of_an_ome_zarr_are_ome_tiffs(folder):
  pytest.importorskip('zarr')
  _zarr_image(folder / 'in' / 'a.zarr', STACK, 'tyx', '0.5')
  _write_singles(folder)
  out, refused = _predict(folder)
  single, _ = _predict(folder, 'single')
  assert refused == []
  with tifffile.TiffFile(out / 'probabilities' / 'a.ome.tif') as tif:
    assert tif.series[0].axes == 'TCYX'
    expected = [tifffile.imread(single / 'probabilities' / f'{i}.ome.tif') for i in range(3)]
    np.testing.assert_array_equal(tif.asarray(), np.stack(expected))


@pytest.mark.parametrize('side', [7, 16, 64])
def test_components_that_run_through_blocks_are_counted_once(tmp_path, side):
  rng = np.random.default_rng(side)
  mask = (rng.integers(0, 5, (50, 61)) // 2).astype(np.uint8)  # labyrinths of the classes 0 and 1
  mask[10:40, 20] = 2
  image = rng.integers(0, 200, (50, 61, 2)).astype(np.uint16)
  grid = Grid(1, 50, 61, side)
  store = BlockStore(tmp_path / 'blocks', grid)
  for block in grid.blocks():
    region = grid.region(block)
    arrays = joined_measurements.of_block(mask[region], image[region], 4, grid)
    store.write(Block(*block), to_bytes({}, arrays))
  joined = joined_measurements.join(store, 0)
  expected = measurements.measure(mask, image, 4)
  for own, other in zip(joined, expected, strict=True):
    np.testing.assert_array_equal(own, other)
  assert expected.components[1] > 20
