import json
import os
import subprocess
import sys
from pathlib import Path

from ssl_jax.views import make_views

SHARDED = """
import json, sys, chex, jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from ssl_jax.views import make_views
recipes = json.loads(sys.argv[1])
rng = np.random.default_rng(0)
data = dict(image=rng.integers(0, 256, (8, 16, 16, 3), np.uint8),
            extent=np.full((8, 2), 16, np.int32))
views = []
for count in (1, 2):
  mesh = Mesh(np.asarray(jax.devices()[:count]), ('data',))
  placed = jax.device_put(dict(unlabeled=data), NamedSharding(mesh, P('data')))
  make = jax.jit(lambda s, k: make_views.make_views(recipes, s, 16, k))
  views.append(make(placed, jax.random.key(0)))
chex.assert_trees_all_close(*views, rtol=1e-7, atol=1e-6)
print(len(jax.devices()), 'devices agree')
"""


def test_views_do_not_depend_on_the_number_of_devices():
  strong = dict(source='weak', jitter=dict(p=0.5, contrast=0.5))
  strong |= dict(cutout=dict(p=0.5), cutmix=dict(p=0.7))
  weak = dict(source='unlabeled', resize_long_side=16, scale=(0.5, 2.0), rotate=30, flip=0.5)
  recipes = json.dumps(dict(weak=weak, strong=strong))
  env = os.environ | {
    'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count=2',
    'JAX_PLATFORMS': 'cpu',
    'PYTHONPATH': str(Path(make_views.__file__).parents[2]),
  }
  command = [sys.executable, '-c', SHARDED, recipes]
  done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
  assert done.stdout.strip() == '2 devices agree', done.stderr[-2000:]
