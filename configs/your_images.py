"""FixMatch on your own images: two folders in, masks, a picture and a verdict out.

Data: a folder with images/ and masks/ (class ids, or 0 and 255), and one with images alone; PNG,
JPEG, BMP or TIFF of any size, 8 or 16 bits. Without --config.data.test=DIR (like labeled) a
quarter of the labeled images is kept for the test. README tells the rest.
Run:  python main.py --config=configs/your_images.py \\
        --config.data.labeled=DIR --config.data.unlabeled=DIR
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

WEAK = dict(scale=(0.7, 1.4), rotate=15.0, flip=0.5, flip_vertical=0.5)
SUPERVISED = dict(weight=1.0, dice=1.0)


def get_config():
  """One page; every field can be set from the shell, as in --config.steps=100."""
  config = ConfigDict()
  config.update(seed=0, replicas=3, together=placeholder(bool), shuffle_unlabeled=True)
  config.update(steps=2000, snapshots=1, select='last')
  config.update(eval_every=500, checkpoint_every=100, log_every=10, tensorboard=False)
  config.data = dict(name='folder', labeled=placeholder(str), unlabeled=placeholder(str))
  config.data.update(val=placeholder(str), test=placeholder(str), classes=placeholder(int))
  config.data.update(holdout=0.25, seed=0)
  config.update(batch=dict(labeled=8, unlabeled=8), size=128, normalize='data')
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
  config.methods = dict(supervised=SUPERVISED, fixmatch=dict(threshold=0.95, weight=1.0, ramp=500))
  config.update(teacher='average', average=0.99, precision='float32')
  config.model = dict(name='unet', widths=(16, 32, 64, 128, 256), dropout=0.0)
  config.optimizer = dict(name='adam', lr=1e-3, momentum=0.9, weight_decay=1e-4, clip=1.0)
  config.schedule = dict(name='cosine', warmup=0)
  config.stages = (
    dict(name='control', methods=dict(supervised=SUPERVISED)),
    dict(name='fixmatch'),
    dict(name='verdict', run='compare', of='fixmatch', against='control'),
  )
  return config.lock()
