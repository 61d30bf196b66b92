"""FixMatch with DeepLabV3+ R50 on LISC, against its supervised control (Luu et al., system 1).

Data: LISC white blood cells, 53 labeled, 162 unlabeled, 56 test crops that choose nothing; masks
moved onto their cells (--config.data.masks=authors: as published, 4 pixels off). Views and losses
are the paper's; without ImageNet's weights all layers have one learning rate. Scores of shortened
runs: README. The other sets have pages of their own.
Run:  python main.py --config=configs/fixmatch_lisc.py [--config.data.root=FOLDER]
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

WEAK = dict(base=128, scale=(0.5, 2.0), flip=0.5)
PAINT = dict(grayscale=0.2, blur=dict(p=0.5, sigma=(0.1, 2.0)))
PAINT['cutout'] = dict(p=0.5, area=(0.02, 0.4), ratio=(0.3, 1 / 0.3))


def get_config():
  """One page; every field can be set from the shell, as in --config.steps=100."""
  config = ConfigDict()
  config.update(seed=0, replicas=3, together=placeholder(bool), shuffle_unlabeled=True)
  config.update(steps=1000, snapshots=1, select='last')
  config.update(eval_every=250, checkpoint_every=100, log_every=20, tensorboard=False)
  config.data = dict(name='wbc', set='lisc', masks='aligned', root=placeholder(str))
  config.data.update(labeled=placeholder(int), unlabeled=placeholder(int), duplicates='drop')
  config.update(batch=dict(labeled=16, unlabeled=8), size=128, normalize='imagenet')
  config.views = dict(
    labeled=dict(of='labeled', **WEAK),
    weak=dict(of='unlabeled', **WEAK),
    strong=dict(
      of='weak',
      jitter=dict(p=0.4, brightness=0.5, contrast=(2.0, 2.0), saturation=0.5, hue=0.25),
      **PAINT,
    ),
  )
  config.methods = dict(supervised=dict(weight=0.5), fixmatch=dict(threshold=0.95, weight=0.125))
  config.update(teacher='student', average=0.0, precision='float32')
  config.model = dict(name='deeplabv3plus', backbone='resnet50', output_stride=8)
  config.model.pretrained = placeholder(str)
  config.optimizer = dict(name='sgd', lr=0.009, momentum=0.9, weight_decay=1e-4)
  config.optimizer.update(head=1.0, clip=0.0)
  config.schedule = dict(name='poly', power=0.9)
  config.stages = (
    dict(name='control', methods=dict(supervised=dict())),
    dict(name='fixmatch'),
    dict(name='verdict', run='compare', of='fixmatch', against='control'),
  )
  return config.lock()
