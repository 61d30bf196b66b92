"""Pages made small: a little data of every kind, and two steps."""

import fnmatch
import itertools

from conftest import write_discs, write_patients, write_sections, write_volumes
from PIL import Image

from ssl_jax.datasets import synthetic


def _cells(folder, count, suffix='png'):
  """Writes small synthetic cells as images/ and masks/, and returns their names."""
  cells = synthetic.load(labeled=count, unlabeled=0, test=0, size=40).labeled
  for kind in ('images', 'masks'):
    (folder / kind).mkdir(parents=True, exist_ok=True)
  for i in range(count):
    record = cells[i]
    Image.fromarray(record['image']).save(folder / 'images' / f'cell{i}.{suffix}')
    Image.fromarray(record['label']).save(folder / 'masks' / f'cell{i}.png')
  return [f'cell{i}' for i in range(count)]


def _wbc(folder):
  for which in ('zheng1', 'zheng2', 'lisc'):
    names = _cells(folder / 'wbc' / which, 8, suffix='bmp')
    for split, chosen in (('labeled', names[:4]), ('unlabeled', names[4:6]), ('val', names[6:])):
      (folder / 'wbc' / which / f'{split}.txt').write_text('\n'.join(chosen))
  return {'data.root': str(folder / 'wbc'), 'data.labeled': 4}


def _folder(folder):
  _cells(folder / 'labeled', 6)
  _cells(folder / 'more', 4)
  more = str(folder / 'more' / 'images')
  return {'data.labeled': str(folder / 'labeled'), 'data.unlabeled': more}


def _synthetic(folder):
  return {'data.labeled': 4, 'data.unlabeled': 4, 'data.test': 2, 'data.size': 40}


def _microscopy(folder):
  cells = synthetic.load(labeled=10, unlabeled=0, test=0, size=112).labeled
  for which in ('bbbc039', 'dsb2018', 'ctc_phc_u373', 'ctc_fluo_gfp'):
    for i in range(10):
      for kind, pixels in (('images', cells[i]['image'][..., 0]), ('masks', cells[i]['label'])):
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
  return {'data.root': str(folder), 'data.scale': 0.5, 'data.drop_instances.min_pixels': 4}


def _nifti(folder):
  fields = {'data.cache': str(folder / 'cache'), 'data.num_labeled': 2}
  for seed, role in enumerate(('labeled', 'unlabeled', 'test')):
    write_volumes(folder / role, count=6 - 2 * seed, seed=seed, first=10 * seed)
    fields[f'data.{role}'] = str(folder / role)
  return fields


def _acdc(folder):
  write_patients(folder, train=6, val=1, test=2)
  cache = str(folder / 'cache')
  return {'data.root': str(folder), 'data.cache': cache, 'data.labeled': 2, 'data.size': (32, 32)}


DATA = {
  'acdc': _acdc,
  'wbc': _wbc,
  'folder': _folder,
  'synthetic': _synthetic,
  'bbbc039': _microscopy,
  'dsb2018': _microscopy,
  'ctc': _microscopy,
  'points': _points,
  'crchisto': _crchisto,
  'em_vnc': _sections,
  'nifti': _nifti,
}

# Images of all kinds go through the same small network in crops of the same size, so that few
# programs are compiled.
PIXELS = dict(model=dict(name='unet', widths=(4, 8)), crop_size=(32, 32))
PATCHES = dict(
  model=dict(name='hydra', depth=10, width=1, classify=(8,), locate=(8,)), crop_size=(15, 15)
)
VOXELS = dict(model=dict(name='nnunet', widths=(4, 6)), crop_size=(8, 16, 16))
TINY = {'points': PATCHES, 'crchisto': PATCHES, 'nifti': VOXELS}

IN_STAGES = {
  'steps': 2,
  'eval_every': 2,
  'checkpoint_every': 1,
  'num_snapshots': 2,
  'crop_size': (32, 32),
  'scales': (1.0,),
  'stride': 20,
  'count': 4,
  'inertia': 0.5,
  'min_voxels': 0,
  'agreement': 0.0,
  'data.num_labeled': 10,
}
"""Fields that are made small in the stages that set their own."""


def shrink(config, folder, stages):
  """Makes a page tiny, with data in a folder, and leaves the stages of these patterns."""
  tiny = TINY.get(config.data.name, PIXELS)
  small = {'num_seeds': 1, 'steps': 2, 'eval_every': 2, 'checkpoint_every': 2}
  # The side of a patch; of slices it is the size to which they are brought.
  small |= {'data.size': 15} if tiny is PATCHES else {}
  small |= {'data.jitter': 3, 'data.min_distance': 8.0, 'schedule.warmup': 0}
  small |= {f'batch.{stream}': 2 for stream in config.batch}
  small |= {'gan.generator': (8, 8), 'gan.discriminator': (4, 8), 'gan.latent': 4}
  small |= DATA[config.data.name](folder)
  config.unlock()
  config.model = tiny['model']
  config.crop_size = tiny['crop_size']
  for key, value in small.items():
    section, _, field = key.rpartition('.')
    if not section or field in (_section(config, section) or ()):
      config.update_from_flattened_dict({key: value})
  kept = []
  for stage in config.to_dict()['stages']:
    if any(fnmatch.fnmatchcase(stage['name'], pattern) for pattern in stages.split(',')):
      kept.append(_shrunk_stage(stage))
  names = {stage['name'] for stage in kept}
  config.stages = tuple(kept)
  config.table = tuple(cell for cell in config.table if cell['stage'] in names)
  return config


def _section(config, name):
  for part in name.split('.'):
    config = config.get(part) or {}
  return config


def _shrunk_stage(stage):
  small = {}
  for key, value in stage.items():
    if key == 'batch':
      small[key] = dict.fromkeys(value, 2)
    elif key.startswith('batch.'):
      small[key] = 2
    elif key == 'data.labeled' and isinstance(value, int):
      small[key] = min(value, 4)
    elif not key.startswith('model.'):
      small[key] = IN_STAGES.get(key, value)
  if small.get('run') == 'train_gan':
    small['crop_size'] = (16, 16)
  return small
