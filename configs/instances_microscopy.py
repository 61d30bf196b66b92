"""Instances of nuclei with 5 labeled images: does mean teacher help? On BBBC039 and DSB 2018.

Data: folders bbbc039 and dsb2018 in --config.data.root, with instances/ in each (or masks/ in which
      nuclei that touch have different colors).
Run:  python main.py --config=configs/instances_microscopy.py --config.data.root=FOLDER
      python -m ssl_jax.table runs/instances_microscopy
Time: about two minutes a training on two cores; there are 12.
Score: no difference shown; AP50 86.0 and 85.6 on BBBC039, 37.5 and 45.9 on DSB 2018 (3 draws).

The network learns background, body and border of nuclei (docs/instances.md). Both networks start
from ImageNet; in the method the moving average of the student teaches it on the other images. No
hyperparameter was tuned.
"""

from configs.lib import pretrained
from ssl_jax import settings

SETS = {  # the fields of a stage that put a data set into the page
  'bbbc039': {'data.name': 'bbbc039', 'data.percentiles': (0.1, 99.9)},
  'dsb2018': {'data.name': 'dsb2018'},
}
FIGURES = {'AP at IoU 0.5': 'ap50', 'AP at IoU 0.75': 'ap75'}
# The teacher knows little at first, so the loss on unlabeled images rises slowly.
RAMP_UP_STEPS = 100
WEAK = dict(scale=(0.8, 1.25), rotate=180.0, flip=0.5)


def get_config():
  """The page; any field can be set from the shell, as in --config.steps=100."""
  config = settings.defaults()

  # Data: each stage sets the data set. Each repetition draws 5 labeled images of its own.
  config.data = dict(name='dsb2018', labeled=5, instances=True)
  config.batch = dict(labeled=4, unlabeled=4)

  # Views: teacher and student see the same crop, the student with changed intensities.
  mild = dict(p=0.5, brightness=0.2, contrast=0.2)
  config.views = dict(
    labeled=dict(source='labeled', jitter=mild, **WEAK),
    weak=dict(source='unlabeled', jitter=mild, **WEAK),
    strong=dict(
      source='weak',
      jitter=dict(p=0.8, brightness=0.5, contrast=0.5),
      blur=dict(p=0.5, sigma=(0.1, 2.0)),
    ),
  )

  # Network, what it learns with, and the supervised method.
  pretrained.use_pretrained_unet(config)
  config.methods.mean_teacher = dict(weight=10.0, ramp_up_steps=RAMP_UP_STEPS)
  config.steps = 300
  config.eval_every = 300
  config.num_seeds = 3

  # Stages and table: for each data set the control, the method, and their comparison.
  stages = []
  cells = []
  for name, data in SETS.items():
    control, method = f'{name}-supervised', f'{name}-mean-teacher'
    stages.append(dict(name=control, control_of=method))
    stages.append(dict(name=method, **data))
    stages.append(dict(name=f'{name}-verdict', run='compare', of=method, against=control, **data))
    for table, figure in FIGURES.items():
      for row, stage in (('supervised', control), ('mean teacher', method)):
        cells.append(
          dict(
            table=table,
            row=row,
            column=name,
            stage=stage,
            control=control,
            figure=figure,
            only=f'{name}-*',
          )
        )
  config.stages = tuple(stages)
  config.table = tuple(cells)
  return settings.complete(config)
