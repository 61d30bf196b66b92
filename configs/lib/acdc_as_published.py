"""Network, optimizer, views and losses of ACDC as papers have them, UniMatch above all."""

# The papers turn by quarters and flip, or rotate; here a view may have both.
WEAK = dict(rotate=20.0, rotate_p=0.5, quarter_turns=0.5, flip=0.5, flip_vertical=0.5)
STRONG = dict(
  source='weak',
  jitter=dict(p=0.8, brightness=0.5, contrast=0.5),
  blur=dict(p=0.5, sigma=(0.1, 2.0)),
  cutmix=dict(p=0.5, area=(0.02, 0.4), ratio=(0.3, 1 / 0.3)),
)
DICE = dict(dice=1.0, dice_smooth=1e-5, dice_squared=True, dice_over='batch')
# As UniMatch on medical images: from confident pixels, with batch statistics of strong views apart.
CONFIDENT = dict(weight=0.25, dice=1.0, own_statistics=True)
"""Half of the loss is on labels and half on the rest, each half cross-entropy and Dice in half."""


def use(config):
  """Puts the papers' settings into a page; returns the fields of the control and of the methods."""
  config.batch = dict(labeled=12)
  labeled = dict(source='labeled', **WEAK)
  config.views = dict(labeled=labeled)
  config.methods = dict(supervised=dict(weight=0.25, **DICE))
  # As in UniMatch, the student teaches itself as it learns, with the statistics of its batch.
  config.teacher = 'student'
  config.teacher_mode = 'train'

  # Their rate is for weights that begin as those of torch.
  dropout = (0.05, 0.1, 0.2, 0.3, 0.5)
  config.model = dict(name='unet', widths=(16, 32, 64, 128, 256), dropout=dropout)
  config.model.update(kernel_init='torch_uniform', upsampling='bilinear', head_size=3)
  config.model.negative_slope = 0.01
  config.optimizer.update(name='sgd', lr=0.01, momentum=0.9, weight_decay=1e-4)
  config.schedule.name = 'poly'

  # For an accelerator.
  config.precision = 'bfloat16'
  config.steps_per_call = 50
  config.checkpoint_every = 1000

  unlabeled = {'batch.unlabeled': 12, 'views.weak': dict(source='unlabeled', **WEAK)}
  methods = {
    'fixmatch': {
      'methods.fixmatch': CONFIDENT,
      'views.strong': STRONG,
      **unlabeled,
    },
    'unimatch': {
      'methods.unimatch': CONFIDENT,
      'views.strong': STRONG,
      'views.strong2': STRONG,
      **unlabeled,
    },
  }
  # All images of a step have labels, and all of the loss is on them.
  control = {'batch.labeled': 24, 'methods.supervised.weight': 0.5}
  return control, methods
