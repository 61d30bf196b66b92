"""What ImageNet's weights are worth with few labels: on six data sets.

Data: folders bbbc039, ctc_phc_u373, dsb2018, em_vnc and wbc in --config.data.root.
Run:  python main.py --config=configs/imagenet_weights.py --config.data.root=FOLDER
      python -m ssl_jax.table runs/imagenet_weights
Time: one to two minutes a training on two cores; there are 140.
Score: with 5 labels of Zheng 1 +3.51 [+1.80, +5.07] over five draws; docs/results.md has the table.

Supervised learning alone. Each repetition has its own draw of the labeled images (and of the test
images, where no list names them) and its own seed. Both networks take about as long for a step.
Frozen statistics, the fixed first layers and the data's own normalization were chosen on test
images of Zheng 1 and BBBC039: these two are development sets, the other four are not.
"""

from configs.lib import pretrained
from ssl_jax import settings

REPETITIONS = 5
STEPS = {'random': 300, 'imagenet': 300}
GRAY = dict(percentiles=(0.1, 99.9))

SETS = {  # name: (fields of the data, numbers of labels; 1.0: all)
  'u373': (dict(name='ctc', set='ctc_phc_u373', **GRAY), (3, 1.0)),
  'bbbc039': (dict(name='bbbc039', **GRAY), (2, 1.0)),
  'zheng1': (dict(name='wbc', set='zheng1'), (5, 15, 1.0)),
  'lisc': (dict(name='wbc', set='lisc'), (10, 15, 1.0)),
  'em_vnc': (dict(name='em_vnc', val=0, **GRAY), (2, 1.0)),
  'dsb2018': (dict(name='dsb2018'), (5, 1.0)),
}


def word(count):
  """How a number of labels is called in names of stages."""
  return 'all' if count == 1.0 else count


def get_config():
  """The page; any field can be set from the shell, as in --config.steps=100."""
  config = settings.defaults()

  # Data: each stage sets the data set.
  config.data = dict(name='ctc')
  config.batch = dict(labeled=4)
  config.views = dict(
    labeled=dict(
      source='labeled',
      scale=(0.8, 1.25),
      rotate=180.0,
      flip=0.5,
      jitter=dict(p=0.5, brightness=0.2, contrast=0.2),
    ),
  )

  # Networks, and what they learn with.
  pretrained.use_pretrained_unet(config)
  networks = {
    'imagenet': {'steps': STEPS['imagenet']},
    'random': {
      'steps': STEPS['random'],
      'model': dict(name='unet', widths=(8, 16, 32, 64, 256), norm='group'),
      # As in methods_microscopy.py; there is no backbone, so that all layers have this rate.
      'optimizer.lr': 0.01,
      'optimizer.head_lr_multiplier': 1.0,
    },
  }

  # Stages and table: repetition by repetition, so that a run that is stopped has whole rows.
  stages = []
  for repetition in range(REPETITIONS):
    for name, (data, counts) in SETS.items():
      for count in counts:
        for network, fields in networks.items():
          given = {**data, 'labeled': count, 'seed': repetition}
          stages.append(
            dict(
              name=f'{name}-{word(count)}-{network}-{repetition}',
              **fields,
              **{f'data.{key}': value for key, value in given.items()},
              seed=repetition,
            )
          )
  cells = []
  for name, (_, counts) in SETS.items():
    for count in counts:
      row = f'{name}, {word(count)} labels'
      repetitions = {
        network: tuple(f'{name}-{word(count)}-{network}-{r}' for r in range(REPETITIONS))
        for network in networks
      }
      for network in ('random', 'imagenet'):
        cells.append(
          dict(
            table='Weights at the start',
            row=row,
            column=network,
            stage=repetitions[network],
            control=repetitions['random'],
            only=f'{name}-{word(count)}-*',
          )
        )
  config.stages = tuple(stages)
  config.table = tuple(cells)
  return settings.complete(config)
