"""Modules that other tests reach only through `predict`, each asked by itself."""

import errno
import json
import zipfile

import numpy as np
import pytest
import roifile
import tifffile
from PIL import Image

from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.errors import UserError
from ssl_jax.inference.blocks import stacks, write_planes, write_stack
from ssl_jax.inference.detection import Cells
from ssl_jax.inference.writing import cell_outputs, input_files
from ssl_jax.inference.writing.cleaning import Cleaning
from ssl_jax.inference.writing.input_files import InputFiles
from ssl_jax.inference.writing.outputs import GEOJSON, OVERLAY, ROIS, Wanted
from ssl_jax.inference.writing.prediction_folder import Origin, open_folder, read_source
from ssl_jax.io.folders import listing
from ssl_jax.io.stacks import ome_zarr, plane_sizes, planes, tiff_metadata, tiff_planes
from ssl_jax.io.stacks.tiff_regions import RegionReader

STATS = DatasetStats(('background', 'cell'), 1, None, (0.5,), (0.2,), {}, 0)
PIXELS = np.random.default_rng(0).integers(0, 255, (3, 40, 50)).astype(np.uint8)


# ---- inference/cell_outputs


def test_cells_are_a_table_points_and_rings(tmp_path):
  wanted = Wanted(geojson=True, rois=True)
  templates = cell_outputs.templates(wanted)
  assert [*templates] == [cell_outputs.POINTS, GEOJSON, ROIS, OVERLAY]
  assert cell_outputs.templates(Wanted(overlays=False)) == {'points': 'points/{}.csv'}
  cells = Cells(np.array([[10.0, 20.0], [30.5, 5.0]]), np.array([1, 2]), np.array([0.9, 0.75]))
  image = np.zeros((40, 50, 3), np.uint8)
  paths = {kind: tmp_path / kind for kind in templates}
  paths[OVERLAY] = tmp_path / 'a.png'
  for kind, path in paths.items():
    cell_outputs.write(kind, path, cells, image, ('background', 'red', 'blue'))
  # From the edge: half a pixel more than the index.
  assert paths['points'].read_text().split() == [
    'x,y,class,score',
    '20.50,10.50,red,0.9000',
    '5.50,31.00,blue,0.7500',
  ]
  features = json.loads(paths[GEOJSON].read_text())['features']
  assert [f['geometry']['coordinates'] for f in features] == [[20.5, 10.5], [5.5, 31.0]]
  red, blue = _rois(paths[ROIS])
  assert (red.name, blue.name) == ('red', 'blue')
  np.testing.assert_allclose(red.coordinates(), [[20.5, 10.5]])
  picture = np.asarray(Image.open(paths[OVERLAY]))
  assert picture[10, 20].max() == 0
  assert picture[4:17, 14:27].max() > 0


def _rois(path):
  with zipfile.ZipFile(path) as archive:
    return [roifile.ImagejRoi.frombytes(archive.read(name)) for name in archive.namelist()]


# ---- inference/input_files


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'in').mkdir()
  return tmp_path


def _opened(folder):
  return open_folder(folder / 'out', folder / 'in', Origin('run', 'net', {}))


def test_a_file_that_is_done_is_left_out_and_one_that_fails_is_named(folder):
  for name in 'ab':
    Image.fromarray(PIXELS[0]).save(folder / 'in' / f'{name}.png')
  # Another content: a file is known by it.
  Image.fromarray(PIXELS[1]).save(folder / 'in' / 'c.png')
  with _opened(folder) as out:
    done = folder / 'in' / 'c.png'
    with out.writing('masks/c.png', read_source(done)) as path:
      path.write_bytes(b'mask')
    files = InputFiles(folder / 'in', listing.PREDICTED, out, ['masks/{}.png'])
    jobs = list(files)
    assert [job.files for job in jobs] == [['masks/a.png'], ['masks/b.png']]
    assert files.attempt(jobs[0].source.path, lambda: None)

    def fail():
      raise ValueError('too bright\nand more')

    assert not files.attempt(jobs[1].source.path, fail)
    assert files.refused[0].endswith('b.png could not be predicted (ValueError: too bright).')

    def full():
      raise OSError(errno.ENOSPC, 'no space')

    assert errno.ENOSPC in input_files.HOPELESS
    with pytest.raises(OSError, match='no space'):
      files.attempt(jobs[1].source.path, full)
    files.bar.close()


def test_files_of_a_stack_have_names_of_their_own(folder):
  tifffile.imwrite(folder / 'in' / 'a.tif', PIXELS, photometric='minisblack')
  with _opened(folder) as out:
    files = InputFiles(folder / 'in', listing.PREDICTED, out, ['masks/{}.png'])
    files.open_planes = lambda path: tiff_planes.open_planes(path, 'ZYX')
    files.outputs_of_planes = lambda image: [f'masks/{{}}-{image.count()}.tif']
    [job] = files
    files.bar.close()
    assert job.files == ['masks/a-3.tif']
    job.planes.close()


# ---- inference/write_stack


def _predict_fn(batch):
  bright = np.clip(batch, 0, 1)
  return np.concatenate([1 - bright, bright], -1)


def test_a_stack_is_written_and_nothing_of_its_blocks_is_left(folder):
  path = folder / 'in' / 'a.tif'
  tifffile.imwrite(path, PIXELS, photometric='minisblack', metadata={'axes': 'ZYX'})
  image = tiff_planes.open_planes(path)
  wanted = Wanted(overlays=False)
  files = [file.format('a') for file in write_planes.templates(image, wanted, STATS).values()]
  with _opened(folder) as out:
    task = stacks.BlockTask(STATS, 1000, wanted=wanted)
    write_stack.write(_predict_fn, image, task, out, files, read_source(path))
    assert not list((folder / 'out' / '.blocks').iterdir())
  np.testing.assert_array_equal(
    tifffile.imread(folder / 'out' / 'masks' / 'a.tif'), PIXELS / np.float32(255) > 0.5
  )
  image.close()


def test_only_of_large_planes_is_something_refused(folder, monkeypatch):
  tifffile.imwrite(folder / 'in' / 'a.tif', PIXELS[0])
  image = tiff_planes.open_planes(folder / 'in' / 'a.tif')
  everything = Wanted(True, True, True, True, 8, True, True, Cleaning(largest=True))

  def check(wanted):
    task = stacks.BlockTask(STATS, 1000, wanted=wanted)
    files = [file.format('a') for file in write_planes.templates(image, wanted, STATS).values()]
    with _opened(folder) as out:
      write_stack.check(image, task, out, files)

  check(everything)
  monkeypatch.setattr(planes, 'LARGE', 1000)
  check(Wanted(probabilities=True, uncertainty=True))
  with pytest.raises(UserError, match='without --geojson, --rois, --largest'):
    check(everything)
  image.close()


# ---- io/tiff_metadata


def test_what_a_tiff_says_is_written_again(tmp_path):
  about = {'axes': 'ZYX', 'unit': 'um', 'spacing': 2.0}
  tifffile.imwrite(tmp_path / 'a.tif', PIXELS, imagej=True, resolution=(4.0, 4.0), metadata=about)
  with tifffile.TiffFile(tmp_path / 'a.tif') as tif:
    form, metadata = tiff_metadata.read(tif, tif.series[0])
  assert form == planes.IMAGEJ
  assert metadata['resolution'] == (4.0, 4.0)
  assert {key: metadata['imagej'][key] for key in ('unit', 'spacing')} == {
    'unit': 'um',
    'spacing': 2.0,
  }
  arguments = tiff_metadata.to_write(form, metadata, 'ZYX', ('background', 'cell'))
  assert arguments['imagej'] is True
  assert 'resolutionunit' not in arguments
  assert (arguments['metadata']['min'], arguments['metadata']['max']) == (0.0, 1.0)
  as_ome = tiff_metadata.to_write(planes.OME_TIFF, metadata, 'ZYX', ('background', 'cell'))
  assert as_ome['metadata']['Channel'] == {'Name': 'class ids: 0 background, 1 cell'}
  known = {'ome': {'PhysicalSizeX': 0.2, 'PhysicalSizeXUnit': 'µm'}}
  of_maps = tiff_metadata.of_maps(known, 'ZCYX', ['one', 'two'], {'x': 9.0, 'z': 3.0})
  # What the image says itself goes first.
  assert of_maps['metadata']['PhysicalSizeX'] == 0.2
  assert of_maps['metadata']['PhysicalSizeZ'] == 3.0
  assert of_maps['metadata']['Channel'] == {'Name': ['one', 'two']}


# ---- io/tiff_regions


@pytest.mark.parametrize(
  'how',
  [
    {},
    dict(tile=(16, 32)),
    dict(tile=(16, 16), compression='zlib'),
    dict(rowsperstrip=7, compression='zlib', predictor=True),
  ],
)
def test_a_region_is_that_of_the_page(tmp_path, how):
  tifffile.imwrite(tmp_path / 'a.tif', PIXELS, photometric='minisblack', **how)
  with tifffile.TiffFile(tmp_path / 'a.tif') as tif:
    reader = RegionReader(tif, tif.series[0], 'a.tif')
    for rows, columns in ((slice(0, 40), slice(0, 50)), (slice(13, 35), slice(30, 49))):
      for page in (2, 0):
        part = reader.read(page, rows, columns)
        np.testing.assert_array_equal(part, PIXELS[page, rows, columns][None])


def test_a_compressed_page_in_one_large_piece_is_refused(tmp_path, monkeypatch):
  tifffile.imwrite(tmp_path / 'a.tif', PIXELS[0], compression='zlib', rowsperstrip=40)
  monkeypatch.setattr('ssl_jax.io.stacks.tiff_regions.LARGEST_SEGMENT', 1999)
  with (
    tifffile.TiffFile(tmp_path / 'a.tif') as tif,
    pytest.raises(UserError, match=r'a\.tif is compressed in one piece and too large'),
  ):
    RegionReader(tif, tif.series[0], 'a.tif')


# ---- io/ome_zarr and io/plane_sizes


def test_an_ome_zarr_is_read_in_planes_and_its_label_written(tmp_path):
  zarr = pytest.importorskip('zarr')
  root = zarr.open_group(tmp_path / 'a.zarr', mode='w', zarr_format=3)
  root.create_array('0', shape=(3, 40, 50), dtype='uint8', chunks=(1, 40, 50))[:] = PIXELS
  axes = [{'name': axis, 'type': 'space', 'unit': 'nanometer'} for axis in 'zyx']
  scale = [{'type': 'scale', 'scale': [2000.0, 250.0, 500.0]}]
  about = {'axes': axes, 'datasets': [{'path': '0', 'coordinateTransformations': scale}]}
  root.attrs['ome'] = {'version': '0.5', 'multiscales': [about]}
  image = ome_zarr.open_planes(tmp_path / 'a.zarr')
  assert (image.axes, image.shape, image.header.height) == ('Z', (3,), 40)
  part = image.read(1, slice(3, 9), slice(10, 50))
  np.testing.assert_array_equal(part[..., 0], PIXELS[1, 3:9, 10:50])
  assert plane_sizes.read_sizes(image) == {'x': 0.5, 'y': 0.25, 'z': 2.0}
  writer = ome_zarr.LabelWriter(tmp_path / 'm.zarr', image, ['classes'])
  ids = (PIXELS > 100).astype(np.uint8)
  blocks = ((plane, 0, 0, ids[plane]) for plane in range(3))
  writer.write('classes', blocks, np.uint8, ('background', 'cell'), tmp_path / 'm.zarr')
  label = zarr.open_group(tmp_path / 'm.zarr' / 'labels' / 'classes', mode='r')
  np.testing.assert_array_equal(np.asarray(label['0']), ids)
  assert dict(label.attrs)['ome']['image-label']['source'] == {'image': '../../../a.zarr'}
  with pytest.raises(UserError, match='cannot be read as an image of OME-Zarr'):
    ome_zarr.open_planes(tmp_path / 'm.zarr')


def test_sizes_are_in_micrometers_or_not_known(tmp_path):
  tifffile.imwrite(tmp_path / 'a.tif', PIXELS[0])
  image = tiff_planes.open_planes(tmp_path / 'a.tif')
  sizes = plane_sizes.read_sizes(image)
  assert sizes == {}
  assert plane_sizes.pixel_of(sizes) is None
  assert plane_sizes.pixel_of({'x': 0.5, 'y': 0.25}).area == 0.125
  image.close()
