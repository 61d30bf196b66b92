"""What pages share whose network starts from ImageNet and learns for minutes."""

from configs.lib import recipes, self_training

WEAK = dict(scale=(0.8, 1.25), rotate=180.0, flip=0.5)
# Stains differ between slides: without saturation and hue, labels alone were 1.7 and 4.0 points
# worse on Zheng 1 (two draws of the search). Gray images stay as they are.
LITTLE = dict(p=0.8, brightness=0.2, contrast=0.2, saturation=0.3, hue=0.05)
# Slices through a body lie as the patient did: which side is up tells organs apart.
LYING = dict(scale=(0.8, 1.25), rotate=20.0)
STRONG = dict(
  source='weak',
  jitter=dict(p=0.8, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.1),
  grayscale=0.2,
  blur=dict(p=0.5, sigma=(0.1, 2.0)),
)
CUTMIX = dict(**STRONG, cutmix=dict(p=0.5, area=(0.02, 0.4)))


def use_views(config):
  """Puts the views of labeled and unlabeled images into a page; a recipe adds the strong ones."""
  config.views = dict(
    labeled=dict(source='labeled', jitter=LITTLE, **WEAK),
    weak=dict(source='unlabeled', jitter=LITTLE, **WEAK),
  )


def of_slices(size):
  """The fields of a stage that learns from slices of volumes.

  On the hippocampus (labels alone, three labeled volumes) views of any angle cost 40 points of
  Dice, and a Dice loss of each slice by itself 37: most slices lack most classes.

  Args:
    size: rows and columns that slices are resized to.
  """
  return {
    'crop_size': size,
    'data.size': size,
    'views.labeled': dict(source='labeled', jitter=LITTLE, **LYING),
    'views.weak': dict(source='unlabeled', jitter=LITTLE, **LYING),
    'methods.supervised.dice_over': 'batch',
  }


def trainings(name, recipe_name, steps, common):
  """The stages of a recipe, the last of which has this name.

  Args:
    name: of the stage.
    recipe_name: one of recipes.RECIPES.
    steps: of each training.
    common: fields of all these stages: data set, draw and seed.
  """
  recipe = recipes.named(recipe_name)
  fields = recipes.fields(recipe, steps, steps // 4, STRONG, CUTMIX)
  if not recipe.rounds:
    return [{'name': name, **fields, **common}]
  # A pseudo-labeled image is shown as strongly as an unlabeled one.
  shown = {key: value for key, value in CUTMIX.items() if key != 'source'}
  return self_training.rounds(
    name,
    fields,
    {**WEAK, **shown},
    batch=4,
    common=common,
    without=('views.weak', 'batch.unlabeled'),
    count=recipe.rounds,
  )


def use_pretrained_unet(config):
  """Puts a light U-Net on EfficientNet-Lite0, and what it learns with, into a page."""
  config.crop_size = (128, 128)
  config.methods = dict(supervised=dict(weight=1.0, dice=1.0))
  config.teacher = 'ema'
  # An average over the last 30 or so updates.
  config.ema_decay = 0.97
  # New layers learn ten times as fast as those from ImageNet. The first layers see edges and
  # colors, which are the same everywhere.
  config.model = dict(name='unet_efficientnet', pretrained='imagenet', fixed=4)
  config.optimizer.update(lr=3e-4, clip=1.0, head_lr_multiplier=10.0)
  config.schedule.update(name='cosine', warmup=20)
  config.num_seeds = 1
  config.log_every = 20
