"""Data sets made smaller, and masks from which instances were taken."""

import json

import numpy as np
import pytest
from conftest import tiny_page, write_sections
from PIL import Image

from ssl_jax import build, predict
from ssl_jax.data import dataset_stats, modifiers
from ssl_jax.errors import UserError
from ssl_jax.parsing import parse_settings
from ssl_jax.run import run
from ssl_jax.stages.learning import training_sources
from ssl_jax.types import CELLS, IGNORE, Splits


def _source(count=3, side=14, channels=1, dtype=np.uint8):
  rng, found = np.random.default_rng(0), []
  for i in range(count):
    image = rng.integers(0, 256, (side, side, channels)).astype(dtype)
    mask = np.zeros((side, side), np.uint8)
    for row in range(0, side - 2, 4):
      for column in range(0, side - 2, 4):
        mask[row : row + 3, column : column + 3] = 1 + (row + column) // 4 % 2
    mask[-1, 0] = IGNORE
    mask[-1, -1] = 1  # a piece of one pixel
    found.append({'image': image, 'label': mask, 'name': f'i{i}'})
  return found


def _splits(**fields):
  return Splits(_source(), None, _source(1), _source(2), ('nothing', 'a', 'b'))._replace(**fields)


def test_smaller_images_are_means_of_areas_and_masks_keep_their_ids():
  found = modifiers.downscale(_splits(unlabeled=_source(1)), 0.5)
  whole = _source()[1]
  small = found.labeled[1]
  assert small['image'].shape == (7, 7, 1)
  assert small['image'].dtype == np.uint8
  middle = whole['image'].astype(float)
  # Pillow's triangle over two pixels to each side: 1, 3, 3, 1 eighths along each axis.
  taps = np.array([1, 3, 3, 1]) / 8
  expected = np.einsum('ijc,i,j->c', middle[3:7, 3:7], taps, taps)
  np.testing.assert_allclose(small['image'][2, 2], expected, atol=1)
  assert set(np.unique(small['label'])) <= {0, 1, 2, IGNORE}
  assert small['name'] == 'i1'
  assert 'label' in found.test[0]
  assert found.unlabeled[0]['image'].shape == (7, 7, 1)
  assert found.scale == 0.5
  assert found.digest != _splits().digest
  assert dataset_stats.compute_stats(found).scale == 0.5


@pytest.mark.parametrize('channels', [1, 3])
def test_smaller_floating_images_stay_floating(channels):
  source = [{'image': np.full((8, 8, channels), 0.3, np.float32), 'name': 'x'}]
  small = modifiers.Downscaled(source, 0.25)[0]['image']
  assert small.shape == (2, 2, channels)
  assert small.dtype == np.float32
  np.testing.assert_allclose(small, 0.3, rtol=1e-6)


def test_removed_instances_are_always_the_same_and_the_truth_is_kept():
  found = modifiers.drop_instances(_splits(), fraction=0.5, seed=1, min_pixels=2)
  removed = 0
  for i, whole in enumerate(_source()):
    given, complete = found.labeled[i]['label'], found.complete[i]
    np.testing.assert_array_equal(complete['label'], whole['label'])
    gone = complete['removed'] > 0
    assert (given[gone] == 0).all()
    np.testing.assert_array_equal(given[~gone], whole['label'][~gone])
    assert not gone[whole['label'] == 0].any()
    assert not gone[whole['label'] == IGNORE].any()
    assert not gone[-1, -1]  # too small to be taken
    for number in range(1, complete['removed'].max() + 1):  # whole squares, one number each
      rows, columns = np.nonzero(complete['removed'] == number)
      assert len(rows) == 9
      assert np.ptp(rows) == np.ptp(columns) == 2
    removed += complete['removed'].max()
    np.testing.assert_array_equal(found.labeled[i]['label'], given)
  assert 0 < removed < 27
  again = modifiers.drop_instances(_splits(), fraction=0.5, seed=1, min_pixels=2)
  np.testing.assert_array_equal(again.complete[2]['removed'], found.complete[2]['removed'])
  other = modifiers.drop_instances(_splits(), fraction=0.5, seed=2, min_pixels=2)
  assert any((other.complete[i]['removed'] != found.complete[i]['removed']).any() for i in range(3))
  for untouched in (found.test, found.val):
    np.testing.assert_array_equal(untouched[0]['label'], _source()[0]['label'])
  assert any('50% of the instances' in note for note in found.notes)


def test_the_fraction_is_that_of_the_instances():
  mask = np.kron(np.eye(40, dtype=np.uint8), np.ones((3, 3), np.uint8))
  mask = np.kron(np.indices((40, 40)).sum(0) % 2 == 0, np.pad(np.ones((2, 2)), 1)).astype(np.uint8)
  gone = modifiers.draw_instances(mask, 0.4, np.random.default_rng(0), 1)
  assert gone.max() / 800 == pytest.approx(0.4, abs=0.05)
  assert not modifiers.draw_instances(mask, 0.0, np.random.default_rng(0), 1).any()


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    (lambda s: modifiers.downscale(s, 0), 'data.scale=0'),
    (lambda s: modifiers.downscale(s, 1.5), 'data.scale=1.5'),
    (lambda s: modifiers.downscale(s._replace(task=CELLS), 0.5), 'is for masks'),
    (lambda s: modifiers.drop_instances(s, fraction=1), 'data.drop_instances.fraction=1'),
    (
      lambda s: modifiers.drop_instances(s._replace(task=CELLS), fraction=0.5),
      'these data have points',
    ),
  ],
)
def test_what_cannot_be_is_refused(change, said):
  with pytest.raises(UserError, match=said):
    change(_splits())


def test_a_page_asks_for_both_and_a_wrong_field_is_named(tmp_path):
  write_sections(tmp_path)
  page = dict(name='em_vnc', root=str(tmp_path), scale=0.5)
  page['drop_instances'] = dict(fraction=0.4, min_pixels=4)

  def load(**changes):
    return build.splits(parse_settings.parse({'data': page | changes}).data)

  found = load()
  assert found.labeled[0]['image'].shape == (32, 32, 1)
  assert found.complete[0]['removed'].max() > 0
  whole = load(drop_instances=dict(fraction=0.0))
  assert whole.complete is None
  assert whole.digest != found.digest
  with pytest.raises(UserError, match=r'data\.drop_instances\.chair is no field'):
    load(drop_instances=dict(fraction=0.4, chair=1))


def test_masks_of_new_images_are_of_the_images_own_size(tmp_path):
  write_sections(tmp_path)
  page = tiny_page()
  page.unlock()
  page.data = dict(name='em_vnc', root=str(tmp_path), scale=0.5, test=2)
  page.update(steps=2, eval_every=2, views=dict(labeled=dict(source='labeled')), teacher='student')
  page.update(methods=dict(supervised=dict()), batch=dict(labeled=4), stages=())
  run(page, tmp_path / 'run')
  images = tmp_path / 'em_vnc' / 'images'
  asked = [f'--run={tmp_path / "run"}', f'--images={images}', f'--out={tmp_path / "out"}']
  assert predict.main(asked) == 0
  with Image.open(tmp_path / 'out' / 'masks' / 'z00.png') as mask:
    assert mask.size == (64, 64)


def test_a_run_begun_before_there_was_a_scale_goes_on(tmp_path):
  stats = dataset_stats.compute_stats(_splits())
  now = stats._asdict()
  del now['scale']
  (tmp_path / 'data.json').write_text(json.dumps(now))
  (tmp_path / 'metrics.jsonl').write_text('{"step": 1}\n')
  training_sources.keep_stats(tmp_path, stats)
  with pytest.raises(UserError, match='scale was 1'):
    training_sources.keep_stats(tmp_path, stats._replace(scale=0.5))
