"""What unlabeled images are worth with few labels, on data that no setting was chosen on.

Data: folders acdc, wbc, ctc_phc_u373, em_vnc and la_mri in --config.data.root.
Run:  python main.py --config=configs/few_labels.py --config.data.root=FOLDER
      python -m ssl_jax.table runs/few_labels
      --config=configs/few_labels.py:NAME takes another recipe than the default one.
Time: on one core 3 to 6 minutes a training of images, 6 to 12 of slices; there are 120.
Score: ACDC, 3 patients: mean Dice 79.98 against 72.70, +7.28 [+4.27, +9.99]; 7 patients:
81.96 against 78.84, +3.12 [+2.67, +3.56]; no difference shown on the others (docs/results.md).

The recipe is one of configs/lib/recipes.py, chosen by configs/recipe_search.py on other data sets.
Each repetition has its own draw of the labeled images (and of the test images, where no list names
them) and its own seed. One control has as many updates, the other one as many minutes. Slices of
ACDC and of the left atrium are predicted one by one, and volumes are scored whole.
"""

from configs.lib import pretrained, recipes
from ssl_jax import settings

REPETITIONS = 5
STEPS = {'images': 1200, 'slices': 2400}
"""On slices of the hippocampus unlabeled ones began to help after more than 600 (updates.py)."""

GRAY = dict(percentiles=(0.1, 99.9))
SIDE = 128

SETS = {  # name: (row of the table, fields of the data, whether volumes are scored)
  'acdc-3': ('ACDC, 3 patients', dict(name='acdc', labeled=3), True),
  'acdc-7': ('ACDC, 7 patients', dict(name='acdc', labeled=7), True),
  'lisc-10': ('LISC, 10 images', dict(name='wbc', set='lisc', labeled=10), False),
  'lisc-15': ('LISC, 15 images', dict(name='wbc', set='lisc', labeled=15), False),
  'u373': ('PhC-U373, 3 images', dict(name='ctc', set='ctc_phc_u373', labeled=3, **GRAY), False),
  'em_vnc': ('EM-VNC, 2 sections', dict(name='em_vnc', val=0, labeled=2, **GRAY), False),
  'zheng2': ('Zheng 2, 10 images', dict(name='wbc', set='zheng2', labeled=10), False),
  'la_mri': ('Left atrium, 1 volume', dict(name='la_mri', labeled=1), True),
}


def get_config(recipe='default'):
  """The page with a recipe; any field can be set from the shell."""
  config = settings.defaults()

  # Data: each stage sets the data set, and its draw.
  config.data = dict(name='wbc')
  config.batch = dict(labeled=4, unlabeled=4)

  # Views that all stages have (the recipe adds its own), network, and what it learns with.
  pretrained.use_views(config)
  pretrained.use_pretrained_unet(config)

  # Stages and table: repetition by repetition, so that a run that is stopped has whole rows.
  if recipe == 'default':
    recipe = recipes.DEFAULTS['images']
  stages = []
  for repetition in range(REPETITIONS):
    for name, (_, data, volumes) in SETS.items():
      drawn = {f'data.{key}': value for key, value in data.items()}
      drawn |= {'data.seed': repetition, 'seed': repetition}
      steps = STEPS['slices' if volumes else 'images']
      drawn |= {'steps': steps, 'eval_every': steps}
      if volumes:
        drawn |= pretrained.of_slices((SIDE, SIDE))
      stages += _stages(name, recipe, repetition, drawn, volumes)
  cells = []
  for name, (row, _, volumes) in SETS.items():
    scored = '-volumes' if volumes else ''
    stage_of = {}
    for column in ('control', 'minutes', recipe):
      names = [f'{name}-{column}-{repetition}{scored}' for repetition in range(REPETITIONS)]
      stage_of[column] = tuple(names)
    columns = {
      'labels alone': ('control', 'control'),
      recipe: (recipe, 'control'),
      f'{recipe}, against equal minutes': (recipe, 'minutes'),
    }
    for column, (shown, control) in columns.items():
      cells.append(
        dict(
          table='Few labels',
          row=row,
          column=column,
          figure='dsc' if volumes else 'miou',
          stage=stage_of[shown],
          control=stage_of[control],
          only=f'{name}-*',
        )
      )
  config.stages = tuple(stages)
  config.table = tuple(cells)
  return settings.complete(config)


def _stages(name, recipe, repetition, drawn, volumes):
  """The stages of one data set: both controls, the recipe, and the scores of volumes."""
  called = {column: f'{name}-{column}-{repetition}' for column in ('control', 'minutes', recipe)}
  stages = [
    {'name': called['control'], 'control_of': called[recipe]},
    *pretrained.trainings(called[recipe], recipe, drawn['steps'], drawn),
    # What the labels alone reach in the time that the recipe takes.
    {
      'name': called['minutes'],
      'control_of': called[recipe],
      'equal_minutes': (called[recipe], called['control']),
    },
  ]
  if volumes:
    of_data = {key: value for key, value in drawn.items() if key.startswith(('data.', 'seed'))}
    for stage in called.values():
      stages.append({'name': f'{stage}-volumes', 'run': 'segment', 'of': stage, **of_data})
  return stages
