"""Tables 1 and 2 of Luu et al. under the honest protocol (wbc_table1.py has the paper's).

The last checkpoint is scored on images that are never used for model selection, and every network
takes the same number of updates.
Data: the white blood cells of Zheng 1, Zheng 2 and LISC without copies of images; LISC's masks lie
on its cells, so its column cannot be compared with the paper's.
Run:  python main.py --config=configs/wbc_table1_honest.py --config.model.pretrained=imagenet
      python -m ssl_jax.table runs/wbc_table1_honest
Time: days on one GPU.
"""

from configs.lib import luu_table1, white_blood_cells
from ssl_jax import settings


def get_config():
  """The page; the stages of each set put its values in place of LISC's."""
  config = white_blood_cells.page('lisc')
  config.num_seeds = 5

  # Optimizer: with ImageNet's weights the backbone learns at a tenth of the others' rate.
  config.optimizer.lr = 0.0009
  config.optimizer.head_lr_multiplier = 10.0

  # Stages and tables.
  config.stages = luu_table1.stages(honest=True)
  config.table = luu_table1.cells()
  return settings.complete(config)
