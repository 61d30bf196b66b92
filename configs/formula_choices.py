r"""Two choices that papers and codes make differently, measured: what is averaged, and which Dice.

'average': mean teacher with the moving average of parameters alone, or of batch statistics too.
'dice': the Dice loss summed over each image or over the batch, with its smoothing and squares.
Data: synthetic cells of another seed than the quickstart's, so that no reported set chooses; any
folder may take their place.
Run:  python main.py --config=configs/formula_choices.py:average
      python main.py --config=configs/formula_choices.py:dice
Figures: docs/results.md, "Choices among formulas".
"""

from ssl_jax import settings

WEAK = dict(scale=(0.8, 1.25), flip=0.5, flip_vertical=0.5)
# Name of the stage: over what the Dice loss is summed, its smoothing, squares in the denominator.
DICE = {
  'image': ('image', 1.0, False),
  'batch': ('batch', 1.0, False),
  'batch-sharp': ('batch', 1e-5, False),
  'batch-sharp-squared': ('batch', 1e-5, True),
}


def get_config(choice='average'):
  """The page of one choice; any field can be set from the shell, as in --config.steps=100."""
  config = settings.defaults()

  # Data: the seed is that of the images; the quickstart reports those of seed 0.
  config.data = dict(name='synthetic', labeled=8, unlabeled=128, test=64, size=64, seed=77)
  config.crop_size = (64, 64)

  # Network and optimizer, as in the quickstart.
  config.model = dict(name='unet', widths=(8, 16, 32, 64))
  config.optimizer.lr = 3e-3
  config.schedule.name = 'cosine'
  config.steps = 300
  config.eval_every = 300

  if choice == 'average':
    # Mean teacher: the average teaches and predicts.
    config.teacher = 'ema'
    config.ema_decay = 0.99
    config.batch = dict(labeled=8, unlabeled=8)
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
    config.methods = dict(
      supervised=dict(weight=1.0, dice=1.0),
      mean_teacher=dict(weight=10.0, ramp_up_steps=150),
    )
    config.stages = (
      dict(name='parameters', ema_batch_stats=False),
      dict(name='statistics-too', ema_batch_stats=True),
    )
    return settings.complete(config)

  # Labels alone, so that nothing but the Dice loss differs.
  config.methods = dict(supervised=dict(weight=1.0, dice=1.0))
  config.batch = dict(labeled=8)
  config.views = dict(labeled=dict(source='labeled', **WEAK))
  stages = []
  for name, (over, smooth, squared) in DICE.items():
    form = {'dice_over': over, 'dice_smooth': smooth, 'dice_squared': squared}
    fields = {f'methods.supervised.{field}': value for field, value in form.items()}
    stages.append(dict(name=name, **fields))
  config.stages = tuple(stages)
  return settings.complete(config)
