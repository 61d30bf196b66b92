"""What several tests share: a place for compiled programs, a tiny config, a tiny finished run."""

import os
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
CACHE = Path(os.environ.get('XDG_CACHE_HOME', Path.home() / '.cache')) / 'ssl_jax'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(CACHE))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')

import pytest  # noqa: E402

TINY = {
  'replicas': 1,
  'steps': 6,
  'eval_every': 3,
  'checkpoint_every': 2,
  'log_every': 1,
  'size': 32,
  'batch.labeled': 4,
  'batch.unlabeled': 4,
  'data.labeled': 6,
  'data.unlabeled': 8,
  'data.test': 4,
  'data.size': 40,
  'model.widths': (4, 8),
}


@pytest.fixture
def page():
  """The quickstart's config with everything made small, as a ConfigDict."""
  return tiny_page()


def tiny_page():
  config = runpy.run_path(str(ROOT / 'configs' / 'quickstart.py'))['get_config']()
  for key, value in TINY.items():
    config.update_from_flattened_dict({key: value})
  return config


@pytest.fixture(scope='session')
def finished(tmp_path_factory):
  """The folder of a finished tiny run: control, fixmatch, verdict."""
  from ssl_jax.run import run

  folder = tmp_path_factory.mktemp('runs') / 'tiny'
  run(tiny_page(), folder)
  return folder
