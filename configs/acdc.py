"""ACDC at 3, 7 and 70 labeled patients: labels alone, FixMatch and UniMatch on slices of the heart.

Scored as in most papers since 2021: slices are predicted at one size and brought back to their own;
Dice is the mean over 40 volumes of 20 patients and three classes. The checkpoint is the last one.
Data: images/, masks/ and splits/ of ACDC (datasets/acdc.py) in --config.data.root.
Run:  python main.py --config=configs/acdc.py --config.data.root=FOLDER
      python -m ssl_jax.table runs/acdc
      --config=configs/acdc.py:256 has the size, the network and the steps of the papers.
Time: at 128 pixels, by the speed of few_labels.py, an hour and a half on one core for each number
of patients (70: a quarter of an hour); :256 is for an accelerator.
Score: not run yet as it is; docs/results.md has that of an earlier form of :256.

Seed 0 labels the patients that the papers label; every other seed draws its own.
"""

from configs.lib import acdc_as_published as as_published
from configs.lib import pretrained
from ssl_jax import settings

COUNTS = (3, 7, 70)
"""Labeled patients; with the last one, which is all of them, no image is unlabeled."""

STEPS = {'128': 2400, '256': 30_000}
"""By side of a slice in pixels."""

PUBLISHED = {  # mean Dice, percent
  ('control', 3): 47.83,
  ('unimatch', 3): 88.9,
  ('control', 7): 79.41,
  ('unimatch', 7): 89.9,
}


def get_config(side='128'):
  """The page for slices of so many pixels a side; any field can be set from the shell."""
  config = settings.defaults()

  # Data: patients with labels; all slices of the other training patients are unlabeled.
  size = (int(side), int(side))
  config.data = dict(name='acdc', labeled=3, size=size)
  config.crop_size = size
  config.steps = STEPS[side]
  config.eval_every = config.steps
  config.log_every = 50
  if side == '128':
    control, methods = _from_imagenet(config, size)
  else:
    control, methods = as_published.use(config)

  # Stages and table: for each number of patients the control and both methods, and their volumes.
  stages = []
  cells = []
  for count in COUNTS:
    rows = ('control', *methods)
    if count == COUNTS[-1]:
      rows = ('control',)
      stages.append({'name': f'control-{count}', 'data.labeled': count, **control})
    else:
      # FixMatch's control is that of UniMatch, too: none of their views and losses are left in it.
      stages.append({'name': f'control-{count}', 'control_of': f'fixmatch-{count}', **control})
      for method, fields in methods.items():
        stages.append({'name': f'{method}-{count}', 'data.labeled': count, **fields})
    for row in rows:
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


def _from_imagenet(config, size):
  """Puts what CPUs can train into a page; returns the fields of the control and of the methods."""
  pretrained.use_pretrained_unet(config)
  fields = pretrained.of_slices(size)
  weak = fields.pop('views.weak')
  config.update_from_flattened_dict({'views.labeled': fields.pop('views.labeled')})
  config.update_from_flattened_dict(fields)
  config.batch = dict(labeled=4)

  unlabeled = {'batch.unlabeled': 4, 'views.weak': weak}
  methods = {}
  for recipe in ('fixmatch-dice', 'unimatch'):
    (stage,) = pretrained.trainings(recipe, recipe, config.steps, unlabeled)
    del stage['name']
    methods[recipe.partition('-')[0]] = stage
  return {}, methods
