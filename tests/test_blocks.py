"""Large images by blocks: equal to whole images; joined instances; what a kill leaves."""

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.data.masks.image_kind import FileNotes
from ssl_jax.inference import instances
from ssl_jax.inference.blocks import block_layers, block_store, joined_instances, stacks
from ssl_jax.inference.blocks.block_layers import Layer
from ssl_jax.inference.blocks.block_store import BlockStore
from ssl_jax.inference.blocks.regions import PlaneRegions, TileStore, resize_part
from ssl_jax.inference.images import predict_tiled
from ssl_jax.io import images
from ssl_jax.io.stacks import planes as io_planes
from ssl_jax.io.stacks import tiff_planes, tiff_stacks

STATS = DatasetStats(('background', 'body', 'border'), 1, None, (0.5,), (0.2,), {}, 0)
OBJECTS = STATS._replace(instances={'min_size': 20.0})


def discs(height=300, width=350, spacing=23, radius=9, seed=0):
  """Bright discs of different sizes, many of which touch."""
  rng = np.random.default_rng(seed)
  rows, columns = np.indices((height, width))
  image = np.full((height, width), 40.0)
  for row in range(10, height, spacing):
    for column in range(10, width, spacing):
      r, c = row + rng.integers(-6, 6), column + rng.integers(-6, 6)
      image[(rows - r) ** 2 + (columns - c) ** 2 < rng.uniform(3, radius + 4) ** 2] = 200
  return (image + rng.integers(0, 30, image.shape)).astype(np.uint8)


def predict_fn(batch):
  """Background, body and border by how bright the surroundings are: tiles differ at their ends."""
  far = np.stack([ndimage.gaussian_filter(image[..., 0], 3) for image in batch])
  near = np.stack([ndimage.gaussian_filter(image[..., 0], 1) for image in batch])
  logits = np.stack([0.45 - near, far - 0.5, near - far + 0.02], -1) * 20
  probs = np.exp(logits)
  return (probs / probs.sum(-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def image(tmp_path):
  tifffile.imwrite(tmp_path / 'a.tif', discs(), tile=(64, 64), compression='zlib')
  return tiff_planes.open_planes(tmp_path / 'a.tif')


def _whole(budget=96 * 96, scale=1.0):
  pixels = discs()[..., None].astype(np.float32) / 255
  if scale == 1:
    return predict_tiled(predict_fn, pixels, budget)
  size = [round(side * scale) for side in pixels.shape[:2]]
  small = images.resize(pixels, size, smooth=True)
  return images.resize(predict_tiled(predict_fn, small, budget), pixels.shape[:2], smooth=True)


@pytest.mark.parametrize(
  'region', [np.s_[0:300, 0:350], np.s_[90:170, 33:300], np.s_[299:300, 0:1]]
)
def test_a_region_has_the_probabilities_of_the_whole_to_the_last_bit(image, region):
  regions = PlaneRegions(predict_fn, image, 0, STATS, 96 * 96, TileStore(None))
  np.testing.assert_array_equal(regions.probabilities(region), _whole()[region])


def test_a_region_of_an_image_at_another_scale(image):
  stats = STATS._replace(scale=0.6)
  regions = PlaneRegions(predict_fn, image, 0, stats, 96 * 96, TileStore(None))
  region = np.s_[90:170, 33:300]
  np.testing.assert_allclose(regions.probabilities(region), _whole(scale=0.6)[region], atol=1e-5)


@pytest.mark.parametrize('new', [(37, 61), (150, 222)])
def test_a_part_is_resized_as_the_whole_is(new):
  old = np.random.default_rng(0).random((90, 130, 2)).astype(np.float32)
  whole = images.resize(old, new, smooth=True)
  for region in (np.s_[0:5, 0:7], np.s_[10:30, 20:61], np.s_[0 : new[0], 0 : new[1]]):
    part = resize_part(lambda r, c: old[r, c], (90, 130), new, region)
    np.testing.assert_allclose(part, whole[region], atol=1e-6)


def test_a_tile_that_several_blocks_need_is_predicted_once(image, tmp_path):
  calls = []

  def counted(batch):
    calls.append(batch.shape)
    return predict_fn(batch)

  grid = block_store.grid_of(image, 128)
  task = stacks.BlockTask(STATS, 96 * 96)
  store = BlockStore(tmp_path / 'blocks', grid)
  for block, data in stacks.large_blocks(counted, image, grid, grid.blocks(), task, store.folder):
    store.write(block, data)
  assert len(calls) == 4 * 5  # ceil((300 - 96) / 72) + 1 rows of tiles
  assert not [*store.folder.glob('tile_*')]
  np.testing.assert_array_equal(_ids(store).whole(0), _whole().argmax(-1))


def _ids(store, kind=block_store.CLASSES, renumber=lambda _, ids: ids):
  return Layer(store, kind, np.uint16, renumber)


def _store(image, tmp_path, stats, side, margin=48):
  store = BlockStore(tmp_path / f'blocks{side}', block_store.grid_of(image, side))
  stacks.predict_blocks(predict_fn, image, store, stacks.BlockTask(stats, 96 * 96, margin))
  return store


@pytest.mark.parametrize('side', [400, 128, 77])
def test_joined_instances_are_those_of_the_whole_image(image, tmp_path, side):
  store = _store(image, tmp_path, OBJECTS, side)
  joined = joined_instances.join(store, 20)
  ids = _ids(store, block_store.OBJECTS, joined.renumber).whole(0)
  expected = instances.separate(_whole(), 20)
  assert expected.max() > 100
  # The same pixels belong together; only the numbers differ.
  pairs = np.unique(np.stack([ids.ravel(), expected.ravel()]), axis=1)
  assert pairs.shape[1] == expected.max() + 1 == ids.max() + 1
  assert (pairs[:, 0] == 0).all()
  # The table, by the ids of the joined ones.
  measured = instances._measure(ids.astype(np.int32), discs()[..., None], {'label': 'id'})
  areas = np.bincount(ids.ravel())[1:]
  np.testing.assert_array_equal(joined.sums[:, 0], areas)
  means = [row['mean_intensity'] for row in measured]
  np.testing.assert_allclose(joined.sums[:, 3] / areas, means, rtol=1e-6)
  centers = ndimage.center_of_mass(ids > 0, ids, range(1, ids.max() + 1))
  np.testing.assert_allclose(joined.sums[:, 1:3] / areas[:, None], centers)


def test_without_joining_there_would_be_more(image, tmp_path):
  store = _store(image, tmp_path, OBJECTS, 128)
  blocks = [instances.separate(_whole()[store.grid.region(b)], 20) for b in store.grid.blocks()]
  apart = sum(int(ids.max()) for ids in blocks)
  assert apart > len(joined_instances.join(store, 20).sums)


def test_an_image_without_objects_has_none(tmp_path):
  tifffile.imwrite(tmp_path / 'a.tif', np.zeros((100, 120), np.uint8))
  image = tiff_planes.open_planes(tmp_path / 'a.tif')
  joined = joined_instances.join(_store(image, tmp_path, OBJECTS, 64), 1)
  assert joined.sums.shape == (0, 4)


def test_a_killed_call_goes_on_at_the_block_where_it_was(image, tmp_path):
  store = BlockStore(tmp_path / 'blocks', block_store.grid_of(image, 128))
  task = stacks.BlockTask(OBJECTS, 96 * 96, 48)
  calls = []

  def killed(batch):
    calls.append(0)
    if len(calls) == 12:
      raise KeyboardInterrupt
    return predict_fn(batch)

  with pytest.raises(KeyboardInterrupt):
    stacks.predict_blocks(killed, image, store, task)
  done = [block for block in store.grid.blocks() if store.is_done(block)]
  assert 0 < len(done) < len(store.grid.blocks())
  before = {block: store._path(block).stat().st_mtime_ns for block in done}
  stacks.predict_blocks(predict_fn, image, store, task)
  assert all(store._path(block).stat().st_mtime_ns == before[block] for block in done)
  np.testing.assert_array_equal(_ids(store).whole(0), _whole().argmax(-1))


@pytest.mark.parametrize('step', [1, 2, 4, 8])
def test_tiles_of_smaller_copies_take_every_nth_pixel(tmp_path, monkeypatch, step):
  monkeypatch.setattr(tiff_stacks, 'TILE', 16)
  monkeypatch.setattr(block_store, 'STRIP', 16)
  monkeypatch.setattr(block_layers, 'STRIP', 16)
  ids = np.random.default_rng(0).integers(0, 9, (150, 203)).astype(np.uint8)
  store = BlockStore(tmp_path / 'blocks', block_store.Grid(1, 150, 203, 64))
  for block in store.grid.blocks():
    data = block_store.to_bytes({block_store.CLASSES: ids[store.grid.region(block)]}, {})
    store.write(block, data)
  smaller = ids[::step, ::step]
  tiles = [*_ids(store).tiles(0, step)]
  across = -(-smaller.shape[1] // 16)
  rows = [np.concatenate(tiles[i : i + across], 1) for i in range(0, len(tiles), across)]
  np.testing.assert_array_equal(
    np.concatenate(rows)[: smaller.shape[0], : smaller.shape[1]], smaller
  )


def test_the_sample_of_a_large_image_finds_that_it_does_not_fit(tmp_path):
  tifffile.imwrite(tmp_path / 'a.tif', np.full((500, 600), 9, np.uint16))
  image = tiff_planes.open_planes(tmp_path / 'a.tif')
  notes = FileNotes()
  stacks.check(image, STATS._replace(intensity=(100.0, 4000.0)), notes)
  assert 'do not fit the 100 to 4000 from which the run learned' in notes.sentences()[0]


def test_a_large_plane_is_one_of_more_pixels_than_fit(image, monkeypatch):
  assert not image.is_large()
  monkeypatch.setattr(io_planes, 'LARGE', 300 * 350 - 1)
  assert image.is_large()
