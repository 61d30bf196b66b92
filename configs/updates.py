"""How many updates until unlabeled images help? Two development sets, each with a control.

Data: the folder wbc in --config.data.root; for :hippocampus, images/ and masks/ of the Medical
Segmentation Decathlon's Task04 in --config.data.labeled.
Run:  python main.py --config=configs/updates.py --config.data.root=FOLDER
      python -m ssl_jax.table runs/updates
      --config=configs/updates.py:hippocampus --config.data.labeled=FOLDER learns from slices;
      :hippocampus,NAME or :zheng1,NAME has another recipe of configs/lib/recipes.py, and
      :zheng1,NAME,12 another draw of labels.
Time: on one core 35 minutes for a draw of Zheng 1, 45 for the hippocampus.
Score: Zheng 1: -2.84 points of mIoU against labels alone after 600 updates, +4.12 after 1200,
+6.33 after 2400; the hippocampus: -0.18, +0.64, +0.39 and, after 4800, +0.01 (docs/results.md).

Every length is a training of its own, whose learning rate has fallen to 0 at its end: a checkpoint
in the middle of a longer training is not what a training of that length would give.
"""

from configs.lib import pretrained, recipes
from ssl_jax import settings

LENGTHS = {'images': (600, 1200, 2400), 'slices': (600, 1200, 2400, 4800)}
DRAW = 13
"""Of labels, where none is asked for: one of those that the search keeps for its last round."""


def get_config(asked='zheng1'):
  """The page of a data set, a recipe and a draw; any field can be set from the shell."""
  data, _, rest = asked.partition(',')
  recipe, _, draw = rest.partition(',')
  recipe = recipe or recipes.DEFAULTS['images']
  draw = int(draw or DRAW)
  config = settings.defaults()

  # Views that all stages have (the recipe adds its own), network, and what it learns with.
  pretrained.use_views(config)
  pretrained.use_pretrained_unet(config)
  config.batch = dict(labeled=4, unlabeled=4)

  # Data: three volumes of the hippocampus are labeled.
  volumes = data == 'hippocampus'  # otherwise one of Zheng's
  if volumes:
    config.data = dict(name='nifti', slices=True, clip=True, num_labeled=3)
    config.data.classes = ('background', 'anterior', 'posterior')
    config.update_from_flattened_dict(pretrained.of_slices((96, 96)))
  else:
    config.data = dict(name='wbc', set=data, labeled=5)
  config.data.seed = draw
  config.seed = draw

  # Stages and table: the short trainings first.
  stages = []
  cells = []
  for steps in LENGTHS['slices' if volumes else 'images']:
    length = {'steps': steps, 'eval_every': steps}
    stage_of = {
      'labels alone': f'control-{steps}',
      recipe: f'{recipe}-{steps}',
    }
    stages.append({'name': stage_of['labels alone'], 'control_of': stage_of[recipe]})
    stages += pretrained.trainings(stage_of[recipe], recipe, steps, length)
    if volumes:
      for stage in stage_of.values():
        stages.append({'name': f'{stage}-volumes', 'run': 'segment', 'of': stage})
    scored = '-volumes' if volumes else ''
    for column, stage in stage_of.items():
      cells.append(
        dict(
          table=f'{data}, draw {draw}',
          row=f'{steps} updates',
          column=column,
          figure='dsc' if volumes else 'miou',
          stage=(f'{stage}{scored}',),
          control=(f'control-{steps}{scored}',),
        )
      )
  config.stages = tuple(stages)
  config.table = tuple(cells)
  return settings.complete(config)
