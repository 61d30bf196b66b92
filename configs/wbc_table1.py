"""Tables 1 and 2 of Luu et al. (system 1) under the paper's protocol: 30 x 3 cells of five seeds.

The paper chooses the best epoch on the images that judge it; wbc_table1_honest.py does not. The
backbones begin with ImageNet's weights: torchvision's, saved as FOLDER/resnet50.pth and so on. From
random weights instead: --config.optimizer.lr=0.009 --config.optimizer.head=1. Days on one GPU;
--only='zheng1-pspnet_resnet50-*' does a part, another machine another one.
Run:  python main.py --config=configs/wbc_table1.py \\
        --config.model.pretrained='FOLDER/{backbone}.pth'
      python -m ssl_jax.table runs/wbc_table1
"""

from ml_collections.config_dict import placeholder

from configs import _wbc_cells, fixmatch_lisc
from configs._wbc_published import PUBLISHED

SYSTEMS = {'teacher': 'SupOnly', 'st': 'ST', 'stpp': 'ST++'}


def get_config(honest=False):
  """The page of LISC with a list of stages and the cells of two tables."""
  config = fixmatch_lisc.get_config().unlock()
  config.update(replicas=5, select='last' if honest else 'best', shuffle_unlabeled=honest)
  config.data.update(val=0 if honest else 'test', duplicates='drop' if honest else 'keep')
  config.data.update(masks='aligned' if honest else 'authors', resize=placeholder(int))
  config.optimizer.update(lr=0.0009, head=10.0)
  stages, cells = [], []
  for (name, backbone), rows in PUBLISHED.items():
    model = {'model.name': name, 'model.backbone': backbone}
    model |= {'optimizer.head': 1.0} if name == 'deeplabv2' else {}
    for way, row in zip(('without', 'with'), rows, strict=True):
      values, there = iter(row), f'{name} {backbone}'
      for which in _wbc_cells.SETS:
        prefix = f'{which}-{name}_{backbone}-'
        stages += _wbc_cells.stages(prefix + way, which, model, way == 'with', honest)
        for system, title in SYSTEMS.items():
          cell = dict(stage=f'{prefix}{way}-{system}', control=f'{prefix}without-teacher')
          cell |= dict(published=next(values), only=f'{prefix}*')
          row = f'{there} {way} FixMatch'
          cells.append(dict(table='Table 1', row=row, column=f'{which} {title}', **cell))
          if system == 'teacher':
            column = f'{which} {way} FixMatch'
            cells.append(dict(table='Table 2', row=there, column=column, **cell))
  config.update(stages=tuple(stages), table=tuple(cells))
  return config.lock()
