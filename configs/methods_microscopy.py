"""Which method for nuclei and cells at 10 % of the labels? All of them, on BBBC039 and PhC-U373.

Data: folders bbbc039 and ctc_phc_u373 in --config.data.root.
Run:  python main.py --config=configs/methods_microscopy.py --config.data.root=FOLDER
      python -m ssl_jax.table runs/methods_microscopy
Time: ninety minutes on two cores.
Score: mean teacher had the best mean on PhC-U373, nothing was shown on BBBC039; not run since the
interval covers labels too.

A small U-Net from random weights, equal updates; the moving average teaches and predicts. No
hyperparameter was tuned.
"""

from configs.lib import microscopy
from ssl_jax import settings

DATA_SETS = ('bbbc039', 'u373')
# The teacher knows little at first, so the losses on unlabeled images rise slowly.
RAMP_UP_STEPS = 150
WEAK = dict(scale=(0.8, 1.25), rotate=180.0, flip=0.5)
# The images are gray: they have no saturation and no hue.
JITTER = dict(p=0.8, brightness=0.5, contrast=0.5)
BLUR = dict(p=0.5, sigma=(0.1, 2.0))
INTENSITY = dict(source='weak', jitter=JITTER, blur=BLUR)
CUTMIX = dict(**INTENSITY, cutmix=dict(p=0.5, area=(0.1, 0.4)))
RANDAUGMENT = dict(n=2, p=0.5, magnitude=(1, 9), solarize='falling')
# As in uda_microscopy.py: rotated once more, then RandAugment.
ROTATED = dict(source='weak', rotate=180.0, randaugment=RANDAUGMENT)
TWO_STRONG = {'views.strong': CUTMIX, 'views.strong2': CUTMIX}
SECOND = dict(source='unlabeled', **WEAK)

METHODS = {  # the fields that each method's stage adds to the page
  'uda-kl': {
    'methods.uda': dict(divergence='kl', ramp_up_steps=RAMP_UP_STEPS),
    'views.strong': ROTATED,
  },
  'uda-iid': {
    'methods.uda': dict(divergence='iid', weight=0.1, ramp_up_steps=RAMP_UP_STEPS),
    'views.strong': ROTATED,
  },
  'fixmatch': {
    'methods.fixmatch': dict(ramp_up_steps=RAMP_UP_STEPS),
    'views.strong': CUTMIX,
  },
  'mean-teacher': {
    'methods.mean_teacher': dict(weight=10.0, ramp_up_steps=RAMP_UP_STEPS),
    'views.strong': INTENSITY,
  },
  'mixmatch': {  # it has a loss on labels of its own
    'without': ('methods.supervised',),
    'methods.mixmatch': dict(lambda_u=10.0, ramp_up_steps=RAMP_UP_STEPS),
    'views.weak2': SECOND,
  },
  'mixmatch-dice': {
    'without': ('methods.supervised',),
    'methods.mixmatch': dict(lambda_u=10.0, ramp_up_steps=RAMP_UP_STEPS, dice=1.0),
    'views.weak2': SECOND,
  },
  'unimatch': {'methods.unimatch': dict(ramp_up_steps=RAMP_UP_STEPS), **TWO_STRONG},
  'unimatch-v2': {'methods.unimatch_v2': dict(ramp_up_steps=RAMP_UP_STEPS), **TWO_STRONG},
  'pseudo-label': {'methods.pseudo_label': dict(ramp_up_steps=RAMP_UP_STEPS)},
  'entropy': {'methods.entropy': dict(ramp_up_steps=RAMP_UP_STEPS)},
}


def get_config():
  """The page; any field can be set from the shell, as in --config.steps=100."""
  config = microscopy.page()

  # Data: each stage sets the data set.
  config.data.percentiles = (0.1, 99.9)
  config.batch = dict(labeled=4, unlabeled=4)
  config.crop_size = (128, 128)

  # Views and methods that all stages have; each method adds its own.
  config.views = dict(
    labeled=dict(source='labeled', **WEAK),
    weak=dict(source='unlabeled', **WEAK),
  )
  config.methods = dict(supervised=dict(weight=1.0, dice=1.0))
  config.teacher = 'ema'
  # An average over the last 30 or so of 400 updates.
  config.ema_decay = 0.97

  # Network and optimizer.
  config.model = dict(name='unet', widths=(8, 16, 32, 64, 256), norm='group')
  config.optimizer.update(lr=0.01, clip=1.0)
  config.schedule.update(name='cosine', warmup=40)
  config.steps = 400
  config.eval_every = 400
  config.log_every = 20

  # Stages and table: for each data set the control, and each method.
  stages = []
  cells = []
  for name in DATA_SETS:
    control = f'{name}-supervised'
    # The control of FixMatch is the control of all: none of their views and losses are left in it.
    stages.append(dict(name=control, control_of=f'{name}-fixmatch'))
    for method, fields in METHODS.items():
      stages.append(dict(name=f'{name}-{method}', **fields, **microscopy.SETS[name]))
    for row in ('supervised', *METHODS):
      cells.append(
        dict(
          table='10 % of the labels',
          row=row,
          column=name,
          stage=f'{name}-{row}',
          control=control,
          # A cell needs its method and the control.
          only=f'{name}-*',
        )
      )
  config.stages = tuple(stages)
  config.table = tuple(cells)
  return settings.complete(config)
