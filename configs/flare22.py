"""Thirteen organs in CT: teacher, pseudo-labels with 2000 voxels of each organ, fine-tuning.

Gao, Xu, Fei, "A Pseudo-labeling Approach to Semi-supervised Organ Segmentation" (FLARE22), as they
ran it: 50 labeled volumes (images/ and masks/, ids as below), 2000 without, a test like labeled. An
accelerator's work for days. `flare22.py:2` adds a second round, whose labels must have stayed as
they were (Dice 0.9). Their epochs (1600, 40) of two pieces of two volumes a step are steps here.
Run:  python main.py --config=configs/flare22.py --config.data.labeled=DIR \\
        --config.data.unlabeled=DIR --config.data.test=DIR
      python -m ssl_jax.table runs/flare22
"""

from ml_collections.config_dict import placeholder

from configs import _volumes

TABLE_4 = {  # organ -> DSC of the validation set in percent, without and with unlabeled volumes
  **{'liver': (93.12, 94.93), 'right kidney': (71.51, 80.98), 'spleen': (81.80, 89.62)},
  **{'pancreas': (66.31, 75.06), 'aorta': (74.74, 79.53), 'inferior vena cava': (70.03, 76.92)},
  **{'right adrenal gland': (67.92, 69.10), 'left adrenal gland': (52.57, 54.00)},
  **{'gallbladder': (62.35, 65.43), 'esophagus': (61.96, 66.41), 'stomach': (75.50, 82.19)},
  **{'duodenum': (52.61, 58.03), 'left kidney': (67.03, 82.25), None: (69.03, 74.96)},
}


def get_config(rounds='1'):
  """A page, the stages of so many rounds, and the cells of the paper's Table 4."""
  config = _volumes.page()
  config.data = dict(name='nifti', labeled=placeholder(str), unlabeled=placeholder(str))
  config.data.update(val=placeholder(str), test=placeholder(str), holdout=0.25, seed=0)
  config.data.update(classes=('background', *filter(None, TABLE_4)), cache=placeholder(str))
  config.data.update(spacing=(1.0, 1.0, 1.0), window=(-300.0, 300.0), clip=False, above=0.0)
  config.update(steps=40_000, eval_every=40_000, checkpoint_every=250, log_every=50, replicas=1)
  config.update(batch=dict(labeled=4), size=(128, 128, 128), teacher='student', average=0.0)
  config.model = dict(name='nnunet', widths=(32, 64, 128, 256, 320, 320), residual=True)
  config.model.update(dropout=0.0)
  config.views = dict(labeled=dict(of='labeled', **_volumes.TURN, **_volumes.PAINT))
  tune = dict(steps=14_520, rate=5e-5, batch=dict(labeled=1, pseudo=3), least=2000, agreement=0.9)
  last, cells = f'tuned{rounds}', []
  stages = [dict(name='teacher'), *_volumes.rounds(int(rounds), 'teacher', **tune)]
  stages += _volumes.organs(['teacher', 'control', last])
  stages.append(dict(name='verdict', run='compare', of=last, against='control'))
  for organ, published in TABLE_4.items():
    row = dict(table='Table 4', row=organ or 'mean', figure=f'dsc/{organ}' if organ else 'dsc')
    for of, said in zip(('teacher', last, 'control'), (*published, None), strict=True):
      cells.append(dict(row, column=of, stage=f'{of}-organs', published=said))
  config.update(stages=tuple(stages), table=tuple(cells))
  return config.lock()
