"""Images of many sizes go through a network in few shapes, wherever their sizes are known."""

import jax
import jax.numpy as jnp
import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.data.modifiers import Downscaled
from ssl_jax.data.source_sizes import sizes_of
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.data.volumes.slice_source import SlicedVolumes, SliceSource
from ssl_jax.evaluation.evaluate import evaluate
from ssl_jax.inference import slices
from ssl_jax.inference.images import ImagePredictor, of_sizes, predict_averaged, predict_many
from ssl_jax.inference.shared_shapes import MOST, counted, rounded_up, shared_shapes
from ssl_jax.inference.writing import new_image
from ssl_jax.io import images, nifti
from ssl_jax.io.formats.quick_size import quick_size
from ssl_jax.training.compilations import COMPILED, FOUND, Compilations

HUGE = 10**9
"""Pixels; a budget that cuts nothing into tiles."""


STATS = DatasetStats(('a', 'b'), 1, None, (0.5,), (0.2,), {}, 0)


class Network:
  """A 'network' that looks at single pixels, and remembers the shapes that it was given."""

  def __init__(self):
    self.shapes = set()
    self.pixels = 0

  def __call__(self, images):
    self.shapes.add(images.shape[1:3])
    self.pixels += int(np.prod(images.shape[:3]))
    return np.concatenate([images[..., :1], 1 - images[..., :1]], -1)


def _sizes(count, low=40, high=300, seed=0):
  rng = np.random.default_rng(seed)
  return [(int(h), int(w)) for h, w in rng.integers(low, high, (count, 2))]


def _images(sizes):
  return [np.random.default_rng(i).random((*size, 1), np.float32) for i, size in enumerate(sizes)]


@pytest.mark.parametrize('multiple', [1, 16])
def test_few_sizes_keep_their_own_shapes(multiple):
  sizes = [(120, 120), (121, 130), (60, 200), (120, 120)]
  shapes = shared_shapes(counted(sizes), multiple, HUGE)
  assert shapes == {size: rounded_up(size, multiple) for size in sizes}


@pytest.mark.parametrize('count', [5, 40, 3000])
@pytest.mark.parametrize('multiple', [1, 16])
def test_many_sizes_share_four_shapes_that_cover_them(count, multiple):
  sizes = _sizes(count)
  shapes = shared_shapes(counted(sizes), multiple, HUGE)
  assert set(shapes) == set(sizes)
  assert len(set(shapes.values())) <= MOST
  for size, shape in shapes.items():
    assert shape[0] >= size[0]
    assert shape[1] >= size[1]
    assert shape[0] % multiple == shape[1] % multiple == 0
  # Not simply one shape for all.
  one = count * max(h for h, _ in sizes) * max(w for _, w in sizes)
  assert sum(np.prod(shapes[size]) for size in sizes) < 0.8 * one


def test_many_of_a_size_are_not_padded_for_a_few_others():
  sizes = [(520, 696)] * 100 + [(500 + i, 600 + i) for i in range(9)]
  shapes = shared_shapes(counted(sizes), 16, HUGE)
  assert shapes[520, 696] == (528, 704)


def test_the_order_of_the_images_does_not_matter():
  sizes = _sizes(50)
  assert shared_shapes(counted(sizes), 8, HUGE) == shared_shapes(counted(sizes[::-1]), 8, HUGE)


def test_shapes_stay_within_the_budget_and_tiles_count_as_one():
  sizes = [*_sizes(30, 30, 100), (300, 300)]
  shapes = shared_shapes(counted(sizes), 1, 100 * 100)
  assert (300, 300) not in shapes
  assert len(set(shapes.values())) == MOST - 1
  assert all(h * w <= 100 * 100 for h, w in shapes.values())


def test_what_would_exceed_the_budget_together_stays_apart():
  sizes = [(10, 1000), (1000, 10), (12, 990), (990, 12), (100, 100)]
  shapes = shared_shapes(counted(sizes), 1, 12_000)
  assert all(h * w <= 12_000 for h, w in shapes.values())


def test_predictions_of_many_sizes_come_back_at_their_own():
  sizes = _sizes(30)
  images = _images(sizes)
  network = Network()
  predict_fn = of_sizes(ImagePredictor(network, 1), sizes)
  predictions = dict(predict_many(predict_fn, images))
  assert len(network.shapes) <= MOST
  for index, image in enumerate(images):
    np.testing.assert_array_equal(predictions[index][..., 0], image[..., 0])
  # Batches are full but for the last of each shape: fewer pixels than one batch for each size.
  alone = Network()
  list(predict_many(ImagePredictor(alone, 1), images))
  assert network.pixels < alone.pixels


def test_a_part_of_the_images_is_predicted_as_all_are():
  """A stage that is resumed predicts only those that are left."""
  sizes = _sizes(20)
  images = _images(sizes)

  def rows(batch):  # depends on how far an image was reflected
    return batch.cumsum(1)[:, ::-1]

  predict_fn = of_sizes(ImagePredictor(rows, 1), sizes)
  everything = dict(predict_many(predict_fn, images))
  rest = dict(predict_many(predict_fn, images[12:]))
  for index, probs in rest.items():
    np.testing.assert_array_equal(probs, everything[12 + index])


def test_scaled_copies_have_few_shapes_at_each_scale():
  sizes = _sizes(12)
  network = Network()
  predict_fn = of_sizes(ImagePredictor(network, 1), sizes)
  list(predict_averaged(predict_fn, _images(sizes), scales=(0.5, 1.0), chunk=5))
  assert len(network.shapes) <= 2 * MOST


def test_evaluation_compiles_for_few_shapes():
  sizes = _sizes(9, 20, 60)
  records = [
    {'name': f'{i}', 'image': image, 'label': np.zeros(image.shape[:2], np.uint8)}
    for i, image in enumerate(_images(sizes))
  ]

  compiled = jax.jit(lambda images: jnp.concatenate([images, 1 - images], -1))

  def predict(images):
    return np.asarray(compiled(images))

  compilations = Compilations()
  evaluate(ImagePredictor(predict, 1), records, ('background', 'cell'))
  assert 1 <= compilations.new() <= MOST
  evaluate(ImagePredictor(predict, 1), records, ('background', 'cell'))
  assert compilations.new() == 0


def test_slices_of_many_volumes_have_few_shapes():
  volumes = [np.zeros((2, *size, 1), np.float32) for size in _sizes(10, 30, 300)]
  records = [
    {'name': f'{i}', 'image': volume, 'label': np.zeros(volume.shape[:3], np.uint8)}
    for i, volume in enumerate(volumes)
  ]
  network = Network()
  evaluate(ImagePredictor(network, 8), SlicedVolumes(records), ('background', 'heart'))
  assert len(network.shapes) <= MOST
  seen = Network()
  list(slices.predict_volumes(ImagePredictor(seen, 8), volumes))
  assert len(seen.shapes) > MOST


def test_sources_know_the_sizes_of_their_images():
  volumes = [{'name': 'a', 'image': np.zeros((2, 5, 7, 1), np.uint8)}]
  assert sizes_of(SliceSource(volumes)) == [(5, 7), (5, 7)]
  assert sizes_of(SliceSource(volumes, (8, 9))) == [(8, 9), (8, 9)]
  source = SliceSource([{'name': 'a', 'image': np.zeros((1, 11, 40, 1), np.uint8)}])
  smaller = Downscaled(source, 0.5)
  assert sizes_of(smaller) == [smaller[0]['image'].shape[:2]]
  assert sizes_of(volumes) == () == sizes_of(None)


def test_sizes_of_files_are_those_that_the_network_sees(tmp_path):
  turned = Image.new('RGB', (30, 20))
  exif = turned.getexif()
  exif[274] = 6  # sideways
  turned.save(tmp_path / 'turned.jpg', exif=exif)
  Image.new('L', (50, 40)).save(tmp_path / 'plain.png')
  (tmp_path / 'broken.png').write_bytes(b'no image')
  stats = STATS._replace(channels=3, scale=0.5)
  paths = [tmp_path / name for name in ('turned.jpg', 'plain.png', 'broken.png', 'gone.png')]
  assert new_image.sizes_of_files(paths, stats) == [(15, 10), (20, 25)]


def test_a_size_is_found_from_the_beginning_of_every_format(tmp_path, capsys):
  pixels = np.random.default_rng(0).integers(0, 255, (20, 30), np.uint8)
  turned = Image.Exif()
  turned[274] = 8
  gray = Image.fromarray(pixels)
  for name in ('a.png', 'a.jpg', 'a.bmp', 'a.tif'):
    gray.save(tmp_path / name)
  for name in ('b.png', 'b.jpg', 'b.tif'):
    gray.save(tmp_path / name, exif=turned)
  tifffile.imwrite(tmp_path / 'deep.tif', np.zeros((5, 21, 31), np.uint16), planarconfig='separate',
                   photometric='minisblack', metadata={'axes': 'CYX'})  # fmt: skip
  for path in sorted(tmp_path.iterdir()):
    header = images.read_header(path)
    assert quick_size(path) == (header.height, header.width), path.name
  data = (tmp_path / 'a.tif').read_bytes()
  (tmp_path / 'cut.tif').write_bytes(data[:6])
  (tmp_path / 'text.png').write_text('no image')
  assert quick_size(tmp_path / 'cut.tif') is None
  assert quick_size(tmp_path / 'text.png') is None
  assert quick_size(tmp_path / 'gone.png') is None
  assert capsys.readouterr() == ('', '')


def test_slice_sizes_of_files_are_those_that_the_network_sees(tmp_path):
  affine = np.diag([0.7, -1.0, 3.0, 1.0])
  voxels = np.random.default_rng(0).random((20, 31, 4), np.float32)
  path = tmp_path / 'a.nii.gz'
  nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
  preprocessing = VolumePreprocessing(spacing=(1.0, 0.8, 3.0), slices=True)
  stats = STATS._replace(preprocessing=preprocessing.to_dict())
  volume = nifti.read_volume(path)
  image = preprocessing.image(volume, preprocessing.placement(volume))
  paths = [path, tmp_path / 'gone.nii.gz']
  assert new_image.slice_sizes_of_files(paths, stats) == [image.shape[1:3]]
  cut = preprocessing._replace(foreground_threshold=0.5)
  stats = stats._replace(preprocessing=cut.to_dict())
  assert new_image.slice_sizes_of_files(paths, stats) == []


def test_compilations_are_counted_and_kept_programs_are_not():
  compilations = Compilations()
  twice = jax.jit(lambda x: 2 * x)
  x, y = np.ones(3, np.float32), np.ones(4, np.float32)
  twice(x)
  assert compilations.new() == 1
  twice(x)
  assert compilations.new() == 0
  twice(y)
  assert compilations.new() == 1
  # JAX tells of a program that it found among those that are kept by both events.
  jax.monitoring.record_event(FOUND)
  jax.monitoring.record_event_duration_secs(COMPILED, 0.1)
  assert compilations.new() == 0
