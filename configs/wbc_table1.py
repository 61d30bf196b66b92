"""Tables 1 and 2 of Luu et al. under the paper's protocol: 30 x 3 cells of five seeds.

The paper chooses the best epoch on the images on which it reports; wbc_table1_honest.py does not.
docs/fidelity.md says where this page differs from the paper and its code.
Data: the white blood cells of Zheng 1, Zheng 2 and LISC, with the masks and copies of images as
published. The backbones begin with ImageNet's weights, which are downloaded once. From random
weights: --config.optimizer.lr=0.009 --config.optimizer.head_lr_multiplier=1.
Run:  python main.py --config=configs/wbc_table1.py --config.model.pretrained=imagenet
      python -m ssl_jax.table runs/wbc_table1
Time: days on one GPU; --only='zheng1-pspnet_resnet50-*' runs a part, so machines can share it.
"""

from configs.lib import luu_table1, white_blood_cells
from ssl_jax import settings


def get_config():
  """The page; the stages of each set put its values in place of LISC's."""
  config = white_blood_cells.page('lisc')
  config.num_seeds = 5

  # Data: the test images also choose the checkpoint.
  config.data.update(val='test', duplicates='keep', masks='authors')
  config.checkpoint = 'best'
  config.shuffle_unlabeled = False

  # Optimizer: with ImageNet's weights the backbone learns at a tenth of the others' rate.
  config.optimizer.lr = 0.0009
  config.optimizer.head_lr_multiplier = 10.0

  # Stages and tables.
  config.stages = luu_table1.stages(honest=False)
  config.table = luu_table1.cells()
  return settings.complete(config)
