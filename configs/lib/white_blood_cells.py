"""White blood cells: data, views and network of Luu et al., and SupOnly, ST and ST++ as stages.

Luu et al., "Semi-Supervised Semantic Segmentation using Redesigned Self-Training for White Blood
Cells".
"""

from ssl_jax import settings

SIDE = 128  # pixels of a crop, and of the long side to which images are resized
SETS = {
  'zheng1': dict(side=SIDE, threshold=0.90, unlabeled=16, jitter_p=0.8, contrast=(0.5, 1.5)),
  'zheng2': dict(side=320, threshold=0.95, unlabeled=8, jitter_p=0.8, contrast=(0.5, 1.5)),
  # A pair of equal numbers is a fixed factor: here contrast is always doubled.
  'lisc': dict(side=SIDE, threshold=0.95, unlabeled=8, jitter_p=0.4, contrast=(2.0, 2.0)),
}
"""What the paper's code has for each set: crops, FixMatch's threshold and batch, strong views."""


def weak(name):
  """The geometric augmentations of a set's views."""
  # Resized by half to twice the crop, so that a crop shows a part of the cell or all of it.
  return dict(resize_long_side=SETS[name]['side'], scale=(0.5, 2.0), flip=0.5)


def strong(name):
  """The photometric augmentations of a set's strong views."""
  values = SETS[name]
  return dict(
    jitter=dict(
      p=values['jitter_p'], brightness=0.5, contrast=values['contrast'], saturation=0.5, hue=0.25
    ),
    grayscale=0.2,
    blur=dict(p=0.5, sigma=(0.1, 2.0)),
    cutout=dict(p=0.5, area=(0.02, 0.4), ratio=(0.3, 1 / 0.3)),
  )


def page(name):
  """A page of one set with DeepLabV3+ R50 on its labels alone, without stages."""
  config = settings.defaults()

  # Data: --config.data.root=FOLDER reads a copy on disk; without it the files are downloaded.
  # The honest protocol: LISC's masks are moved onto their cells, and training images that are also
  # in the test are dropped.
  config.data = dict(name='wbc', set=name, masks='aligned', duplicates='drop')
  config.batch = dict(labeled=16)
  config.crop_size = (SETS[name]['side'],) * 2
  config.normalize = 'imagenet'
  config.views = dict(labeled=dict(source='labeled', **weak(name)))
  config.methods = dict(supervised=dict(weight=1.0, dice=0.0))

  # Network and optimizer.
  config.model = dict(name='deeplabv3plus', backbone='resnet50', output_stride=8)
  # 0.009 is the rate of the paper's heads; without pretrained weights all layers have it.
  config.optimizer.update(name='sgd', lr=0.009)
  config.schedule.update(name='poly', power=0.9)
  config.log_every = 20
  return config


def use_small_unet(config):
  """Puts a U-Net of 1.0 million parameters, trained in few steps, and crops of 96 into a page."""
  config.model = dict(name='unet', widths=(8, 16, 32, 64, 256), norm='group')
  config.optimizer.update(name='adam', lr=0.01, clip=1.0)
  config.schedule = dict(name='cosine', warmup=40)
  config.normalize = 'data'
  config.crop_size = (96, 96)


def fixmatch(name, all_pixels=False):
  """The fields that add FixMatch, with the paper's values for a set, to its supervised page.

  `all_pixels` counts padding among the pixels, as the paper's code does.
  """
  values = SETS[name]
  return {
    # The paper's loss is (L_s + 0.25 L_u) / 2.
    'methods.supervised.weight': 0.5,
    'methods.fixmatch': dict(
      threshold=values['threshold'], weight=0.125, ramp_up_steps=0, all_pixels=all_pixels
    ),
    'views.weak': dict(source='unlabeled', **weak(name)),
    'views.strong': dict(source='weak', **strong(name)),
    'batch.unlabeled': values['unlabeled'],
  }


def add_fixmatch(config, name):
  """Puts FixMatch with the paper's values for a set into its supervised page."""
  for field, value in fixmatch(name).items():
    # 'methods.fixmatch' is the field fixmatch of config.methods.
    *path, key = field.split('.')
    section = config
    for part in path:
      section = section[part]
    section[key] = value


def fixmatch_stages():
  """The stages of a page with FixMatch: its control, FixMatch, and their comparison.

  The control's loss on labels has the weight 1 that supervised training has in the paper.
  """
  return (
    {'name': 'control', 'control_of': 'fixmatch', 'methods.supervised.weight': 1.0},
    {'name': 'fixmatch'},
    {
      'name': 'verdict',
      'run': 'compare',
      'of': 'fixmatch',
      'against': 'control',
      'differences': ('methods.supervised.weight',),
    },
  )


def student(name, labeled, pseudo):
  """The fields that add pseudo-labeled images to a supervised page, so many of each a step.

  The paper's code shuffles one list, in which the labeled images are repeated until they are 50 to
  57 % of it; here each step has the same number of each.
  """
  return {
    'methods.supervised.shown': ('labeled', 'pseudo'),
    # Only pseudo-labeled images get strong augmentations; labeled ones keep their weak view.
    'views.pseudo': dict(source='pseudo', **weak(name), **strong(name)),
    'batch.labeled': labeled,
    'batch.pseudo': pseudo,
  }


def self_training(prefix, teacher, student, common, steps=None, scales=None):
  """Stages: a teacher, ST and ST++ (PREFIX-teacher, -st and -stpp).

  Args:
    prefix: begins the names of all stages.
    teacher: fields of the teacher.
    student: fields of the three students, each of which begins from random weights.
    common: fields of all stages.
    steps: fields by training ('teacher', 'first', 'last') that say how long it is; by default they
      are those of the page.
    scales: scales whose predictions pseudo-labels are the mean of; by default pseudo_label's own.
  """
  steps = steps or dict(teacher={}, first={}, last={})
  # What the three labeling stages share.
  label = dict(run='pseudo_label', **common)
  if scales:
    label['scales'] = scales
  teacher_name = f'{prefix}-teacher'
  first_name = f'{prefix}-first'
  labels = f'{prefix}-labels'
  ranking = f'{prefix}-ranking'
  reliable = f'{prefix}-reliable'
  rest = f'{prefix}-rest'
  return [
    # SupOnly, or FixMatch: three snapshots, of which the ranking sees how stable predictions are.
    dict(name=teacher_name, num_snapshots=3, **teacher, **steps['teacher'], **common),
    # ST: all unlabeled images get labels, and a student learns from them.
    dict(name=labels, of=teacher_name, **label),
    dict(name=f'{prefix}-st', pseudo=labels, **student, **steps['last'], **common),
    # ST++: a first student learns from the stable three quarters, and labels the rest for the last.
    dict(name=ranking, run='rank', of=teacher_name, fraction=0.75, **common),
    dict(name=reliable, of=teacher_name, ranking=ranking, subset='reliable', **label),
    dict(name=first_name, pseudo=reliable, **student, **steps['first'], **common),
    dict(name=rest, of=first_name, ranking=ranking, subset='rest', **label),
    dict(name=f'{prefix}-stpp', pseudo=(reliable, rest), **student, **steps['last'], **common),
  ]


CUTMIX = dict(p=0.5, area=(0.1, 0.4))
FREE = dict(resize_long_side=SIDE, scale=(0.7, 1.5), flip=0.5, flip_vertical=0.5, rotate=180.0)
"""Geometric augmentations of our own: cells have no upright position."""

RECIPE = {
  'methods.supervised.dice': 1.0,
  'views.labeled': dict(source='labeled', **FREE),
  # The average predicts, and so writes the pseudo-labels.
  'teacher': 'ema',
  'ema_decay': 0.97,
}
"""The fields of our own recipe: Dice, rotations and a moving average."""
