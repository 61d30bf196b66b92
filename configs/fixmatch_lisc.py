"""FixMatch with DeepLabV3+ R50 on LISC, against its supervised control (Luu et al.).

Data: LISC white blood cells, 53 labeled, 162 unlabeled, 56 test crops, never used for model
selection; masks moved onto their cells (--config.data.masks=authors: as published, 4 pixels off).
Run:  python main.py --config=configs/fixmatch_lisc.py [--config.data.root=FOLDER]
Score: no difference shown in a shorter run with ResNet-18 from random weights; not run since the
interval covers labels too.

Views and losses follow the paper (docs/fidelity.md says where not); images are scored at their own
size. Without ImageNet's weights all layers have one learning rate.
"""

from configs.lib import white_blood_cells
from ssl_jax import settings


def get_config():
  """The page; any field can be set from the shell, as in --config.steps=100."""
  # Data, views of the labeled images, network and optimizer.
  config = white_blood_cells.page('lisc')
  config.steps = 1000
  config.eval_every = 250

  # FixMatch: its views, its loss, and the unlabeled images of a step.
  white_blood_cells.add_fixmatch(config, 'lisc')

  config.stages = white_blood_cells.fixmatch_stages()
  return settings.complete(config)
