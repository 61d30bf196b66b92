r"""FixMatch or another recipe on your own images: masks, a picture and a verdict out.

Data: a folder with images/ and masks/ (class ids, or 0 and 255), and a folder with images alone;
PNG, JPEG, BMP or TIFF of any size and number of channels (docs/images.md). A quarter of the labeled
images is kept for the test, unless --config.data.test=DIR (laid out like `labeled`) gives others.
README says more.
If masks hold an id for each object, add --config.data.instances=True (docs/instances.md).
What the page leaves open is chosen for your images; configuration.md in the run folder says why.
Run:  python main.py --config=configs/your_images.py \
        --config.data.labeled=DIR --config.data.unlabeled=DIR
      --config=configs/your_images.py:RECIPE has another recipe of configs/lib/recipes.py.
"""

from configs.lib import recipes
from ssl_jax import open_fields, settings

WEAK = dict(scale=(0.7, 1.4), rotate=15.0, flip=0.5, flip_vertical=0.5)


def get_config(more=''):
  """The page; any field can be set from the shell, as in --config.minutes=60.

  `more` may be a recipe, and 'minutes' (--config=configs/your_images.py:unimatch,minutes): then it
  is also compared with a control that is trained for as long. With 'curve' it also learns from
  fewer labels, by which `ssl-jax suggest` says what more would give.
  """
  asked = [word for word in more.split(',') if word not in ('minutes', 'curve')]
  recipe = recipes.of_page(','.join(asked), 'images')
  trained = recipes.stage_name(recipe)
  config = settings.defaults()

  # Data: --config.data.labeled and .unlabeled name your folders; .val, .test and .classes may.
  # For masks of other values or colors: --config.data.values='205:1, 420:2' or '#ff0000:1, ...'.
  # If several images are of one patient: --config.data.group='^(p[0-9]+)_' or FILE.csv.
  config.data = dict(name='folder', test_fraction=0.25)

  # Views: the teacher sees the weak view of an unlabeled image, the student the strong one.
  config.views = dict(
    labeled=dict(source='labeled', jitter=dict(p=0.5), **WEAK),
    weak=dict(source='unlabeled', jitter=dict(p=0.5), **WEAK),
  )
  strong = dict(source='weak', jitter=dict(p=0.8), blur=dict(p=0.5, sigma=(0.1, 2.0)))
  cutmix = dict(**strong, cutmix=dict(p=0.5, area=(0.1, 0.4)))

  # Methods: their losses are added up. The moving average of the student teaches and predicts.
  config.methods = dict(supervised=dict(weight=1.0, dice=1.0, dice_over='image'))
  of_recipe = recipes.put(config, recipe, strong, cutmix)
  config.teacher = 'ema'
  config.ema_decay = 0.99

  # Optimizer; its learning rate follows the network.
  config.optimizer.clip = 1.0
  config.schedule.name = 'cosine'

  # Chosen for your images, where you do not set them. One training takes about so many minutes.
  chosen = (
    'data.scale',
    'crop_size',
    'batch',
    'foreground_prob',
    'methods.supervised.dice_over',
    'model',
    'optimizer',
    'normalize',
    'views.labeled.jitter',
    'views.weak.jitter',
    *(f'views.{name}.jitter' for name in recipes.STRONG_VIEWS[: recipe.strong_views]),
    'steps',
    'eval_every',
    'checkpoint_every',
    *of_recipe,
  )
  open_fields.leave_open(config, chosen, minutes=20)

  # Stages: the same training without the unlabeled images, with them, and their comparison. In four
  # repetitions each labeled image is tested once.
  config.num_seeds = 4
  equal_minutes = (
    dict(name='control-minutes', control_of=trained, equal_minutes=(trained, 'control')),
    dict(
      name='verdict-minutes',
      run='compare',
      of=trained,
      against='control-minutes',
      differences=('equal_minutes',),
    ),
  )
  config.stages = (
    dict(name='control', control_of=trained),
    *(recipes.FEWER_LABELS if 'curve' in more.split(',') else ()),
    dict(name=trained),
    dict(name='verdict', run='compare', of=trained, against='control'),
    *(equal_minutes if 'minutes' in more.split(',') else ()),
    # The network that is kept, for `predict`: it learns from all labeled images.
    {'name': 'final', 'num_seeds': 1, 'data.test_fraction': 0.0},
  )
  return settings.complete(config)
