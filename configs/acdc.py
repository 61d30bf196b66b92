"""ACDC at 3 and 7 labeled patients: labels alone, FixMatch and UniMatch on slices of the heart.

Scored as in most papers since 2021: slices are predicted at one size and brought back to their own;
Dice is the mean over 40 volumes of 20 patients and three classes. The checkpoint is the last one.
Data: images/, masks/ and splits/ of ACDC (datasets/acdc.py) in --config.data.root.
Run:  python main.py --config=configs/acdc.py --config.data.root=FOLDER
      python -m ssl_jax.table runs/acdc
      --config=configs/acdc.py:256 has the size and the steps of the papers.
Time: at 128 pixels hours a training on two cores; :256 is for an accelerator.
Score: not run yet as it is; docs/results.md has that of an earlier form.

Seed 0 labels the patients that the papers label; every other seed draws its own.
"""

from ssl_jax import settings

COUNTS = (3, 7)
"""Labeled patients."""

STEPS = {'128': 2000, '256': 30_000}
"""By side of a slice in pixels."""

PUBLISHED = {  # mean Dice, percent
  ('control', 3): 47.83,
  ('unimatch', 3): 88.9,
  ('control', 7): 79.41,
  ('unimatch', 7): 89.9,
}
# The papers turn by quarters and flip, or rotate; here a view may have both.
WEAK = dict(rotate=20.0, rotate_p=0.5, quarter_turns=0.5, flip=0.5, flip_vertical=0.5)
STRONG = dict(
  source='weak',
  jitter=dict(p=0.8, brightness=0.5, contrast=0.5),
  blur=dict(p=0.5, sigma=(0.1, 2.0)),
  cutmix=dict(p=0.5, area=(0.02, 0.4), ratio=(0.3, 1 / 0.3)),
)
DICE = dict(dice=1.0, dice_smooth=1e-5, dice_squared=True, dice_over='batch')
# As UniMatch on medical images: from confident pixels, with batch statistics of strong views apart.
CONFIDENT = dict(weight=0.25, dice=1.0, own_statistics=True)
"""Half of the loss is on labels and half on the rest, each half cross-entropy and Dice in half."""


def get_config(side='128'):
  """The page for slices of so many pixels a side; any field can be set from the shell."""
  config = settings.defaults()

  # Data: patients with labels; all slices of the other training patients are unlabeled.
  size = (int(side), int(side))
  config.data = dict(name='acdc', labeled=3, size=size)
  config.batch = dict(labeled=12, unlabeled=12)
  config.crop_size = size

  # Views and methods that all stages have; each method adds its own.
  labeled = dict(source='labeled', **WEAK)
  config.views = dict(labeled=labeled, weak=dict(source='unlabeled', **WEAK))
  config.methods = dict(supervised=dict(weight=0.25, **DICE))
  # As in UniMatch, the student teaches itself as it learns, with the statistics of its batch.
  config.teacher = 'student'
  config.teacher_mode = 'train'

  # Network and optimizer, as in the papers: their rate is for weights that begin as those of torch.
  dropout = (0.05, 0.1, 0.2, 0.3, 0.5)
  config.model = dict(name='unet', widths=(16, 32, 64, 128, 256), dropout=dropout)
  config.model.kernel_init = 'torch_uniform'
  config.optimizer.update(name='sgd', lr=0.01, momentum=0.9, weight_decay=1e-4)
  config.schedule.name = 'poly'
  config.steps = STEPS[side]
  config.eval_every = config.steps
  config.log_every = 50
  if side != '128':  # on an accelerator
    config.precision = 'bfloat16'
    config.steps_per_call = 50
    config.checkpoint_every = 1000

  methods = {
    'fixmatch': {
      'methods.fixmatch': CONFIDENT,
      'views.strong': STRONG,
    },
    'unimatch': {
      'methods.unimatch': CONFIDENT,
      'views.strong': STRONG,
      'views.strong2': STRONG,
    },
  }
  # All images of a step have labels, and all of the loss is on them.
  control = {'batch.labeled': 24, 'methods.supervised.weight': 0.5}

  # Stages and table: for each number of patients the control and both methods, and their volumes.
  stages = []
  cells = []
  for count in COUNTS:
    # FixMatch's control is that of UniMatch, too: none of their views and losses are left in it.
    stages.append({'name': f'control-{count}', 'control_of': f'fixmatch-{count}', **control})
    for method, fields in methods.items():
      stages.append({'name': f'{method}-{count}', 'data.labeled': count, **fields})
    for row in ('control', *methods):
      stages.append(
        {
          'name': f'{row}-{count}-volumes',
          'run': 'segment',
          'of': f'{row}-{count}',
          'data.labeled': count,
        }
      )
      cells.append(
        dict(
          table='Mean Dice of the test volumes',
          row=row,
          column=f'{count} patients',
          figure='dsc',
          stage=f'{row}-{count}-volumes',
          control=f'control-{count}-volumes',
          published=PUBLISHED.get((row, count)),
          only=f'*-{count},*-{count}-volumes',
        )
      )
  config.stages = tuple(stages)
  config.table = tuple(cells)
  return settings.complete(config)
