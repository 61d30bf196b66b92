"""What several tests share: a place for compiled programs, a tiny config, a tiny finished run."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
CACHE = Path(os.environ.get('XDG_CACHE_HOME', Path.home() / '.cache')) / 'ssl_jax'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(CACHE))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')


def _are_known_to_xla(flags: str) -> bool:
  """Whether JAX starts with these flags; one that it does not know ends the process."""
  code = 'import jax; jax.devices()'
  environment = os.environ | {'XLA_FLAGS': flags}
  tried = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True)
  return tried.returncode == 0


# Compiling is most of what tests do. It takes half as long without optimization, and half of that
# without the emitters of fusions, where JAX can still do without them (0.10 can, 0.12 cannot).
# XLA_FLAGS='' in the shell tests programs as a run compiles them. Workers inherit the flags.
if os.environ['JAX_PLATFORMS'] != 'cpu':
  # A GPU's compiler may fail with these.
  os.environ.setdefault('XLA_FLAGS', '')
if 'XLA_FLAGS' not in os.environ:
  unoptimized = '--xla_backend_optimization_level=0'
  without_emitters = f'{unoptimized} --xla_cpu_use_fusion_emitters=false'
  quick = without_emitters if _are_known_to_xla(without_emitters) else unoptimized
  os.environ['XLA_FLAGS'] = quick

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from ml_collections import ConfigDict  # noqa: E402
from PIL import Image  # noqa: E402

from ssl_jax import registry  # noqa: E402

TINY = {
  'num_seeds': 1,
  'steps': 6,
  # Unlabeled images teach from the first step.
  'labels_first': 0,
  'eval_every': 3,
  'checkpoint_every': 2,
  'log_every': 1,
  'crop_size': (32, 32),
  'batch.labeled': 4,
  'batch.unlabeled': 4,
  'data.labeled': 6,
  'data.unlabeled': 8,
  'data.test': 4,
  'data.size': 40,
  'model.widths': (4, 8),
}


@pytest.fixture(scope='session', autouse=True)
def own_cache(tmp_path_factory):
  """A cache of their own: that of the user may hold what another version prepared.

  Compiled programs stay where they were, because JAX itself knows which of them fit.
  """
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))
    yield


@pytest.fixture(autouse=True)
def own_plugins(monkeypatch):
  """A test's plug-ins are forgotten after it: the process would know them in all later tests."""
  monkeypatch.setattr(registry, '_plugin_folders', list(registry._plugin_folders))


def rounding(tolerance):
  """A tolerance of the digits that matrix products have: on a GPU those of TF32, about three.

  JAX_DEFAULT_MATMUL_PRECISION=highest in the shell asks for all digits there, too; then it is what
  a sum in another order makes of them.
  """
  if os.environ['JAX_PLATFORMS'] == 'cpu':
    return tolerance
  exact = os.environ.get('JAX_DEFAULT_MATMUL_PRECISION') in ('highest', 'float32')
  return max(tolerance, 1e-4 if exact else 1e-2)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
  """With -n, neighboring tests stay in one process, so that what they share is made once."""
  if getattr(config.option, 'numprocesses', None) and config.option.dist == 'no':
    config.option.dist = 'worksteal'


@pytest.fixture
def page():
  """The quickstart's config with everything made small, as a ConfigDict."""
  return tiny_page()


def tiny_page():
  config = runpy.run_path(str(ROOT / 'configs' / 'quickstart.py'))['get_config']()
  # A U-Net compiles ten times as fast as one on EfficientNet.
  with config.unlocked():
    config.model = ConfigDict(dict(name='unet', widths=(4, 8)))
  config.optimizer.update(lr=3e-3, head_lr_multiplier=1.0, clip=0.0)
  for key, value in TINY.items():
    config.update_from_flattened_dict({key: value})
  return config


def tiny_cells(folder):
  """The page of marked cells for the discs of `folder`, small and quick to learn."""
  config = runpy.run_path(str(ROOT / 'configs' / 'your_cells.py'))['get_config']()
  config.unlock()
  small = {
    'data.labeled': str(folder),
    'data.size': 21,
    'data.jitter': 3,
    'data.num_labeled': 60,
    'data.min_distance': 8.0,
    'crop_size': (21, 21),
    'num_seeds': 1,
    'steps': 100,
    'eval_every': 50,
    'optimizer.lr': 0.003,
    'batch.labeled': 16,
    'batch.unlabeled': 8,
    'ema_decay': 0.9,
    'model.width': 1,
    'model.classify': (16,),
    'model.locate': (32,),
    'methods.hydramix.ramp_up_steps': 50,
  }
  config.update_from_flattened_dict(small)
  stages = [dict(stage) for stage in config.to_dict()['stages']]
  for stage in stages:
    if stage['name'] == 'cells':
      stage['stride'] = 5
  config.stages = tuple(stages)
  return config.lock()


def write_discs(folder, images=4, side=80, seed=0, header='x,y,class'):
  """Writes images/ and points/: discs, 'red' and 'blue', in known places, at least 18 pixels apart.

  One disc in each image is marked as 'unlabelled'.
  """
  rng, every = np.random.default_rng(seed), {}
  for kind in ('images', 'points'):
    (folder / kind).mkdir(parents=True, exist_ok=True)
  rows, columns = np.mgrid[:side, :side]
  for number in range(images):
    image = rng.normal(0.85, 0.03, (side, side, 3))
    corners = np.stack(np.meshgrid(*[np.arange(12, side - 8, 20)] * 2), -1).reshape(-1, 2)
    places = rng.permutation(corners)[: len(corners) * 2 // 3]
    marks = []
    for i, (x, y) in enumerate(places + rng.uniform(-1, 1, places.shape)):
      kind = ('red', 'blue')[i % 2]
      inside = (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 < 25
      image[inside] = {'red': (0.8, 0.2, 0.2), 'blue': (0.2, 0.2, 0.8)}[kind]
      marks.append((x, y, kind if i else 'unlabelled'))
    name = f'disc{number}'
    pixels = (np.clip(image, 0, 1) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(folder / 'images' / f'{name}.png')
    lines = [header, *(f'{x:.2f},{y:.2f},{kind}' for x, y, kind in marks)]
    (folder / 'points' / f'{name}.csv').write_text('\n'.join(lines) + '\n')
    every[name] = marks
  return every


def write_sections(folder, count=8, side=64, seed=0):
  """Writes em_vnc/ as its loader wants it: discs of the class 3 in noise, a few in each section."""
  rng, folder = np.random.default_rng(seed), folder / 'em_vnc'
  for kind in ('images', 'masks', 'unlabeled'):
    (folder / kind).mkdir(parents=True, exist_ok=True)
  rows, columns = np.mgrid[:side, :side]
  for number in range(count + 1):
    image, mask = rng.normal(0.7, 0.05, (side, side)), np.zeros((side, side), np.uint8)
    corners = np.stack(np.meshgrid(*[np.arange(10, side - 8, 20)] * 2), -1).reshape(-1, 2)
    for x, y in rng.permutation(corners)[: len(corners) * 2 // 3]:
      mask[(columns - x) ** 2 + (rows - y) ** 2 < 36] = 3
    image[mask == 3] -= 0.4
    pixels = Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8))
    pixels.save(folder / ('images' if number < count else 'unlabeled') / f'z{number:02d}.png')
    if number < count:
      Image.fromarray(mask).save(folder / 'masks' / f'z{number:02d}.png')


def write_volumes(
  folder, count=8, shape=(18, 20, 16), seed=0, spacing=(1.0, 1.0, 1.5), first=0, classes=3
):
  """Writes images/ and masks/ of NIfTI volumes: a bright ball of class 1, a dark one of class 2."""
  import nibabel

  rng = np.random.default_rng(seed)
  for kind in ('images', 'masks'):
    (folder / kind).mkdir(parents=True, exist_ok=True)
  grid, mm = np.indices(shape), np.array(spacing)
  for number in range(first, first + count):
    voxels, mask = rng.normal(50, 5, shape), np.zeros(shape, np.uint8)
    for value, x in ((1, 5), (2, 13)):
      center = np.array([x, 10, 8]) + rng.uniform(-1.5, 1.5, 3)
      inside = sum(((grid[i] - center[i]) * mm[i]) ** 2 for i in range(3)) < 4.5**2
      voxels[inside] += {1: 60, 2: -40}[value]
      if value < classes:
        mask[inside] = value
    for kind, array in (('images', voxels.astype(np.int16)), ('masks', mask)):
      image = nibabel.Nifti1Image(array, np.diag([-spacing[0], -spacing[1], spacing[2], 1.0]))
      nibabel.save(image, folder / kind / f'case{number}.nii.gz')


def write_patients(folder, train=6, val=1, test=2, shape=(20, 18, 4), first=1, seed=0):
  """Writes ACDC's layout: two volumes of each patient, whose spots have the classes 1, 2 and 3."""
  import nibabel

  rng, grid = np.random.default_rng(seed), np.indices(shape)
  for kind in ('images', 'masks', 'splits'):
    (folder / kind).mkdir(parents=True, exist_ok=True)
  counts, number = {'train': train, 'val': val, 'test': test}, first
  for name, count in counts.items():
    patients = [f'patient{i:03d}' for i in range(number, number + count)]
    number += count
    (folder / 'splits' / f'{name}.txt').write_text('\n'.join(patients[::-1]) + '\n')
    for patient in patients:
      for frame in ('frame01', 'frame09'):
        voxels, mask = rng.normal(300, 20, shape), np.zeros(shape, np.uint8)
        for value, x in ((1, 4), (2, 10), (3, 15)):
          center = np.array([x, 9]) + rng.uniform(-1, 1, 2)
          inside = sum((grid[i] - center[i]) ** 2 for i in range(2)) < 3**2
          voxels[inside] += {1: -200, 2: 300, 3: 600}[value]
          mask[inside] = value
        # The first slice lies above the heart.
        voxels[..., 0], mask[..., 0] = 300, 0
        for kind, array in (('images', voxels.astype(np.uint16)), ('masks', mask)):
          image = nibabel.Nifti1Image(array, np.eye(4))
          nibabel.save(image, folder / kind / f'{patient}_{frame}.nii.gz')


def tiny_rounds(folder):
  """The page of ensembles, rounds and a generator, for the sections of `folder`, made small."""
  config = runpy.run_path(str(ROOT / 'configs' / 'gan_self_training_em.py'))['get_config']()
  config.unlock()
  small = {
    'data.root': str(folder),
    'data.scale': 0.5,
    'data.test': 2,
    'data.drop_instances.min_pixels': 4,
    'num_seeds': 1,
    'steps': 4,
    'eval_every': 4,
    'checkpoint_every': 2,
    'log_every': 1,
    'crop_size': (32, 32),
    'batch.labeled': 4,
    'schedule.warmup': 0,
    'model.widths': (4, 8),
    'model.stem': 4,
    'gan.generator': (8, 8),
    'gan.discriminator': (4, 8),
    'gan.latent': 4,
  }
  config.update_from_flattened_dict(small)
  stages = [dict(stage) for stage in config.to_dict()['stages'] if '2' not in stage['name']]
  stages[-1] |= dict(of='made1', against='real1')  # one later round is enough
  config.table = tuple(cell for cell in config.to_dict()['table'] if '2' not in cell['stage'])
  few = dict(steps=4, eval_every=2, crop_size=(16, 16))
  few |= dict(count=6, inertia=0.5, buffer=4, renew=0.5)
  for stage in stages:
    stage |= {key: value for key, value in few.items() if key in stage}
    if 'batch' in stage:
      stage['batch'] = dict.fromkeys(stage['batch'], 2)
    stage |= {key: 2 for key in stage if key.startswith('batch.')}
  config.stages = tuple(stages)
  return config


@pytest.fixture(scope='session')
def finished(tmp_path_factory):
  """The folder of a finished tiny run: control, fixmatch, verdict."""
  from ssl_jax.run import run

  folder = tmp_path_factory.mktemp('runs') / 'tiny'
  run(tiny_page(), folder)
  return folder
