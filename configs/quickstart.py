"""FixMatch on made-up blood cells: 8 labeled images, 128 without labels, a verdict in minutes.

Data: synthetic, made on the fly; its numbers say nothing about real cells.
Run:  python main.py
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

WEAK = dict(scale=(0.8, 1.25), flip=0.5, flip_vertical=0.5)
SUPERVISED = dict(weight=1.0, dice=1.0)


def get_config():
  """One page; every field can be set from the shell, as in --config.steps=100."""
  config = ConfigDict()
  config.update(seed=0, replicas=3, together=placeholder(bool), shuffle_unlabeled=True)
  config.update(steps=300, snapshots=1, select='last')
  config.update(eval_every=150, checkpoint_every=100, log_every=10, tensorboard=False)
  config.data = dict(name='synthetic', labeled=8, unlabeled=128, val=0, test=64, size=64, seed=0)
  config.update(batch=dict(labeled=8, unlabeled=8), size=64, normalize='data')
  config.views = dict(
    labeled=dict(of='labeled', **WEAK),
    weak=dict(of='unlabeled', **WEAK),
    strong=dict(
      of='weak',
      jitter=dict(p=0.8, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.1),
      blur=dict(p=0.5, sigma=(0.1, 2.0)),
      cutmix=dict(p=0.5, area=(0.1, 0.4)),
    ),
  )
  fixmatch = dict(threshold=0.95, weight=1.0, ramp=150)
  config.methods = dict(supervised=SUPERVISED, fixmatch=fixmatch)
  config.update(teacher='average', average=0.99, precision='float32')
  config.model = dict(name='unet', widths=(8, 16, 32, 64), dropout=0.0)
  config.optimizer = dict(name='adam', lr=3e-3, momentum=0.9, weight_decay=1e-4, clip=0.0)
  config.schedule = dict(name='cosine')
  config.stages = (
    dict(name='control', methods=dict(supervised=SUPERVISED)),
    dict(name='fixmatch'),
    dict(name='verdict', run='compare', of='fixmatch', against='control'),
  )
  return config.lock()
