"""FixMatch with DeepLabV3+ R50 on LISC, against its supervised control (Luu et al., system 1).

Data: LISC white blood cells, 55 labeled / 166 unlabeled / 56 test crops; the last are never
trained on and choose nothing. Masks moved onto their cells; --config.data.masks=authors for the
published ones, 4 pixels off. --config.data.set=zheng1 or zheng2 for the other sets.
Run:  python main.py --config=configs/fixmatch_lisc.py [--config.data.root=FOLDER]
The paper's FixMatch and views, trained from scratch: hence one learning rate for all layers.
Hours and score: README. On a CPU: --config.model.backbone=resnet18 --config.size=96.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

WEAK = dict(base=128, scale=(0.5, 2.0), flip=0.5)


def get_config():
  """One page; every field can be set from the shell, as in --config.steps=100."""
  config = ConfigDict()
  config.seed = 0
  config.replicas = 3
  config.steps = 1000
  config.eval_every = 250
  config.checkpoint_every = 100
  config.log_every = 20
  config.data = dict(name='wbc', set='lisc', masks='aligned', root=placeholder(str))
  config.data.update(labeled=placeholder(int), unlabeled=placeholder(int), duplicates='drop')
  config.batch = dict(labeled=16, unlabeled=8)
  config.size = 128
  config.normalize = 'imagenet'
  config.views = dict(
    labeled=dict(of='labeled', **WEAK),
    weak=dict(of='unlabeled', **WEAK),
    strong=dict(
      of='weak',
      jitter=dict(p=0.4, brightness=0.5, contrast=(2.0, 2.0), saturation=0.5, hue=0.25),
      grayscale=0.2,
      blur=dict(p=0.5, sigma=(0.1, 2.0)),
      cutout=dict(p=0.5, area=(0.02, 0.4), ratio=(0.3, 1 / 0.3)),
    ),
  )
  config.methods = dict(supervised=dict(weight=0.5), fixmatch=dict(threshold=0.95, weight=0.125))
  config.teacher = 'student'
  config.average = 0.0
  config.model = dict(name='deeplabv3plus', backbone='resnet50', output_stride=8)
  config.precision = 'float32'
  config.optimizer = dict(name='sgd', lr=0.009, momentum=0.9, weight_decay=1e-4, head=1.0)
  config.schedule = dict(name='poly', power=0.9)
  config.tensorboard = False
  config.stages = (
    dict(name='control', methods=dict(supervised=dict())),
    dict(name='fixmatch'),
    dict(name='verdict', run='compare', of='fixmatch', against='control'),
  )
  return config.lock()
