"""Damaged files of a run: noticed, named, and replaced by the one before, if there is one.

Every byte of a checkpoint, a table or a mask may be the one that a failing disk flips.
"""

import json
import shutil
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ssl_jax import run_folder
from ssl_jax.errors import UserError
from ssl_jax.inference.trained_networks import TrainedNetwork
from ssl_jax.io import run_log
from ssl_jax.io.folders import digests
from ssl_jax.reports import ledger
from ssl_jax.run import run
from ssl_jax.running import provenance
from ssl_jax.stages.comparing import looks
from ssl_jax.stages.learning.progress_log import Journal
from ssl_jax.training import checksums
from ssl_jax.training.checkpoint import Checkpoints, DamagedCheckpoint
from ssl_jax.types import AS_IS, TrainState


def flip(path, place=None, bit=1):
  """Flips one bit of a file, in the middle if nothing else is said."""
  data = bytearray(path.read_bytes())
  data[len(data) // 2 if place is None else place] ^= bit
  path.write_bytes(data)


def files_of(folder):
  return sorted(path for path in folder.rglob('*') if path.is_file())


def _state(step):
  rng = np.random.default_rng(step)
  params = {
    'kernel': jnp.asarray(rng.normal(size=(3, 3, 8, 16)), jnp.float32),
    'bias': jnp.ones(16),
  }
  student = {'params': params, 'batch_stats': {'mean': jnp.ones(16)}}
  opt_state = optax.adam(0.1).init(params)
  return TrainState(jnp.asarray(step), student, student, opt_state, AS_IS)


def _bits(state):
  return [np.asarray(array).tobytes() for array in jax.tree.leaves(state)]


def test_no_byte_of_a_checkpoint_is_damaged_unnoticed(tmp_path):
  folder = tmp_path / 'checkpoints'
  checkpoints = Checkpoints(folder, best=('val/score',))
  for step in (2, 4):
    checkpoints.save(_state(step), {'val/score': float(step)})
  checkpoints.close()
  like, whole = _state(4), _bits(_state(4))
  rng = np.random.default_rng(0)
  sentences = []
  for path in files_of(folder / '4'):
    data = path.read_bytes()
    damaged = [b'', data[: len(data) // 2]]
    for place in rng.integers(0, len(data), 2):
      changed = bytearray(data)
      changed[place] ^= 1 << rng.integers(8)
      damaged.append(bytes(changed))
    for content in damaged:
      path.write_bytes(content)
      try:
        # As training opens them, and then reads them.
        writing = Checkpoints(folder, best=('val/score',))
        assert writing.find('best') == 4
        assert _bits(writing.restore(like, 4)) == whole, path
        writing.close()
      except DamagedCheckpoint as error:
        sentences.append(str(error))
      path.write_bytes(data)
  assert len(sentences) > 15
  assert all(f'{folder}/4 is damaged' in sentence for sentence in sentences)


def test_checksums_are_those_of_the_bytes_whatever_the_type():
  ones = jnp.ones(3, jnp.bfloat16)
  tree = {'a': ones, 'b': (jnp.asarray(7), np.zeros((0, 4), np.float16)), 'c': np.eye(2).T[::-1]}
  expected = {
    'a': zlib.crc32(bytes.fromhex('803f' * 3)),
    'b/0': zlib.crc32((7).to_bytes(4, 'little')),
    'b/1': 0,
    'c': zlib.crc32(np.array([0.0, 1.0, 1.0, 0.0]).tobytes()),
  }
  assert checksums.of_tree(tree) == expected


def test_a_checkpoint_of_another_network_is_not_called_damaged(tmp_path):
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(_state(2))
  checkpoints.close()
  other = _state(2)
  student = jax.tree.map(lambda array: jnp.zeros((*array.shape, 2)), other.student)
  with pytest.raises(UserError, match='does not fit this network') as caught:
    Checkpoints(tmp_path, read_only=True).restore(other.replace(student=student))
  assert not isinstance(caught.value, DamagedCheckpoint)


@pytest.mark.parametrize(
  'error',
  [MemoryError(), PermissionError(13, 'Permission denied'), ValueError('RESOURCE_EXHAUSTED: x')],
)
def test_a_lack_of_memory_or_rights_is_no_damage(tmp_path, monkeypatch, error):
  """What is damaged is trained again; a good checkpoint must not be given up for the machine."""
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(_state(2))
  checkpoints.manager.wait_until_finished()

  def fail(*words, **more):
    raise error

  monkeypatch.setattr(checkpoints.manager, 'restore', fail)
  with pytest.raises(type(error)) as caught:
    checkpoints.restore(_state(2))
  assert not isinstance(caught.value, UserError)


@pytest.fixture
def copied(finished, tmp_path):
  return shutil.copytree(finished, tmp_path / 'run')


def _largest(folder):
  return max(files_of(folder), key=lambda path: path.stat().st_size)


def _final_bits(folder):
  network = TrainedNetwork(run_folder.read_settings(folder), run_folder.read_stats(folder))
  return _bits(network.state(folder))


def test_training_goes_on_from_the_checkpoint_before_and_ends_the_same(
  copied, finished, page, capsys
):
  # As a kill after the last save leaves it, and a disk that fails in addition.
  for path in ('done.json', 'fixmatch/done.json'):
    (copied / path).unlink()
  flip(_largest(copied / 'fixmatch' / 'checkpoints' / '6'))
  done = run(page, copied)
  said = capsys.readouterr().out
  assert 'checkpoints/6 is damaged: ' in said
  assert 'training goes on from the one before it.' in said
  assert done == json.loads((finished / 'done.json').read_text())
  assert _final_bits(copied / 'fixmatch') == _final_bits(finished / 'fixmatch')


def test_without_a_whole_checkpoint_training_begins_again(copied, finished, page, capsys):
  for path in ('done.json', 'control/done.json'):
    (copied / path).unlink()
  for step in ('4', '6'):
    flip(_largest(copied / 'control' / 'checkpoints' / step))
  run(page, copied)
  assert 'checkpoints/4 is damaged' in (said := capsys.readouterr().out)
  assert 'goes on from the beginning.' in said
  assert _final_bits(copied / 'control') == _final_bits(finished / 'control')


def test_a_finished_network_that_is_damaged_is_refused_and_trained_again(copied, finished, page):
  folder = copied / 'fixmatch'
  flip(_largest(folder / 'checkpoints' / '6'))
  with pytest.raises(UserError, match='checkpoints/6 is damaged') as caught:
    _final_bits(folder)
  # The advice works.
  assert f'delete {folder / "done.json"}, and the command of the run' in str(caught.value)
  (folder / 'done.json').unlink()
  run(page, copied)
  assert _final_bits(folder) == _final_bits(finished / 'fixmatch')


def test_a_mask_or_table_of_a_finished_stage_is_checked_before_others_read_it(
  copied, finished, page
):
  masks = sorted((copied / 'control' / 'test' / 'masks').iterdir())
  for path in (masks[0], copied / 'control' / 'test' / 'matrices.npz'):
    whole = path.read_bytes()
    flip(path)
    with pytest.raises(UserError) as caught:
      run(page, copied)
    assert str(path) in str(caught.value)
    assert f'delete {copied / "control"}, and' in str(caught.value)
    path.write_bytes(whole)
  flip(masks[0])
  shutil.rmtree(copied / 'control')
  assert run(page, copied) == json.loads((finished / 'done.json').read_text())
  # What somebody changed on purpose is used, once the digests are gone.
  flip(masks[0])
  (copied / 'control' / digests.FILE).unlink()
  run(page, copied)


@pytest.mark.parametrize('damage', [b'', b'{"test/miou": ', b'\xff\xfe', b'[1]', b'null'])
@pytest.mark.parametrize('name', ['done.json', 'data.json', 'config.json', '../provenance.json'])
def test_a_damaged_file_of_json_is_named_with_what_to_do(copied, name, damage):
  folder = copied / 'fixmatch'
  path = folder / name
  path.write_bytes(b'{}' if name == '../provenance.json' and damage == b'[1]' else damage)
  readers = {
    'done.json': run_log.read_done,
    'data.json': run_folder.read_stats,
    'config.json': run_folder.read_page,
    '../provenance.json': lambda folder: provenance.read(folder.parent),
  }
  with pytest.raises(UserError, match='is damaged') as caught:
    readers[name](folder)
  assert path.name in str(caught.value)
  assert 'delete it' in str(caught.value)
  assert '\n' not in str(caught.value)


def test_a_digit_of_a_finished_figure_cannot_change_unnoticed(copied):
  for name, read in (('done.json', run_log.read_done), ('data.json', run_folder.read_stats)):
    path = copied / 'fixmatch' / name
    text = path.read_text()
    place = next(i for i, letter in enumerate(text) if letter.isdigit())
    flip(path, place)
    json.loads(path.read_text())
    with pytest.raises(UserError, match=f'{name} is damaged or was changed'):
      read(copied / 'fixmatch')


def test_damaged_files_of_a_run_are_written_again_as_the_sentence_says(copied, finished, page):
  whole = json.loads((finished / 'done.json').read_text())
  for name in ('done.json', 'config.json', '../config.json', '../provenance.json'):
    path = copied / 'fixmatch' / name
    path.write_text('{"a')
    with pytest.raises(UserError, match='is damaged') as caught:
      run(page, copied)
    assert 'delete it, ' in str(caught.value)
    path.unlink()
    assert run(page, copied) == whole
  stats = copied / 'fixmatch' / 'data.json'
  stats.write_text('{"a')
  with pytest.raises(UserError, match=r'data\.json is damaged'):
    run(page, copied)
  stats.unlink()
  (copied / 'fixmatch' / 'done.json').unlink()
  assert run(page, copied) == whole
  assert stats.exists()


def test_a_damaged_line_of_the_log_is_left_out_aloud(tmp_path, capsys):
  lines = [json.dumps({'step': step, 'loss': 1.0}) for step in (1, 2, 3)]
  path = tmp_path / run_log.METRICS
  for bad in ('{"step": 2, "lo', '{"stop": 2}', '[2]', '\x00', '{"step": "b"}'):
    path.write_text('\n'.join([lines[0], bad, lines[2]]) + '\n')
    assert [line['step'] for line in run_log.read_log(tmp_path)] == [1, 3]
    assert f'{path}, line 2 is damaged and left out.' in capsys.readouterr().out
  # A kill cuts the last one short, which is no damage.
  path.write_text(lines[0] + '\n' + lines[1][:9])
  log = run_log.RunLog(tmp_path, 5, tensorboard=False)
  assert capsys.readouterr().out == ''
  log.write(6, {'loss': 0.5})
  assert [line['step'] for line in run_log.read_log(tmp_path)] == [1, 6]


def test_a_damaged_line_of_a_journal_is_done_again(tmp_path, capsys):
  journal = Journal(tmp_path, range(3))
  for index in range(3):
    journal.write(index, {'pixels': 100 + index})
  path = tmp_path / 'cases.jsonl'
  place = path.read_text().index('101')
  flip(path, place, bit=4)
  json.loads(path.read_text().splitlines()[1])
  again = Journal(tmp_path, range(3))
  assert again.waiting == [1, 2]
  assert f'{path}, line 2 is damaged; the images from there on are done again.' in (
    capsys.readouterr().out
  )


def test_a_damaged_ledger_is_named_with_its_line(tmp_path):
  path = tmp_path / looks.FILE
  path.write_bytes(b'{"comparison": "a against b", "look": 1}\n{"comparison": \xff\n')
  with pytest.raises(UserError, match=r'looks\.jsonl, line 2 is damaged; delete the line'):
    looks.read_looks(tmp_path)
  cells = tmp_path / 'cells.jsonl'
  for bad in (b'{', b'[]', b'\xff', b'null', b'{"table": 1}'):
    cells.write_bytes(bad + b'\n')
    with pytest.raises(UserError, match=r'cells\.jsonl, line 1 is no line of a ledger'):
      ledger.read(cells)
