"""What unlabeled images are worth with few labels, on data that no setting was chosen on.

Data: folders acdc, wbc, ctc_phc_u373, em_vnc and la_mri in --config.data.root.
Run:  python main.py --config=configs/few_labels.py --config.data.root=FOLDER
      python -m ssl_jax.table runs/few_labels
      --config=configs/few_labels.py:NAME takes another recipe than the default one;
      :default,2400 has the rows of images after so many updates (give it its own --workdir).
Time: on one core 3 to 8 minutes a training of images, 6 to 13 of slices; there are 120.
Score: ACDC, 3 patients: mean Dice +7.28 [+4.27, +9.99], 7 patients: +3.12 [+2.67, +3.56]; on the
others none shown. In the same time: +6.90, +2.69, and -1.18 on PhC-U373 (docs/results.md).

The recipe was chosen on other data sets (configs/recipe_search.py). Each repetition has its own
draw of labeled images (and of test images, where no list names them) and its own seed. One control
has as many updates, the other as many minutes. Slices are predicted one by one, volumes scored.
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


def get_config(asked='default'):
  """The page of a recipe, and of a length for images; any field can be set from the shell."""
  recipe, _, length = asked.partition(',')
  # A table of another length is one of images alone: slices keep the length that they have.
  lengths = STEPS | {'images': int(length)} if length else STEPS
  sets = [name for name, (_, _, volumes) in SETS.items() if not (length and volumes)]
  table = f'Few labels, {length} updates' if length else 'Few labels'
  config = settings.defaults()

  # Data: each stage sets the data set, and its draw.
  config.data = dict(name='wbc')
  config.batch = dict(labeled=4, unlabeled=4)

  # Views that all stages have (the recipe adds its own), network, and what it learns with.
  pretrained.use_views(config)
  pretrained.use_pretrained_unet(config)

  # Stages: repetition by repetition, so that a run that is stopped has whole rows; the controls of
  # equal minutes after all draws, since each of them tells how long a step takes.
  recipe = recipes.DEFAULTS['images'] if recipe == 'default' else recipe
  draws = [(repetition, name) for repetition in range(REPETITIONS) for name in sets]
  stages = []
  for stages_of in (_at_equal_updates, _at_equal_minutes):
    for repetition, name in draws:
      stages += stages_of(name, recipe, repetition, lengths)

  # Table: a row for each data set.
  columns = {'labels alone': ('control', 'control'), recipe: (recipe, 'control')}
  columns[f'{recipe}, against equal minutes'] = (recipe, 'minutes')
  cells = []
  for name in sets:
    row, _, volumes = SETS[name]
    figure, end = ('dsc', '-volumes') if volumes else ('miou', '')
    cell = dict(table=table, row=row, figure=figure, only=f'{name}-*')
    for column, sides in columns.items():
      shown, control = (
        tuple(f'{name}-{side}-{draw}{end}' for draw in range(REPETITIONS)) for side in sides
      )
      cells.append(dict(cell, column=column, stage=shown, control=control))
  config.stages = tuple(stages)
  config.table = tuple(cells)
  return settings.complete(config)


def _drawn(name, repetition, lengths):
  """The fields of a draw of labels: what it trains on, how long, and its seeds."""
  _, data, volumes = SETS[name]
  steps = lengths['slices' if volumes else 'images']
  drawn = {f'data.{key}': value for key, value in data.items()}
  drawn |= {'data.seed': repetition, 'seed': repetition, 'steps': steps, 'eval_every': steps}
  return drawn | pretrained.of_slices((SIDE, SIDE)) if volumes else drawn


def _at_equal_updates(name, recipe, repetition, lengths):
  """The stages of one draw: labels alone, the recipe, and the scores of volumes."""
  drawn = _drawn(name, repetition, lengths)
  control, trained = f'{name}-control-{repetition}', f'{name}-{recipe}-{repetition}'
  trainings = pretrained.trainings(trained, recipe, drawn['steps'], drawn)
  scores = _scores(name, drawn, control, trained)
  return [{'name': control, 'control_of': trained}, *trainings, *scores]


def _at_equal_minutes(name, recipe, repetition, lengths):
  """The stages of one draw with what the labels alone reach in the time that the recipe takes."""
  minutes = f'{name}-minutes-{repetition}'
  timed = []
  for draw in range(REPETITIONS):
    timed += [f'{name}-{recipe}-{draw}', f'{name}-control-{draw}']
  control = {'name': minutes, 'control_of': f'{name}-{recipe}-{repetition}'}
  control['equal_minutes'] = tuple(timed)
  return [control, *_scores(name, _drawn(name, repetition, lengths), minutes)]


def _scores(name, drawn, *trained):
  """The stages that score whole volumes, which trained networks segment slice by slice."""
  if not SETS[name][2]:
    return []
  scored = {key: value for key, value in drawn.items() if key.startswith(('data.', 'seed'))}
  scored['run'] = 'segment'
  return [dict(scored, name=f'{stage}-volumes', of=stage) for stage in trained]
