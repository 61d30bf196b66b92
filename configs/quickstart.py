"""FixMatch on synthetic blood cells: 8 labeled images, 128 without labels, a verdict in minutes.

Data: made by the program; the numbers say nothing about real cells.
Run:  python main.py
Time: six minutes on two CPU cores, of which three are training.
Score: "fixmatch helps: +3.16 points of test mIoU against the supervised control, 95 % interval
[+0.88, +5.35], 5 repetitions" (README). Settings were chosen on other images and seeds.
"""

from configs.lib import recipes
from ssl_jax import settings

WEAK = dict(scale=(0.8, 1.25), rotate=180.0, flip=0.5, flip_vertical=0.5)


def get_config(name='default'):
  """The page; any field can be set from the shell, as in --config.steps=100.

  `name` may be that of another recipe (--config=configs/quickstart.py:unimatch).
  """
  recipe = recipes.of_page(name, 'images')
  trained = recipes.stage_name(recipe)
  config = settings.defaults()

  # Data: 8 images with masks to learn from, 128 without, and 64 with masks to test on. Each of five
  # repetitions has other labeled and test images.
  config.data = dict(name='synthetic', labeled=8, unlabeled=128, test=64, size=48)
  config.num_seeds = 5
  config.batch = dict(labeled=4, unlabeled=8)
  config.crop_size = (48, 48)

  # Views: the teacher sees the weak view of an unlabeled image, the student the strong one.
  config.views = dict(
    labeled=dict(source='labeled', **WEAK),
    weak=dict(source='unlabeled', **WEAK),
  )
  strong = dict(
    source='weak',
    jitter=dict(p=0.8, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.1),
    blur=dict(p=0.5, sigma=(0.1, 2.0)),
  )
  cutmix = dict(**strong, cutmix=dict(p=0.5, area=(0.1, 0.4)))

  # Methods: their losses are added up. The moving average of the student teaches and predicts.
  config.methods = dict(supervised=dict(weight=1.0, dice=1.0))
  config.steps = 300
  recipes.put(config, recipe, strong, cutmix, first_steps=100)
  config.teacher = 'ema'
  # An average over about the last 30 of 300 updates.
  config.ema_decay = 0.97

  # Network and optimizer: a U-Net on a backbone with ImageNet's weights, whose first layers stay as
  # they are; its new layers learn ten times as fast.
  config.model = dict(name='unet_efficientnet', pretrained='imagenet', fixed=4)
  config.optimizer.update(lr=3e-4, head_lr_multiplier=10.0, clip=1.0)
  config.schedule.name = 'cosine'
  config.eval_every = 300

  # Stages: the same training without the unlabeled images, with them, and their comparison.
  config.stages = (
    dict(name='control', control_of=trained),
    dict(name=trained),
    dict(name='verdict', run='compare', of=trained, against='control'),
  )
  return settings.complete(config)
