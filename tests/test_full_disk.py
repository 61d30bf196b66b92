"""A full disk, for real: a small tmpfs. What was there stays, and all that it takes is room.

Mounting needs root, as in a container; elsewhere these tests are left out.
"""

import json
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ssl_jax import predict
from ssl_jax.errors import UserError
from ssl_jax.io import mask_store, terminal
from ssl_jax.run import run
from ssl_jax.training.checkpoint import Checkpoints
from ssl_jax.types import AS_IS, TrainState

KIB = 1024


@pytest.fixture
def disk(tmp_path):
  """A disk of 3 MiB."""
  folder = tmp_path / 'disk'
  folder.mkdir()
  command = ['mount', '-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', str(folder)]
  try:
    mounted = subprocess.run(command, capture_output=True).returncode == 0
  except OSError:
    mounted = False
  if not mounted:
    pytest.skip('a tmpfs can only be mounted by root')
  yield folder
  subprocess.run(['umount', '--lazy', str(folder)], check=True)


def fill(disk, leave):
  """Writes a file that leaves so many bytes of room."""
  stuffing = disk / 'stuffing'
  with stuffing.open('wb', buffering=0) as file:
    try:
      while True:
        file.write(bytes(4 * KIB))
    except OSError:
      pass
    file.truncate(max(file.tell() - leave, 0))
  return stuffing


def _state(step, count=20_000):
  numbers = jnp.asarray(np.random.default_rng(step).normal(size=count), jnp.float32)
  student = {'params': {'kernel': numbers}, 'batch_stats': {}}
  return TrainState(jnp.asarray(step), student, student, (numbers,), AS_IS)


def _bits(state):
  return [np.asarray(array).tobytes() for array in jax.tree.leaves(state)]


def _save(folder, step):
  checkpoints = Checkpoints(folder)
  try:
    checkpoints.save(_state(step))
  finally:
    checkpoints.close()


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(disk):
  folder = disk / 'checkpoints'
  _save(folder, 2)
  stuffing = fill(disk, 40 * KIB)
  with pytest.raises(
    UserError, match='the disk is full; the checkpoints before are whole'
  ) as caught:
    _save(folder, 4)
  assert '\n' not in str(caught.value)
  assert _bits(Checkpoints(folder, read_only=True).restore(_state(9))) == _bits(_state(2))
  stuffing.unlink()
  _save(folder, 4)
  after = Checkpoints(folder, read_only=True)
  assert after.steps() == {2, 4}
  assert _bits(after.restore(_state(9))) == _bits(_state(4))


def test_a_mask_that_does_not_fit_leaves_none_and_no_part(disk):
  stuffing = fill(disk, 8 * KIB)
  mask = np.random.default_rng(0).integers(0, 5, (300, 300)).astype(np.uint8)
  for shape in ((300, 300), (30, 30, 100)):
    with pytest.raises(OSError, match='No space left') as caught:
      mask_store.write_mask(disk, 'a', mask.reshape(shape))
    assert 'the disk is full; free some space' in terminal.sentence_of(caught.value)
    assert 'masks/a.' in terminal.sentence_of(caught.value)
  assert [*(disk / 'masks').iterdir()] == []
  stuffing.unlink()
  mask_store.write_mask(disk, 'a', mask)
  np.testing.assert_array_equal(mask_store.read_mask(disk, 'a'), mask)


def test_a_run_says_so_and_goes_on_once_there_is_room(disk, page, finished):
  page.unlock()
  # The tiny run's own report has pictures that are larger than this disk.
  page.stages = tuple(stage for stage in page.to_dict()['stages'] if stage['name'] == 'fixmatch')
  folder = disk / 'run'
  stuffing = fill(disk, 150 * KIB)
  with pytest.raises((UserError, OSError)) as caught:
    run(page, folder)
  error = caught.value
  sentence = terminal.sentence_of(error) if isinstance(error, OSError) else str(error)
  assert 'the disk is full' in sentence
  assert str(disk) in sentence
  stuffing.unlink()
  done = run(page, folder)
  whole = json.loads((finished / 'fixmatch' / 'done.json').read_text())
  assert {key: done[f'fixmatch/{key}'] for key in whole} == whole


def test_predict_says_so_and_resumes(disk, finished, tmp_path, capsys):
  images = tmp_path / 'images'
  images.mkdir()
  rng = np.random.default_rng(0)
  for number in range(6):
    pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(images / f'i{number}.png')
  call = [f'--run={finished}', f'--images={images}']
  stuffing = fill(disk, 16 * KIB)
  assert predict.main([*call, f'--out={disk / "out"}']) == 1
  said = capsys.readouterr().err
  assert 'the disk is full; free some space' in said
  assert 'Traceback' not in said
  stuffing.unlink()
  assert predict.main([*call, f'--out={disk / "out"}', '--resume']) == 0
  assert predict.main([*call, f'--out={tmp_path / "whole"}']) == 0
  for path in (tmp_path / 'whole' / 'masks').iterdir():
    assert path.read_bytes() == (disk / 'out' / 'masks' / path.name).read_bytes()
