"""What a worker of Dask is found to have, or to lack, before it is given a task."""

import importlib.util

import jax

from ssl_jax.running import dask_look


def test_a_worker_that_has_all_tells_its_versions(tmp_path):
  (tmp_path / 'lock.json').write_text('mine')
  found = dask_look.look([str(tmp_path)], {str(tmp_path / 'lock.json'): 'mine'}, str(tmp_path))
  assert found['jax'] == jax.__version__
  assert len(found['ssl_jax']) == 64
  assert set(found) == {'ssl_jax', 'jax', 'jaxlib', 'numpy'}


def test_folders_and_files_that_it_does_not_see_are_named(tmp_path):
  nowhere = str(tmp_path / 'nowhere')
  assert dask_look.look([nowhere], {}, '')['unseen'] == nowhere
  # A folder of that name may be another one: its file tells.
  (tmp_path / 'lock.json').write_text('of another machine')
  for name in ('lock.json', 'none.json'):
    assert dask_look.look([], {str(tmp_path / name): 'mine'}, '')['unseen'] == str(tmp_path)


def test_what_cannot_be_written_is_told(tmp_path, monkeypatch):
  monkeypatch.setattr(dask_look.os, 'access', lambda path, mode: False)
  assert dask_look.look([], {}, str(tmp_path))['read_only'] == str(tmp_path)


def test_a_worker_without_the_package_says_so(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  assert dask_look.look([], {}, '') == {'lacks': 'ssl_jax'}
