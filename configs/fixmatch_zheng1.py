"""FixMatch with DeepLabV3+ R50 on Zheng 1, against its supervised control (Luu et al.).

Data: 60 labeled, 177 unlabeled, 60 test crops of white blood cells.
Run:  python main.py --config=configs/fixmatch_zheng1.py [--config.data.root=FOLDER]
Score: no difference shown in a shorter run with ResNet-18 from random weights; not run since the
interval covers labels too.
"""

from configs.lib import white_blood_cells
from ssl_jax import settings


def get_config():
  """The page; any field can be set from the shell, as in --config.steps=100."""
  # Data, views of the labeled images, network and optimizer.
  config = white_blood_cells.page('zheng1')
  config.steps = 1100
  config.eval_every = 275

  # FixMatch: its views, its loss, and the unlabeled images of a step.
  white_blood_cells.add_fixmatch(config, 'zheng1')

  config.stages = white_blood_cells.fixmatch_stages()
  return settings.complete(config)
