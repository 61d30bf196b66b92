"""How long compiling took is remembered by device and program."""

import json

import jax
import jax.numpy as jnp
import pytest

from ssl_jax.training import compile_times


@pytest.fixture
def folder(tmp_path):
  """The folder of compiled programs, empty."""
  before = jax.config.jax_compilation_cache_dir
  jax.config.update('jax_compilation_cache_dir', str(tmp_path / 'cache'))
  yield tmp_path / 'cache'
  jax.config.update('jax_compilation_cache_dir', before)


def _program(side, traced=None):
  def double(x):
    if traced is not None:
      traced.append(side)
    return x @ x

  compiled = jax.jit(double)
  return compiled, compile_times.Program(compiled, jnp.ones((side, side)))


def test_what_is_expected_follows_from_what_was(folder):
  _, first = _program(4)
  assert first.expectation() == 'first time on this device'
  first.took(40.0)
  # Another process makes the same program.
  assert _program(4)[1].expectation() == 'last time 40 s'
  _, second = _program(8)
  assert second.expectation() == 'first time on this device, about 40 s'
  second.took(60.0)
  # The second time it comes from the cache.
  first.took(3.0)
  assert _program(4)[1].expectation() == 'last time 3 s'
  # Of programs that are new, the first times tell.
  assert _program(2)[1].expectation() == 'first time on this device, about 50 s'


def test_a_program_is_traced_once(folder):
  traced = []
  compiled, program = _program(4, traced)
  compiled(jnp.ones((4, 4)))
  assert traced == [4]
  assert program.operations == {'float32': 2 * 4 * 4 * 4}


def test_other_devices_tell_nothing(folder, monkeypatch):
  _program(4)[1].took(40.0)
  monkeypatch.setattr(compile_times, '_device', lambda: 'another card')
  assert _program(4)[1].expectation() == 'first time on this device'


@pytest.mark.parametrize('text', ['{', '[]', '{"cpu": 3}', '{"cpu": {"a": [1, "x"]}}'])
def test_a_damaged_record_is_written_anew(folder, text):
  folder.mkdir()
  (folder / compile_times.FILE).write_text(text)
  _, program = _program(4)
  assert program.expectation() == 'first time on this device'
  program.took(2.0)
  assert len(json.loads((folder / compile_times.FILE).read_text())) == 1


def test_the_oldest_are_forgotten(folder, monkeypatch):
  monkeypatch.setattr(compile_times, 'MOST', 2)
  for side in (2, 4, 6):
    _program(side)[1].took(float(side))
  assert _program(2)[1].expectation().startswith('first time')
  assert _program(6)[1].expectation() == 'last time 6 s'


def test_a_folder_that_cannot_be_written_stops_nothing(folder):
  folder.parent.mkdir(exist_ok=True)
  folder.write_text('a file')
  _program(4)[1].took(1.0)


def test_a_plain_function_has_no_record(folder):
  program = compile_times.Program(lambda x: x, 3)
  program.took(1.0)
  assert program.operations == {}
  assert not folder.exists()
