"""Every page of configs/ takes two tiny steps, and keeps to the form of a page."""

import ast
import itertools
import runpy

import numpy as np
import pytest
from conftest import ROOT, write_discs, write_sections, write_volumes
from PIL import Image

from ssl_jax import run as runs
from ssl_jax import table
from ssl_jax.datasets import synthetic

PAGES = sorted((ROOT / 'configs').glob('[!_]*.py'))
TINY = {'steps': 2, 'eval_every': 2, 'checkpoint_every': 2, 'replicas': 1, 'size': 32}
SMALL_HYDRA = {'model.depth': 10, 'model.width': 1, 'model.classify': (8,), 'model.locate': (8,)}
MODELS = {
  'hydra': SMALL_HYDRA | {'size': 15, 'data.size': 15, 'data.jitter': 3, 'data.clear': 8.0},
  'unet': {'model.widths': (4, 8)},
  'prominence_unet': {'model.widths': (4, 8), 'model.stem': 4},
  'nnunet': {'model.widths': (4, 6), 'size': (8, 16, 16)},
  'deeplabv3plus': {'model.backbone': 'resnet18', 'model.output_stride': 16},
}


def _cells(folder, count, with_masks=True):
  """Writes small synthetic cells as images/ and masks/."""
  cells = synthetic.load(labeled=count, unlabeled=0, test=0, size=40).labeled
  for kind in ('images', 'masks'):
    (folder / kind).mkdir(parents=True, exist_ok=True)
  for i in range(count):
    record = cells[i]
    suffix = 'bmp' if 'wbc' in str(folder) else 'png'
    Image.fromarray(record['image']).save(folder / 'images' / f'cell{i}.{suffix}')
    Image.fromarray(record['label']).save(folder / 'masks' / f'cell{i}.png')
  return [f'cell{i}' for i in range(count)]


def _wbc(folder):
  for cells in ('zheng1', 'zheng2', 'lisc'):
    names = _cells(folder / 'wbc' / cells, 8)
    for split, chosen in (('labeled', names[:4]), ('unlabeled', names[4:6]), ('val', names[6:])):
      (folder / 'wbc' / cells / f'{split}.txt').write_text('\n'.join(chosen))
  return {'data.root': str(folder / 'wbc'), 'data.labeled': 4}


def _folder(folder):
  _cells(folder / 'labeled', 6)
  _cells(folder / 'more', 4)
  return {
    'data.labeled': str(folder / 'labeled'),
    'data.unlabeled': str(folder / 'more' / 'images'),
  }


def _synthetic(folder):
  return {'data.labeled': 4, 'data.unlabeled': 4, 'data.test': 2, 'data.size': 40}


def _microscopy(folder):
  for which in ('bbbc039', 'ctc_phc_u373', 'ctc_fluo_gfp'):
    for i in range(10):
      record = synthetic.load(labeled=10, unlabeled=0, test=0, size=112).labeled[i]
      for kind, pixels in (('images', record['image'][..., 0]), ('masks', record['label'])):
        (folder / which / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / which / kind / f'cell_t{i}.png')
  return {'data.root': str(folder), 'data.labeled': 0.4}


def _points(folder):
  write_discs(folder / 'labeled', images=8)
  write_discs(folder / 'more', images=2, seed=1)
  more = str(folder / 'more' / 'images')
  return {'data.labeled': str(folder / 'labeled'), 'data.unlabeled': more}


def _crchisto(folder):
  write_discs(folder / 'crchisto', images=9)
  for path in (folder / 'crchisto' / 'points').iterdir():
    names = itertools.cycle(['epithelial', 'inflammatory', 'fibroblast', 'others'])
    lines = [line.rsplit(',', 1)[0] + f',{next(names)}' for line in path.read_text().split()[1:]]
    path.write_text('\n'.join(['x,y,class', *lines]))
  return {'data.root': str(folder)}


def _sections(folder):
  write_sections(folder)
  return {'data.root': str(folder), 'data.scale': 0.5, 'data.missing.least': 4}


def _nifti(folder):
  roles = {role: folder / role for role in ('labeled', 'unlabeled', 'test')}
  for seed, path in enumerate(roles.values()):
    write_volumes(path, count=6 - 2 * seed, seed=seed, first=10 * seed)
  return {f'data.{role}': str(path) for role, path in roles.items()} | {
    'data.cache': str(folder / 'cache'),
    'data.labels': 2,
  }


DATA = {'nifti': _nifti, 'em_vnc': _sections, 'points': _points, 'crchisto': _crchisto}
DATA |= {'wbc': _wbc, 'folder': _folder, 'synthetic': _synthetic, 'bbbc039': _microscopy}
FEW = {
  'hydramix_crchisto': 7,
  'uda_microscopy': 6,
  'methods_microscopy': 3,
  'iic_microscopy': 2,
  'flare22': 99,
}  # first stages to do


def _page(path):
  return runpy.run_path(str(path))['get_config']()


def _has(config, knob):
  """Whether a page has the field; not every page of a data set uses all of it."""
  return not knob.startswith('data.') or knob.split('.')[1] in config.data


def _shrink(config, few=None):
  """Few steps for every stage; of a long table both ways of its first network, made tiny."""
  tiny = TINY | {'size': (32, 32), 'checkpoint_every': 1, 'snapshots': 2, 'scales': (1.0,)}
  tiny |= {'data.labels': 10, 'stride': 20, 'count': 4, 'inertia': 0.5}
  tiny |= {'least': 0, 'agreement': 0.0}
  stages = [
    {k: tiny.get(k, value) for k, value in stage.items() if not k.startswith('model.')}
    for stage in config.to_dict()['stages']
  ]
  for stage in stages:
    if 'batch' in stage:
      stage['batch'] = dict.fromkeys(stage['batch'], 2)
  config.unlock()
  if 'table' in config:
    if config.model.name not in ('hydra', 'prominence_unet', 'nnunet'):
      config.model = dict(name='unet', widths=(4, 8))
    first = stages[0]['name'].rsplit('-', 2)[0]
    several = [stage for stage in stages if stage['name'].startswith(first)]
    stages = stages[:few] if few else several if len(several) > 1 else stages[:3]
    names = [stage['name'] for stage in stages]
    config.table = tuple(cell for cell in config.table if cell['stage'] in names)
  config.stages = tuple(stages)


TWINS = {'fixmatch_zheng2', 'wbc_table1_honest'}
"""Pages that differ from another one by their data or their words alone."""


@pytest.mark.parametrize(
  'path',
  [pytest.param(p, marks=pytest.mark.slow if p.stem in TWINS else ()) for p in PAGES],
  ids=lambda p: p.stem,
)
def test_every_config_takes_two_tiny_steps(path, tmp_path):
  config = _page(path)
  small = TINY | {f'batch.{stream}': 2 for stream in config.batch} | MODELS[config.model.name]
  small |= {'schedule.warmup': 0} if 'warmup' in config.schedule else {}
  small |= DATA[config.data.name](tmp_path)
  small = {knob: value for knob, value in small.items() if _has(config, knob)}
  config.update_from_flattened_dict(small)
  _shrink(config, FEW.get(path.stem))
  done = runs.run(config, tmp_path / 'run')
  figure = 'balanced_accuracy' if config.model.name == 'hydra' else 'miou'
  assert np.isfinite(done[f'test/{figure}'])
  assert done['steps'] == 2
  if any(stage['name'] == 'control' for stage in config.stages):
    assert np.isfinite(done[f'control/test/{figure}'])
  if any(stage['name'] == 'verdict' for stage in config.stages):
    assert (tmp_path / 'run' / 'verdict' / 'picture.png').exists()
  if 'table' in config:
    assert table.main([str(tmp_path / 'run')]) == 0
    cells = table.read_cells(tmp_path / 'run')
    assert len(cells) > 1
    assert all(len(cell.scores) == 1 for cell in cells)


@pytest.mark.parametrize('path', PAGES, ids=lambda p: p.stem)
def test_a_page_is_short_locked_and_imports_neither_jax_nor_ssl_jax(path):
  text = path.read_text()
  assert len(text.splitlines()) <= 50
  nodes = list(ast.walk(ast.parse(text)))
  names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
  names |= {n.module for n in nodes if isinstance(n, ast.ImportFrom)}
  assert not {name.split('.')[0] for name in names} & {'jax', 'ssl_jax', 'flax', 'optax'}
  assert _page(path).is_locked
  assert f'--config=configs/{path.name}' in text or path.stem == 'quickstart'


@pytest.mark.parametrize('path', PAGES, ids=lambda p: p.stem)
def test_every_knob_of_method_and_optimizer_is_written(path):
  """What may be swept from the shell must stand on the page."""
  config = _page(path)
  assert {'name', 'lr', 'momentum', 'weight_decay', 'clip'} <= set(config.optimizer)
  assert all('weight' in knobs for knobs in config.methods.values())
  assert 'threshold' in config.methods.get('fixmatch', {'threshold': 0})
