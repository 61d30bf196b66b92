"""UDA on microscopy: label ratio x divergence x state (Table S1 of the study), and no UDA at all.

Folders bbbc039, ctc_phc_u373 and ctc_fluo_gfp in --config.data.root. The first published U-Net (31
million parameters), Dice, Adam with steps, crops of 512, one labeled and one unlabeled image a
step, RandAugment, inputs scaled by minimum and maximum of the training images. A fifth of these
chooses the states with the best supervised (P1, P3) and the best total loss (P2, P4). Days on two
cores, an accelerator's work; configs/methods_microscopy.py is what two cores can do.
Run:  python main.py --config=configs/uda_microscopy.py --config.data.root=FOLDER [--only='u373-*']
      python -m ssl_jax.table runs/uda_microscopy
"""

import itertools

from configs._microscopy import TABLE_S1, data_of, page, published_network

STATES = {'supervised': 'best_supervised', 'total': 'best_total'}
WEAK = dict(scale=(0.95, 1.05), rotate=15.0, flip=0.5)
# Two draws of nine operations, each done with probability 0.5: one is to turn, eight are painted.
STRONG = dict(rotate=180.0, rotate_p=0.108, randaugment=dict(n=2, p=0.444, magnitude=(1, 9)))


def get_config():
  """A page, the stages of each set and ratio, and the cells of the table."""
  config = published_network(page(), name='adam', lr=1e-3)
  config.schedule = dict(name='step', warmup=0, at=(0.5, 0.75), factor=0.1)
  config.update(steps=10_000, eval_every=500, checkpoint_every=500, log_every=50, size=512)
  config.update(batch=dict(labeled=1, unlabeled=1), normalize='minmax', watch_losses=True)
  config.update(teacher='student', average=0.0)
  config.data.val = 0.2
  dice = dict(supervised=dict(weight=1.0, dice=1.0, cross_entropy=0.0))
  config.methods = dice | dict(uda=dict(divergence='kl', weight=1.0, ramp=0))
  weak, labeled = dict(of='unlabeled', **WEAK), dict(of='labeled', **WEAK)
  config.views = dict(labeled=labeled, weak=weak, strong=dict(of='weak', **STRONG))
  stages, cells = [], []
  for which, published in TABLE_S1.items():
    for ratio, values in zip((10, 25, 50), published, strict=True):
      values = dict(zip(itertools.product(('kl', 'iid'), STATES), values, strict=True))
      data, prefix = data_of(which) | {'data.labeled': ratio / 100}, f'{which}-{ratio}-'
      alone = dict(methods=dice, views=dict(labeled=labeled), batch=dict(labeled=1))
      for name, knobs in dict(none=alone, kl={}, iid={'methods.uda.divergence': 'iid'}).items():
        stages.append(dict(name=prefix + name, **knobs, **data))
        for state, select in STATES.items():
          chosen = dict(name=f'{prefix}{name}-{state}', run='score', of=prefix + name)
          stages.append(dict(select=select, **chosen, **data))
          row = dict(row=f'{which}, {ratio} %', column=f'{name}, best {state} loss')
          cell = row | dict(published=values.get((name, state)), only=f'{prefix}*')
          control = f'{prefix}none-{state}'
          cells.append(dict(table='Table S1', stage=chosen['name'], control=control, **cell))
  config.update(stages=tuple(stages), table=tuple(cells))
  return config.lock()
