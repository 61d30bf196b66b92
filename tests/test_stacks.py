"""What predict writes for stacks and large images: TIFF, OME-TIFF, ImageJ, NIfTI, OME-Zarr."""

import csv
import shutil

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image
from test_blocks import OBJECTS, STATS, discs, predict_fn

from ssl_jax.inference import instances, write_predictions
from ssl_jax.inference.images import predict_many
from ssl_jax.inference.writing.prediction_folder import Origin, open_folder
from ssl_jax.io.stacks import planes

STACK = np.stack([discs(96, 130, seed=seed) for seed in range(6)])


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'in').mkdir()
  return tmp_path


def _predict(folder, stats=STATS, axes=None, resume=False, function=predict_fn):
  with open_folder(folder / 'out', folder / 'in', Origin('run', 'net', {}), resume) as out:
    task = write_predictions.Masks(stats, axes=axes)
    return write_predictions.write(function, task, folder / 'in', out)


def _masks(stack=STACK):
  inputs = (plane[..., None].astype(np.float32) / 255 for plane in stack)
  probs = dict(predict_many(predict_fn, inputs))
  return np.stack([probs[i].argmax(-1) for i in range(len(stack))])


def test_a_plane_of_a_stack_is_predicted_as_an_image_of_its_own(folder):
  tifffile.imwrite(folder / 'in' / 'stack.tif', STACK, metadata={'axes': 'ZYX'}, compression='zlib')
  Image.fromarray(STACK[4]).save(folder / 'in' / 'single.png')
  assert _predict(folder) == []
  mask = tifffile.imread(folder / 'out' / 'masks' / 'stack.tif')
  np.testing.assert_array_equal(mask, _masks())
  single = np.asarray(Image.open(folder / 'out' / 'masks' / 'single.png'))
  np.testing.assert_array_equal(mask[4], single)
  overlays = tifffile.imread(folder / 'out' / 'overlays' / 'stack.tif')
  picture = np.asarray(Image.open(folder / 'out' / 'overlays' / 'single.png'))
  np.testing.assert_array_equal(overlays[4], picture)
  assert not (folder / 'out' / '.blocks').exists()


def test_a_hyperstack_stays_one_with_its_sizes(folder):
  about = {'axes': 'TZYX', 'spacing': 2.5, 'unit': 'um', 'finterval': 0.5}
  pixels = STACK.reshape(2, 3, 96, 130)
  more = dict(imagej=True, metadata=about, resolution=(4.0, 4.0))
  tifffile.imwrite(folder / 'in' / 'a.tif', pixels, **more)
  _predict(folder)
  with tifffile.TiffFile(folder / 'out' / 'masks' / 'a.tif') as tif:
    assert tif.is_imagej
    assert (tif.series[0].axes, tif.series[0].shape) == ('TZYX', (2, 3, 96, 130))
    found = tif.imagej_metadata
    assert (found['slices'], found['frames']) == (3, 2)
    assert (found['spacing'], found['unit'], found['finterval']) == (2.5, 'um', 0.5)
    assert tif.pages[0].tags['XResolution'].value == (4, 1)
    np.testing.assert_array_equal(tif.asarray().reshape(STACK.shape), _masks())


def test_ome_tiff_keeps_axes_and_physical_sizes(folder):
  pixels = np.stack([STACK[:3], 255 - STACK[:3]], 1)  # ZCYX
  about = {
    'axes': 'ZCYX',
    'Name': 'well A1',
    'PhysicalSizeX': 0.25,
    'PhysicalSizeXUnit': 'µm',
    'PhysicalSizeY': 0.3,
    'PhysicalSizeYUnit': 'µm',
    'PhysicalSizeZ': 2.0,
    'PhysicalSizeZUnit': 'µm',
    'Channel': {'Name': ['DAPI', 'GFP']},
  }
  tifffile.imwrite(folder / 'in' / 'a.ome.tif', pixels, ome=True, metadata=about)
  two = STATS._replace(channels=2, mean=(0.5, 0.5), std=(0.2, 0.2))
  assert _predict(folder, two) == []
  with tifffile.TiffFile(folder / 'out' / 'masks' / 'a.ome.tif') as tif:
    assert (tif.series[0].axes, tif.series[0].shape) == ('ZYX', (3, 96, 130))
    xml = tif.ome_metadata
    np.testing.assert_array_equal(tif.asarray(), _masks(STACK[:3]))
  for text in (
    'PhysicalSizeX="0.25"',
    'PhysicalSizeY="0.3"',
    'PhysicalSizeZ="2.0"',
    'Name="well A1"',
    'Name="class ids: 0 background, 1 body, 2 border"',
    'PhysicalSizeZUnit="µm"',
  ):
    assert text in xml


def test_a_stack_that_says_nothing_asks_and_the_advice_works(folder):
  tifffile.imwrite(folder / 'in' / 'a.tif', STACK, photometric='minisblack', metadata=None)
  [sentence] = _predict(folder)
  assert 'holds pages whose meaning the file does not say (axes IYX, 6 x 96 x 130)' in sentence
  assert _predict(folder, axes='ZYX') == []
  np.testing.assert_array_equal(tifffile.imread(folder / 'out' / 'masks' / 'a.tif'), _masks())


def test_channels_by_axes_give_a_picture_as_single_images_do(folder):
  pages = np.stack([STACK[0], 255 - STACK[0]])
  tifffile.imwrite(folder / 'in' / 'a.tif', pages, photometric='minisblack', metadata=None)
  two = STATS._replace(channels=2, mean=(0.5, 0.5), std=(0.2, 0.2))
  assert _predict(folder, two, axes='CYX') == []
  mask = np.asarray(Image.open(folder / 'out' / 'masks' / 'a.png'))
  np.testing.assert_array_equal(mask, _masks(STACK[:1])[0])


def test_a_stack_of_other_channels_or_numbers_is_skipped(folder):
  tifffile.imwrite(folder / 'in' / 'a.tif', STACK, metadata={'axes': 'ZYX'})
  tifffile.imwrite(folder / 'in' / 'b.tif', STACK.astype(np.uint16), metadata={'axes': 'ZYX'})
  kind = {'dtypes': ('uint8',), 'layouts': ('channels',), 'masks_stored': False}
  two = STATS._replace(channels=2, kind=kind)
  channels, numbers = _predict(folder, two)
  assert 'a.tif has 1 channel but the network was trained on 2' in channels
  assert 'b.tif is 16-bit but the run learned from 8-bit images' in numbers


def test_instances_of_a_stack_have_ids_of_their_own_in_each_plane(folder):
  tifffile.imwrite(folder / 'in' / 'a.tif', STACK, imagej=True, metadata={'axes': 'TYX'})
  assert _predict(folder, OBJECTS) == []
  ids = tifffile.imread(folder / 'out' / 'instances' / 'a.tif')
  first = 0
  for plane, pixels in zip(ids, STACK, strict=True):
    [(_, probs)] = predict_many(predict_fn, [pixels[..., None].astype(np.float32) / 255])
    expected = instances.separate(probs, 20)
    np.testing.assert_array_equal(plane, np.where(expected, expected + first, 0))
    first += expected.max()
  with (folder / 'out' / 'instances' / 'a.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert list(rows[0]) == ['id', 't', 'area', 'x', 'y', 'mean_intensity']
  assert len(rows) == ids.max()
  last = rows[-1]
  where = ids == int(last['id'])
  assert (where[int(last['t'])].sum(), where.sum()) == (float(last['area']), float(last['area']))
  assert float(last['mean_intensity']) == pytest.approx(STACK[where].mean(), rel=1e-4)
  with (folder / 'out' / 'counts.csv').open() as file:
    assert next(csv.DictReader(file))['instances'] == str(len(rows))


def test_a_volume_is_predicted_slice_by_slice_on_its_grid(folder):
  affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
  voxels = STACK.transpose(2, 1, 0)
  nibabel.save(nibabel.Nifti1Image(voxels, affine), folder / 'in' / 'v.nii.gz')
  assert _predict(folder) == []
  mask = nibabel.load(folder / 'out' / 'masks' / 'v.nii.gz')
  np.testing.assert_array_equal(mask.affine, affine)
  np.testing.assert_array_equal(np.asarray(mask.dataobj), _masks().transpose(2, 1, 0))
  assert len(tifffile.TiffFile(folder / 'out' / 'overlays' / 'v.tif').pages) == 6


LARGE = discs(700, 1500, seed=4)


def _large(folder, monkeypatch, **more):
  monkeypatch.setattr(planes, 'LARGE', 500_000)
  monkeypatch.setattr('ssl_jax.inference.blocks.block_store.SIDE', 512)
  monkeypatch.setattr('ssl_jax.io.stacks.tiff_stacks.SMALLEST_LEVEL', 512)
  options = dict(tile=(128, 128), compression='zlib', resolution=(5000, 5000), resolutionunit=3)
  tifffile.imwrite(folder / 'in' / 'slide.tif', LARGE, **(options | more))


def test_a_large_image_has_the_mask_of_a_whole_one(folder, monkeypatch, caplog):
  [whole] = _masks(LARGE[None])
  _large(folder, monkeypatch)
  assert _predict(folder) == []
  with tifffile.TiffFile(folder / 'out' / 'masks' / 'slide.tif') as tif:
    np.testing.assert_array_equal(tif.asarray(), whole)
    page = tif.pages[0]
    assert (page.is_tiled, page.tilewidth) == (True, 512)
    assert page.tags['XResolution'].value == (5000, 1)
    levels = tif.series[0].levels
    assert [level.shape for level in levels] == [(700, 1500), (350, 750), (175, 375)]
    for step, level in zip((1, 2, 4), levels, strict=True):
      np.testing.assert_array_equal(level.asarray(), whole[::step, ::step])
  assert not [record for record in caplog.records if record.name == 'tifffile']
  assert max(Image.open(folder / 'out' / 'overlays' / 'slide.png').size) == 1500


def test_a_large_stack_keeps_its_axes_beside_smaller_copies(folder, monkeypatch, caplog):
  monkeypatch.setattr(planes, 'LARGE', 90 * 130)
  monkeypatch.setattr('ssl_jax.io.stacks.tiff_stacks.SMALLEST_LEVEL', 100)
  tifffile.imwrite(folder / 'in' / 'a.tif', STACK[:2], metadata={'axes': 'ZYX'})
  assert _predict(folder) == []
  with tifffile.TiffFile(folder / 'out' / 'masks' / 'a.tif') as tif:
    assert tif.series[0].axes == 'ZYX'
    assert [level.shape for level in tif.series[0].levels] == [(2, 96, 130), (2, 48, 65)]
    np.testing.assert_array_equal(tif.asarray(), _masks(STACK[:2]))
  assert not [record for record in caplog.records if record.name == 'tifffile']


def test_a_large_stack_of_imagej_becomes_an_ome_tiff_with_its_sizes(folder, monkeypatch):
  monkeypatch.setattr(planes, 'LARGE', 90 * 130)
  monkeypatch.setattr('ssl_jax.io.stacks.tiff_stacks.SMALLEST_LEVEL', 100)
  about = {'axes': 'ZYX', 'spacing': 2.5, 'unit': 'micron'}
  more = dict(imagej=True, metadata=about, resolution=(4.0, 5.0))
  tifffile.imwrite(folder / 'in' / 'a.tif', STACK[:2], **more)
  assert _predict(folder) == []
  with tifffile.TiffFile(folder / 'out' / 'masks' / 'a.tif') as tif:
    assert tif.is_ome
    assert [level.shape for level in tif.series[0].levels] == [(2, 96, 130), (2, 48, 65)]
    np.testing.assert_array_equal(tif.asarray(), _masks(STACK[:2]))
    for text in ('PhysicalSizeX="0.25"', 'PhysicalSizeY="0.2"', 'PhysicalSizeZ="2.5"'):
      assert text in tif.ome_metadata
  pages = tifffile.TiffFile(folder / 'out' / 'overlays' / 'a.tif').pages
  assert [page.shape for page in pages] == [(96, 130, 3)] * 2


def test_instances_of_a_large_image_are_joined(folder, monkeypatch):
  [(_, probs)] = predict_many(predict_fn, [LARGE[..., None].astype(np.float32) / 255])
  expected = instances.separate(probs, 20)
  _large(folder, monkeypatch, compression=None, tile=None)
  assert _predict(folder, OBJECTS) == []
  ids = tifffile.imread(folder / 'out' / 'instances' / 'slide.tif')
  pairs = np.unique(np.stack([ids.ravel(), expected.ravel()]), axis=1)
  assert pairs.shape[1] == expected.max() + 1 == ids.max() + 1
  with (folder / 'out' / 'instances' / 'slide.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert [float(row['area']) for row in rows] == np.bincount(ids.ravel())[1:].tolist()


def test_a_killed_large_image_goes_on_with_resume_and_begins_anew_without(folder, monkeypatch):
  _large(folder, monkeypatch)
  calls = []

  def killed(batch):
    calls.append(0)
    if len(calls) == 50:
      raise KeyboardInterrupt
    return predict_fn(batch)

  def predict(resume, function):
    calls.clear()
    with open_folder(folder / 'out', folder / 'in', Origin('run', 'net', {}), resume) as out:
      task = write_predictions.Masks(STATS, 128 * 128)
      write_predictions.write(function, task, folder / 'in', out)

  def counted(batch):
    calls.append(0)
    return predict_fn(batch)

  with pytest.raises(KeyboardInterrupt):
    predict(False, killed)
  [blocks] = (folder / 'out' / '.blocks').iterdir()
  done = len([*blocks.glob('*.npz')])
  assert done > 0
  predict(True, counted)
  resumed = len(calls)
  mask = tifffile.imread(folder / 'out' / 'masks' / 'slide.tif')
  assert not (folder / 'out' / '.blocks').exists()
  predict(False, counted)
  assert len(calls) > resumed
  np.testing.assert_array_equal(tifffile.imread(folder / 'out' / 'masks' / 'slide.tif'), mask)


def _zarr_image(path, pixels, axes, version):
  zarr = pytest.importorskip('zarr')
  root = zarr.open_group(path, mode='w', zarr_format=2 if version == '0.4' else 3)
  for number in range(2):
    level = pixels[..., :: 2**number, :: 2**number]
    root.create_array(str(number), shape=level.shape, dtype=level.dtype, chunks=level.shape)
    root[str(number)][:] = level
  names = {'t': 'time', 'c': 'channel'}
  scales = [[1.0] * (len(axes) - 2) + [0.5 * 2**n] * 2 for n in range(2)]
  multiscale = {
    'axes': [{'name': axis, 'type': names.get(axis, 'space')} for axis in axes],
    'datasets': [
      {'path': str(n), 'coordinateTransformations': [{'type': 'scale', 'scale': scales[n]}]}
      for n in range(2)
    ],
  }
  if version == '0.4':
    root.attrs['multiscales'] = [{'version': '0.4', **multiscale}]
  else:
    root.attrs['ome'] = {'version': '0.5', 'multiscales': [multiscale]}


@pytest.mark.parametrize('version', ['0.4', '0.5'])
def test_ome_zarr_gets_labels_that_may_be_copied_into_it(folder, version):
  zarr = pytest.importorskip('zarr')
  image = folder / 'in' / 'a.ome.zarr'
  _zarr_image(image, STACK.reshape(2, 1, 3, 96, 130), 'tczyx', version)
  assert _predict(folder, OBJECTS) == []
  out = folder / 'out' / 'masks' / 'a.ome.zarr'
  shutil.copytree(out / 'labels', image / 'labels')
  group = zarr.open_group(image / 'labels', mode='r')
  about = dict(group.attrs).get('ome', dict(group.attrs))
  assert about['labels'] == ['classes', 'objects']
  label = group['classes']
  about = dict(label.attrs).get('ome', dict(label.attrs))
  assert [axis['name'] for axis in about['multiscales'][0]['axes']] == list('tczyx')
  [scale] = about['multiscales'][0]['datasets'][0]['coordinateTransformations']
  assert scale['scale'] == [1.0, 1.0, 1.0, 0.5, 0.5]
  assert [entry['label-value'] for entry in about['image-label']['colors']] == [0, 1, 2]
  assert about['image-label']['properties'][1] == {'label-value': 1, 'class': 'body'}
  mask = np.asarray(label['0'])
  assert mask.shape == (2, 1, 3, 96, 130)
  np.testing.assert_array_equal(mask.reshape(STACK.shape), _masks())
  assert np.asarray(group['objects']['0']).max() > 50
  link = (out / 'labels' / 'classes' / about['image-label']['source']['image']).resolve()
  assert link == image.resolve()


def test_a_large_ome_zarr_gets_smaller_copies(folder, monkeypatch):
  zarr = pytest.importorskip('zarr')
  [whole] = _masks(LARGE[None])
  monkeypatch.setattr(planes, 'LARGE', 500_000)
  monkeypatch.setattr('ssl_jax.inference.blocks.block_store.SIDE', 512)
  _zarr_image(folder / 'in' / 'a.zarr', LARGE, 'yx', '0.5')
  assert _predict(folder) == []
  label = zarr.open_group(folder / 'out' / 'masks' / 'a.zarr' / 'labels' / 'classes', mode='r')
  np.testing.assert_array_equal(np.asarray(label['0']), whole)
  np.testing.assert_array_equal(np.asarray(label['1']), whole[::2, ::2])
  assert len(dict(label.attrs)['ome']['multiscales'][0]['datasets']) == 2


def test_folders_that_are_no_image_are_named(folder):
  pytest.importorskip('zarr')
  (folder / 'in' / 'a.zarr').mkdir()
  (folder / 'in' / 'a.zarr' / '.zattrs').write_text('{"plate": {}}')
  (folder / 'in' / 'a.zarr' / '.zgroup').write_text('{"zarr_format": 2}')
  [sentence] = _predict(folder)
  assert 'a.zarr cannot be read as an image of OME-Zarr (it is a plate' in sentence


def test_without_zarr_a_sentence_says_what_to_install(folder, monkeypatch):
  (folder / 'in' / 'a.zarr').mkdir()
  monkeypatch.setitem(__import__('sys').modules, 'zarr', None)
  [sentence] = _predict(folder)
  assert "pip install 'zarr>=3'" in sentence


def test_axes_that_cannot_be_are_refused():
  for axes in ('ZY', 'ZZYX', 'QYX', 'zyx'):
    with pytest.raises(planes.UserError, match=f'--axes={axes} names no axes'):
      planes.check_axes(axes)
  planes.check_axes('TZCYX')
