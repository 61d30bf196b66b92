"""IIC on microscopy: clusters learned without labels, then matched to classes (Table S2).

Data: folders bbbc039, ctc_phc_u373 and ctc_fluo_gfp in --config.data.root.
Run:  python main.py --config=configs/iic_microscopy.py --config.data.root=FOLDER
      python -m ssl_jax.table runs/iic_microscopy
Time: hours on an accelerator, not yet run at this size; smaller with
      --config.model.widths='(8,16,32,64)' --config.model.norm=group --config.optimizer.lr=0.001
Score: smaller still (docs/results.md), on BBBC039 the clusters were not nuclei; not run since the
interval covers labels too.

The U-Net has a main head of two clusters and an over-clustering head of ten. The labels of the
training images say afterwards which class a cluster is: one to one for the main head, by the
largest overlap for the other.
"""

from configs.lib import microscopy
from ssl_jax import settings

PUBLISHED = {'bbbc039': (46.31, 71.10), 'u373': (24.09, 34.75), 'gfp': (21.33, 69.83)}


def get_config():
  """The page: a training and two scores for each data set."""
  config = microscopy.page()

  # Data: all images; the method never looks at their labels.
  config.data.labeled = 1.0
  config.batch = dict(labeled=10)
  config.crop_size = (128, 128)
  config.normalize = 'minmax'

  # Views: an image and its rotated copy.
  config.views = dict(
    weak=dict(source='labeled', flip=0.5),
    strong=dict(source='weak', rotate=180.0),
  )

  # Methods: mutual information, for both heads.
  config.methods = dict(iic=dict(weight=1.0, radius=10, marginal=1.0, over='over'))
  # Ten is ours: the paper's figure 6e shows four.
  config.heads = dict(over=10)
  config.match = dict(head='class', how='one-to-one')

  # Network and optimizer.
  microscopy.use_published_unet(config)
  config.optimizer.update(name='rmsprop', lr=0.01, momentum=0.0)
  # The paper has 10 epochs, and does not say of how many crops.
  config.steps = 1000
  config.eval_every = 1000

  # Stages and table: a training, which scores its main head, and a score of the other head.
  stages = []
  cells = []
  for name, data in microscopy.SETS.items():
    over = f'{name}-over'
    stages.append(dict(name=name, **data))
    stages.append(
      dict(name=over, run='score', of=name, match=dict(head='over', how='overlap'), **data)
    )
    cell = dict(table='Table S2', column=name, only=f'{name}*')
    main_score, over_score = PUBLISHED[name]
    cells.append(dict(cell, row='main head', stage=name, published=main_score))
    cells.append(dict(cell, row='over head', stage=over, published=over_score))
  config.stages = tuple(stages)
  config.table = tuple(cells)
  return settings.complete(config)
