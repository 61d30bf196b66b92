"""UDA on microscopy: fraction of labels x divergence x checkpoint (Table S1), and no UDA at all.

Data: folders bbbc039, ctc_phc_u373 and ctc_fluo_gfp in --config.data.root.
Run:  python main.py --config=configs/uda_microscopy.py --config.data.root=FOLDER [--only='u373-*']
      python -m ssl_jax.table runs/uda_microscopy
Time: days on two cores; for an accelerator, not yet run at this size. methods_microscopy.py is what
two cores can do.

The U-Net as first published with Dice, one labeled and one unlabeled image a step, inputs scaled by
minimum and maximum of the training images. Validation images choose the checkpoints with the best
supervised loss (P1 and P3 of the table) and with the best total loss (P2 and P4): those of
BBBC039's own list where it is there, else a fifth of the training images. docs/fidelity.md says
where this differs from the paper.
"""

from configs.lib import microscopy
from ssl_jax import settings

WEAK = dict(scale=(0.95, 1.05), rotate=15.0, flip=0.5)
CHECKPOINTS = {'supervised': 'best_supervised', 'total': 'best_total'}
FRACTIONS = (0.10, 0.25, 0.50)
TABLE_S1 = {  # for each fraction: KL best supervised, KL best total, IID best supervised, IID total
  'u373': (
    (94.10, 93.80, 88.41, 92.52),
    (92.95, 94.16, 93.03, 86.35),
    (93.58, 91.92, 94.36, 94.18),
  ),
  'gfp': (
    (87.77, 87.88, 87.27, 83.64),
    (91.89, 85.25, 93.08, 84.82),
    (92.81, 88.44, 91.50, 90.83),
  ),
  'bbbc039': (
    (92.73, 92.73, 95.16, 93.5),
    (94.27, 90.43, 93.4, 93.4),
    (93.77, 89.3, 93.43, 81.14),
  ),
}


def get_config():
  """The page: three trainings and six scores for each data set and fraction of labels."""
  config = microscopy.page()

  # Data: each stage sets the data set and data.labeled.
  # Lists of the data set itself (BBBC039) go before this fifth.
  config.data.val = 0.2
  config.batch = dict(labeled=1, unlabeled=1)
  config.crop_size = (512, 512)
  config.normalize = 'minmax'
  config.watch_losses = True  # the checkpoints are chosen by them

  # Views. Of the nine operations of the paper's RandAugment, each drawn twice and done with
  # probability 0.5, one rotates and eight change the intensities. The paper augments strongly first
  # and then weakly; here the strong view is made of the weak one.
  config.views = dict(
    labeled=dict(source='labeled', **WEAK),
    weak=dict(source='unlabeled', **WEAK),
    strong=dict(
      source='weak',
      rotate=180.0,
      # 1 - (1 - 0.5 / 9)^2: at least one of the two operations is a rotation that is done.
      rotate_p=0.108,
      # 0.5 x 8 / 9: each of the two is done, and is no rotation. Solarize is that of UDA's code.
      randaugment=dict(n=2, p=0.444, magnitude=(1, 9), solarize='falling'),
    ),
  )

  # Methods.
  config.methods = dict(
    # Dice as the paper's reference (V-Net) has it: squares in the denominator.
    supervised=dict(weight=1.0, dice=1.0, cross_entropy=0.0, dice_squared=True, dice_smooth=1e-5),
    uda=dict(divergence='kl', weight=1.0, ramp_up_steps=0),
  )

  # Network and optimizer.
  microscopy.use_published_unet(config)
  # The paper has 100 epochs and a "step-based" schedule; these numbers are ours.
  config.schedule.update(name='step', at=(0.5, 0.75), factor=0.1)
  config.steps = 10_000
  config.checkpoint_every = 500
  config.log_every = 50

  # Stages and table: no UDA, KL divergence and mutual information, each scored at two checkpoints.
  stages = []
  cells = []
  for name, rows in TABLE_S1.items():
    for fraction, published in zip(FRACTIONS, rows, strict=True):
      percent = round(100 * fraction)
      prefix = f'{name}-{percent}-'
      data = {**microscopy.SETS[name], 'data.labeled': fraction}
      # The paper has no supervised row, so there is nothing published beside it.
      trainings = (
        (dict(name=f'{prefix}none', control_of=f'{prefix}kl'), (None, None)),
        (dict(name=f'{prefix}kl', **data), published[:2]),
        ({'name': f'{prefix}iid', 'methods.uda.divergence': 'iid', **data}, published[2:]),
      )
      for training, scores in trainings:
        stages.append(training)
        method = training['name'].removeprefix(prefix)
        for (loss, checkpoint), score in zip(CHECKPOINTS.items(), scores, strict=True):
          scored = f'{training["name"]}-{loss}'
          stages.append(
            dict(name=scored, run='score', of=training['name'], checkpoint=checkpoint, **data)
          )
          cells.append(
            dict(
              table='Table S1',
              row=f'{name}, {percent} %',
              column=f'{method}, best {loss} loss',
              stage=scored,
              control=f'{prefix}none-{loss}',
              published=score,
              only=f'{prefix}*',
            )
          )
  config.stages = tuple(stages)
  config.table = tuple(cells)
  return settings.complete(config)
