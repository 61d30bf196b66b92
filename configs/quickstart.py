"""FixMatch on synthetic blood cells: 8 labeled images, 128 without labels, a verdict in minutes.

Data: made by the program; the numbers say nothing about real cells.
Run:  python main.py
Time: a few minutes on two CPU cores.
Score: "No difference shown for fixmatch: +2.93 [-4.91, +10.78] points of test mIoU against the
supervised control", over three seeds (README).
"""

from ssl_jax import settings

WEAK = dict(scale=(0.8, 1.25), flip=0.5, flip_vertical=0.5)


def get_config():
  """The page; any field can be set from the shell, as in --config.steps=100."""
  config = settings.defaults()

  # Data: 8 images with masks to learn from, 128 without, and 64 with masks to test on.
  config.data = dict(name='synthetic', labeled=8, unlabeled=128, test=64, size=64)
  config.batch = dict(labeled=8, unlabeled=8)
  config.crop_size = (64, 64)

  # Views: the teacher sees the weak view of an unlabeled image, the student the strong one.
  config.views = dict(
    labeled=dict(source='labeled', **WEAK),
    weak=dict(source='unlabeled', **WEAK),
    strong=dict(
      source='weak',
      jitter=dict(p=0.8, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.1),
      blur=dict(p=0.5, sigma=(0.1, 2.0)),
      cutmix=dict(p=0.5, area=(0.1, 0.4)),
    ),
  )

  # Methods: their losses are added up. The moving average of the student teaches and predicts.
  config.methods = dict(
    supervised=dict(weight=1.0, dice=1.0),
    fixmatch=dict(threshold=0.95, weight=1.0, ramp_up_steps=150),
  )
  config.teacher = 'ema'
  # An average over about the last 100 of 300 updates.
  config.ema_decay = 0.99

  # Network and optimizer.
  config.model = dict(name='unet', widths=(8, 16, 32, 64))
  config.optimizer.lr = 3e-3
  config.schedule.name = 'cosine'
  config.steps = 300
  config.eval_every = 150

  # Stages: the same training without the unlabeled images, FixMatch, and their comparison.
  config.stages = (
    dict(name='control', control_of='fixmatch'),
    dict(name='fixmatch'),
    dict(name='verdict', run='compare', of='fixmatch', against='control'),
  )
  return settings.complete(config)
