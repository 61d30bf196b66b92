"""An example of a grid: FixMatch's threshold times its weight on Zheng 1, small enough for a CPU.

Data: 60 labeled, 177 unlabeled, 60 test crops of white blood cells.
Run:  python main.py --config=configs/ablation_zheng1.py [--only='control,t95-*']
      python -m ssl_jax.table runs/ablation_zheng1

Every cell is a stage of its own and is compared with the supervised control of as many updates.
"""

from configs.lib import white_blood_cells
from ssl_jax import settings

THRESHOLDS = (0.8, 0.9, 0.95, 0.99)
WEIGHTS = (0.125, 0.5, 1.0)


def get_config():
  """The page; any field can be set from the shell, as in --config.steps=100."""
  # Data, views, FixMatch and optimizer of the paper; smaller crops and a smaller network.
  config = white_blood_cells.page('zheng1')
  white_blood_cells.add_fixmatch(config, 'zheng1')
  config.crop_size = (96, 96)
  # Half of the paper's, to be quick on a CPU.
  config.batch.unlabeled = 8
  config.model.update(backbone='resnet18', output_stride=16)
  config.steps = 300
  config.eval_every = 300

  # Stages and table: the control, and one stage and cell for each pair of values.
  # The control's loss on labels has the weight 1 that supervised training has in the paper.
  stages = [{'name': 'control', 'control_of': 't80-w125', 'methods.supervised.weight': 1.0}]
  cells = []
  for threshold in THRESHOLDS:
    for weight in WEIGHTS:
      # In percent and in thousandths, because names of stages may have no dots: t95-w125.
      name = f't{threshold * 100:.0f}-w{weight * 1000:.0f}'
      stages.append(
        {
          'name': name,
          'methods.fixmatch.threshold': threshold,
          'methods.fixmatch.weight': weight,
        }
      )
      cells.append(
        dict(
          table='Zheng 1',
          row=f'threshold {threshold}',
          column=f'weight {weight}',
          stage=name,
          control='control',
          # What --only has to name to compute this cell.
          only=f'control,{name}',
        )
      )
  config.stages = tuple(stages)
  config.table = tuple(cells)
  return settings.complete(config)
