"""FixMatch with DeepLabV3+ R50 on Zheng 2, against its supervised control (Luu et al.).

Data: 20 labeled, 60 unlabeled, 20 test images of white blood cells, 300 x 300 pixels.
Run:  python main.py --config=configs/fixmatch_zheng2.py [--config.data.root=FOLDER]
"""

from configs.lib import white_blood_cells
from ssl_jax import settings


def get_config():
  """The page; any field can be set from the shell, as in --config.steps=100."""
  # Data, views of the labeled images, network and optimizer.
  config = white_blood_cells.page('zheng2')
  config.steps = 300
  config.eval_every = 100

  # FixMatch: its views, its loss, and the unlabeled images of a step.
  white_blood_cells.add_fixmatch(config, 'zheng2')

  config.stages = white_blood_cells.fixmatch_stages()
  return settings.complete(config)
