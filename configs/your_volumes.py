r"""Mean teacher on your own volumes (CT, MRI, ...): NIfTI in, masks, a table and a verdict out.

Data: a folder with images/ and masks/ (.nii.gz, class ids) and a folder with images alone; several
channels are files NAME_0000, NAME_0001, ... of a mask NAME, or the fourth axis of one file. A
volume is resampled to the median spacing of your volumes (--config.data.spacing='(1,1,2)', mm along
x, y, z, sets another) and scaled by `data.window` (raw values that become 0 and 1; for CT
--config.data.window='(-300,300)'), or without a window by its own percentiles.
`data.foreground_threshold` crops it to what is brighter. If masks hold an id for each object, add
--config.data.instances=True (docs/instances.md). What the page leaves open is chosen for your
volumes; configuration.md in the run folder says why.
Run:  python main.py --config=configs/your_volumes.py \
        --config.data.labeled=DIR --config.data.unlabeled=DIR
      --config=configs/your_volumes.py:RECIPE has another recipe of configs/lib/recipes.py.
"""

from configs.lib import recipes, volumes
from ssl_jax import open_fields, settings

WEAK = dict(rotate=15.0, scale=(0.85, 1.2), **volumes.FLIPS)


def get_config(name='default'):
  """The page; any field can be set from the shell, as in --config.minutes=60.

  `name` may be that of another recipe (--config=configs/your_volumes.py:fixmatch). With 'curve'
  (:fixmatch,curve) it also learns from fewer labels, by which `ssl-jax suggest` says what more
  would give.
  """
  asked = [word for word in name.split(',') if word != 'curve']
  recipe = recipes.of_page(','.join(asked), 'volumes')
  trained = recipes.stage_name(recipe)
  config = volumes.page()

  # Data: --config.data.labeled and .unlabeled name your folders; .val, .test and .classes may.
  # For masks of other values: --config.data.values='205:1, 420:2'.
  # If several volumes are of one patient: --config.data.group='^(p[0-9]+)_' or FILE.csv.
  config.data = dict(name='nifti', clip=True, percentiles=(0.5, 99.5), test_fraction=0.25)

  # Views: teacher and student see the same crop, the student with changed intensities.
  config.views = dict(
    labeled=dict(source='labeled', **WEAK, **volumes.INTENSITY),
    weak=dict(source='unlabeled', **WEAK),
  )
  strong = dict(source='weak', **volumes.INTENSITY)
  cutmix = dict(**strong, cutmix=dict(p=0.5, area=(0.1, 0.4)))

  # Methods: their losses are added up. The moving average of the student teaches and predicts.
  of_recipe = recipes.put(config, recipe, strong, cutmix)
  config.teacher = 'ema'
  config.ema_decay = 0.99

  # Network and optimizer.
  config.model = dict(name='nnunet', widths=(16, 32, 64, 128), residual=True)
  config.optimizer.lr = 3e-3
  config.optimizer.clip = 1.0
  config.log_every = 20

  # Chosen for your volumes, where you do not set them. One training takes about so many minutes.
  chosen = ('crop_size', 'batch', 'steps', 'eval_every', 'checkpoint_every')
  chosen += of_recipe
  open_fields.leave_open(config, chosen, minutes=20)

  # In four repetitions each labeled volume is tested once.
  config.num_seeds = 4
  # Stages: a control without the unlabeled volumes, one with them, their comparison, and both
  # networks' masks for the whole test volumes.
  config.stages = (
    dict(name='control', control_of=trained),
    *(recipes.FEWER_LABELS if 'curve' in name.split(',') else ()),
    dict(name=trained),
    dict(name='verdict', run='compare', of=trained, against='control'),
    *volumes.organs(['control', trained], overlap=0.5, blend='gaussian'),
    # The network that is kept, for `predict`: it learns from all labeled volumes.
    {'name': 'final', 'num_seeds': 1, 'data.test_fraction': 0.0},
  )
  return settings.complete(config)
