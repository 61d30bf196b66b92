"""Images on the device: the same batches and the same training as from the host."""

import json
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from ssl_jax.data import on_device, stream
from ssl_jax.errors import UserError
from ssl_jax.run import run
from ssl_jax.training import feeds
from ssl_jax.types import IGNORE

pytestmark = pytest.mark.gpu


class Pictures:
  """Images of several sizes, no two pixels alike, with labels of pixels, or one for each image."""

  def __init__(self, sizes, patches=False):
    self.sizes, self.patches = sizes, patches

  def __len__(self):
    return len(self.sizes)

  def __getitem__(self, index):
    shape = self.sizes[index]
    rng = np.random.default_rng(index)
    record = {'image': rng.integers(0, 255, (*shape, 2), np.uint8), 'name': f'cell{index}'}
    if self.patches:
      point = np.array([index, np.nan], np.float32)
      return record | {'label': np.int32(index), 'point': point}
    return record | {'label': rng.integers(0, 3, shape, np.uint8)}


def _same(ours, theirs):
  assert ours.keys() == theirs.keys()
  for name in ours:
    np.testing.assert_array_equal(np.asarray(ours[name]), theirs[name])
    assert np.asarray(ours[name]).dtype == theirs[name].dtype


def _batches(stream_of, per_call, start, stop):
  """The batches of a feed, whose update gives them back instead of learning."""
  feed = feeds.DeviceFeed(lambda state, batch, key: (state, batch), [stream_of], per_call)
  for last, arguments in feed.calls(start, stop):
    _, batches = feed.update(np.float32(0), *arguments, jax.random.key(0))
    yield last, batches


@pytest.mark.parametrize('patches', [False, True])
@pytest.mark.parametrize('canvas', [(6, 9), (12, 12)])
def test_batches_are_those_of_the_host(patches, canvas):
  """Cropped where images are larger than the canvas, padded where they are smaller."""
  images = stream.Stream(Pictures([(8, 10), (5, 12), (11, 7)], patches), 2, canvas, seed=3)
  if canvas == (12, 12) and not patches:
    assert IGNORE in images[0]['label']
  step = 1
  for last, batches in _batches({'labeled': images}, 2, 1, 6):
    for row in range(last - step):
      ours = jax.tree.map(lambda x, row=row: x[row], batches['labeled'])
      _same(ours, images[step])
      step += 1
  # From step 1 to the next multiple of 2, and then by twos.
  assert step == 6


def test_calls_end_at_multiples_wherever_they_begin():
  images = stream.Stream(Pictures([(8, 8)]), 2, (8, 8), seed=3)
  assert [last for last, _ in _batches({'labeled': images}, 4, 6, 14)] == [8, 12, 14]
  assert not list(_batches({'labeled': images}, 4, 6, 6))


def test_calls_meet_all_boundaries():
  assert feeds.steps_per_call(20, 100, 60) == 20
  assert feeds.steps_per_call(20, 100, 50, 30) == 10
  assert feeds.steps_per_call(20, 7) == 7
  assert feeds.steps_per_call(20, 23) == 1


def _finals(folder, seeds):
  finals = []
  for seed in seeds:
    path = folder / f'seed_{seed}' if len(seeds) > 1 else folder
    step = ocp.StandardCheckpointer().restore(path / 'checkpoints' / '6' / 'default')
    finals += jax.tree.leaves(step['student'])
  return finals


def test_the_steps_in_a_call_make_no_difference(page, tmp_path):
  """To the bit; and the host's batches give the same but for rounding. With two seeds together."""
  seeds = 2
  page.unlock()
  page.update(num_seeds=seeds, vmap_seeds=True, stages=())
  page.update(steps=6, log_every=6, eval_every=6, checkpoint_every=6)
  page.optimizer = dict(name='sgd', lr=0.001, momentum=0.9)
  finals = {}
  for per_call in (None, 2, 3):
    page.data_on_device = per_call is not None
    page.steps_per_call = per_call or 1
    run(page, tmp_path / str(per_call))
    finals[per_call] = _finals(tmp_path / str(per_call), range(seeds))
    logged = (tmp_path / str(per_call)).rglob('metrics.jsonl')
    assert all(json.loads(path.read_text().splitlines()[0])['step'] == 6 for path in logged)
  for twos, threes, host in zip(finals[2], finals[3], finals[None], strict=True):
    np.testing.assert_array_equal(twos, threes)
    np.testing.assert_allclose(twos, host, atol=5e-4)


def test_a_run_that_was_stopped_goes_on_to_the_bit(page, tmp_path):
  """Also where it stopped between two ends of calls, as a run with batches of the host may."""
  page.unlock()
  page.update(num_seeds=1, stages=(), data_on_device=True, steps_per_call=3)
  page.update(steps=6, log_every=6, eval_every=6, checkpoint_every=3)
  run(page, tmp_path)
  whole = _finals(tmp_path, range(1))
  (tmp_path / 'done.json').unlink()
  shutil.rmtree(tmp_path / 'checkpoints' / '6')
  run(page, tmp_path)
  for ours, before in zip(_finals(tmp_path, range(1)), whole, strict=True):
    np.testing.assert_array_equal(ours, before)


def test_images_that_cannot_be_there_are_refused(page, tmp_path, monkeypatch):
  monkeypatch.setattr(on_device, 'MEMORY_SHARE', 0)
  page.unlock()
  page.update(stages=(), steps=1, data_on_device=True)
  with pytest.raises(UserError, match='do not fit'):
    run(page, tmp_path)
