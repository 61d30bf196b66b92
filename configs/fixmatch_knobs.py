"""Which changes improve the paper's FixMatch? Its hyperparameters one by one, then all together.

Data: Zheng 1 with 15 labels. 'fixmatch' is the paper's: unlabeled images in the order of their
list, padding counted as pixels.
Run:  python main.py --config=configs/fixmatch_knobs.py
      python -m ssl_jax.table runs/fixmatch_knobs
Time: half an hour on two cores, with the small network of wbc_study.py.
"""

from configs.lib import white_blood_cells
from ssl_jax import settings

CHANGES = {  # stage: the fields in which it differs from the paper's FixMatch
  'shuffled': {'shuffle_unlabeled': True},
  'valid-pixels': {'methods.fixmatch.all_pixels': False},
  'cutmix': {'views.strong.cutmix': white_blood_cells.CUTMIX},
  'no-colors': {
    'views.strong': dict(source='weak', cutout=white_blood_cells.strong('zheng1')['cutout'])
  },
  'average': {'teacher': 'ema', 'ema_decay': 0.97},
  'ramp': {'methods.fixmatch.ramp_up_steps': 150},
  'dice': {'methods.supervised.dice': 1.0},
  'rotations': {
    'views.labeled': dict(source='labeled', **white_blood_cells.FREE),
    'views.weak': dict(source='unlabeled', **white_blood_cells.FREE),
  },
}
# The loss on labels has the weight 1 that supervised training has in the paper.
CONTROL = {'methods.supervised.weight': 1.0}


def get_config():
  """The page; any field can be set from the shell, as in --config.steps=100."""
  # Data, views and FixMatch of the paper, with a small network and batch.
  config = white_blood_cells.page('zheng1')
  white_blood_cells.add_fixmatch(config, 'zheng1')
  white_blood_cells.use_small_unet(config)
  config.data.labeled = 15
  config.batch = dict(labeled=4, unlabeled=4)
  config.shuffle_unlabeled = False
  config.methods.fixmatch.all_pixels = True
  config.steps = 300
  config.eval_every = 300

  # All changes at once; CutMix takes the place of the colors and of the cut-out.
  everything = {}
  for fields in CHANGES.values():
    # Later changes of the same field win.
    everything |= fields
  del everything['views.strong.cutmix']
  everything['views.strong'] = dict(source='weak', cutmix=white_blood_cells.CUTMIX)

  # Stages: FixMatch and its control, each change, and all changes with a control of their own.
  config.stages = (
    dict(name='control', control_of='fixmatch', **CONTROL),
    dict(name='fixmatch'),
    *(dict(name=name, **fields) for name, fields in CHANGES.items()),
    dict(name='all', **everything),
    dict(name='all-control', control_of='all', **CONTROL),
  )

  # Table: each change against the paper's FixMatch, and both against a control.
  pairs = [(name, 'fixmatch', 'to the paper') for name in (*CHANGES, 'all')]
  pairs.append(('fixmatch', 'control', 'to a control'))
  pairs.append(('all', 'all-control', 'to a control'))
  config.table = tuple(
    dict(table='Zheng 1, 15 labels', row=stage, column=column, stage=stage, control=control)
    for stage, control, column in pairs
  )
  return settings.complete(config)
