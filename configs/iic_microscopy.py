"""IIC on microscopy: clusters without any label, then named by labels (Table S2 of the study).

Folders bbbc039, ctc_phc_u373 and ctc_fluo_gfp in --config.data.root. The first published U-Net (31
million parameters) with a main head of two clusters and an over-clustering one of ten, RMSProp, an
image and its turned copy. Labels of training images say afterwards which class a cluster is: one to
one for the main head, by the largest overlap for the other. Hours on an accelerator; smaller with
--config.model.widths='(8,16,32,64)' --config.model.norm=group --config.optimizer.lr=0.001
Run:  python main.py --config=configs/iic_microscopy.py --config.data.root=FOLDER
      python -m ssl_jax.table runs/iic_microscopy
"""

from configs._microscopy import SETS, data_of, page, published_network

PUBLISHED = {'u373': (24.09, 34.75), 'gfp': (21.33, 69.83), 'bbbc039': (46.31, 71.10)}
OVER = dict(head='over', how='overlap')


def get_config():
  """A page, two stages and two cells for each set."""
  config = published_network(page(), name='rmsprop', lr=0.01)
  config.optimizer.momentum = 0.0
  config.schedule = dict(name='constant', warmup=0)
  config.update(steps=1000, eval_every=1000, checkpoint_every=100, log_every=10, size=128)
  config.update(batch=dict(labeled=10), normalize='minmax', teacher='student', average=0.0)
  config.data.labeled = 1.0  # all images; the method never looks at the labels
  config.update(heads=dict(over=10), match=dict(head='class', how='one-to-one'))
  config.views = dict(weak=dict(of='labeled', flip=0.5), strong=dict(of='weak', rotate=180.0))
  config.methods = dict(iic=dict(weight=1.0, radius=10, marginal=1.0, over='over'))
  stages, cells = [], []
  for which in SETS:
    stages.append(dict(name=which, **data_of(which)))
    stages.append(dict(name=f'{which}-over', run='score', of=which, match=OVER, **data_of(which)))
    for stage, head, value in zip(stages[-2:], ('main', 'over'), PUBLISHED[which], strict=True):
      cell = dict(table='Table S2', row=f'{head} head', column=which, stage=stage['name'])
      cells.append(dict(published=value, only=f'{which}*', **cell))
  config.update(stages=tuple(stages), table=tuple(cells))
  return config.lock()
