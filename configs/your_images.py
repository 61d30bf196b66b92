r"""FixMatch on your own images: two folders in, masks, a picture and a verdict out.

Data: a folder with images/ and masks/ (class ids, or 0 and 255), and a folder with images alone;
PNG, JPEG, BMP or TIFF of any size, 8 or 16 bits. A quarter of the labeled images is kept for the
test, unless --config.data.test=DIR (laid out like `labeled`) gives others. README says more.
Run:  python main.py --config=configs/your_images.py \
        --config.data.labeled=DIR --config.data.unlabeled=DIR
"""

from ssl_jax import settings

WEAK = dict(scale=(0.7, 1.4), rotate=15.0, flip=0.5, flip_vertical=0.5)


def get_config():
  """The page; any field can be set from the shell, as in --config.steps=100."""
  config = settings.defaults()

  # Data: --config.data.labeled and .unlabeled name your folders; .val, .test and .classes may.
  config.data = dict(name='folder', test_fraction=0.25)
  config.batch = dict(labeled=8, unlabeled=8)
  config.crop_size = (128, 128)

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
    fixmatch=dict(threshold=0.95, weight=1.0, ramp_up_steps=500),
  )
  config.teacher = 'ema'
  config.ema_decay = 0.99

  # Network and optimizer.
  config.model = dict(name='unet', widths=(16, 32, 64, 128, 256))
  config.optimizer.lr = 1e-3
  config.optimizer.clip = 1.0
  config.schedule.name = 'cosine'
  config.steps = 2000

  # Stages: the same training without the unlabeled images, FixMatch, and their comparison.
  config.stages = (
    dict(name='control', control_of='fixmatch'),
    dict(name='fixmatch'),
    dict(name='verdict', run='compare', of='fixmatch', against='control'),
  )
  return settings.complete(config)
