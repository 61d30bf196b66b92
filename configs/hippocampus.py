"""Eight labeled volumes and 82 without labels: pseudo-labels, mean teacher, and labels alone.

Data: images/ and masks/ of the Medical Segmentation Decathlon's Task04 (hippocampus, T1 MRI).
Run:  python main.py --config=configs/hippocampus.py --config.data.labeled=FOLDER
      python -m ssl_jax.table runs/hippocampus
Time: an hour on two cores.
Score: mean DSC 84.1 with labels alone and with mean teacher: no difference shown (3 repetitions,
each with its own labels and test volumes). Pseudo-labels have not been run since.

A small U-Net from random weights. All networks but `teacher` have had equal updates when scored.
"""

from configs.lib import volumes
from ssl_jax import settings

WEAK = dict(rotate=15.0, scale=(0.85, 1.2), **volumes.FLIPS)
TEACHER_STEPS = 800
TUNING_STEPS = 400
CONTROLS = {  # network: its control in the table
  # From random weights.
  'supervised': 'supervised',
  'mean-teacher': 'supervised',
  # The teacher, and networks that are fine-tuned from its weights.
  'teacher': 'control',
  'control': 'control',
  'tuned1': 'control',
  'tuned2': 'control',
}
FIGURES = {'DSC %': 'dsc', 'NSD % within 1 mm': 'nsd'}


def get_config():
  """The page; any field can be set from the shell, as in --config.steps=100."""
  config = volumes.page()

  # Data: --config.data.labeled names the folder; all masks but eight are hidden.
  config.data = dict(
    name='nifti',
    num_labeled=8,
    classes=('background', 'anterior', 'posterior'),
    # Values above the range that is scaled to [0, 1] become 1, not 0.
    clip=True,
    test_fraction=0.25,
  )
  config.batch = dict(labeled=2)
  config.crop_size = (32, 48, 32)

  # Views and teacher of the trainings from random weights; fine-tuning has no augmentations.
  config.views = dict(labeled=dict(source='labeled', **WEAK, **volumes.INTENSITY))
  config.teacher = 'ema'
  config.ema_decay = 0.99

  # Network and optimizer.
  config.model = dict(name='nnunet', widths=(8, 16, 32, 64), residual=True)
  config.optimizer.lr = 3e-3
  config.optimizer.clip = 1.0
  # As many as a teacher and its fine-tuning take together.
  config.steps = TEACHER_STEPS + TUNING_STEPS
  config.eval_every = config.steps
  config.log_every = 20

  # Stages: labels alone, mean teacher, then a shorter teacher and two rounds of its pseudo-labels.
  stages = [
    dict(name='supervised'),
    {
      'name': 'mean-teacher',
      'methods.mean_teacher': dict(weight=10.0, ramp_up_steps=TEACHER_STEPS),
      'views.weak': dict(source='unlabeled', **WEAK),
      'views.strong': dict(source='weak', **volumes.INTENSITY),
      'batch.unlabeled': 2,
    },
    # The network that is fine-tuned below.
    dict(name='teacher', steps=TEACHER_STEPS, eval_every=TEACHER_STEPS),
    *volumes.fine_tuning(
      2,
      'teacher',
      steps=TUNING_STEPS,
      # Half of the teacher's.
      lr=1.5e-3,
      batch=dict(labeled=1, pseudo=1),
      min_voxels=200,
      agreement=0.9,
    ),
    *volumes.organs(CONTROLS, tolerance=1.0),
    dict(name='mean-teacher-verdict', run='compare', of='mean-teacher', against='supervised'),
    volumes.verdict('tuned1-verdict', 'tuned1'),
    volumes.verdict('tuned2-verdict', 'tuned2'),
  ]
  config.stages = tuple(stages)

  # Table: Dice and surface Dice of each network, with the difference to its control.
  cells = []
  for network, control in CONTROLS.items():
    for column, figure in FIGURES.items():
      cells.append(
        dict(
          table='Hippocampus',
          row=network,
          column=column,
          figure=figure,
          stage=f'{network}-organs',
          control=f'{control}-organs',
        )
      )
  config.table = tuple(cells)
  return settings.complete(config)
