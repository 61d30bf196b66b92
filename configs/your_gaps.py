r"""Your own images whose masks have gaps: are the objects that nobody drew found?

Data: a folder with images/ and masks/ (class ids, or 0 and 255) in which many objects are drawn and
some are not. A quarter of the images is kept for the test, unless --config.data.test=DIR gives
others; test masks should have no gaps, or a network that fills them is scored as wrong.
--config.data.drop_instances.fraction=0.3 takes more objects out of the training masks, to measure
how many of them are found again.
Run:  python main.py --config=configs/your_gaps.py --config.data.labeled=DIR
"""

from configs.lib import rounds
from ssl_jax import settings


def get_config():
  """The page: round 0, and a later round for each further number of `prominence`."""
  config = settings.defaults()

  # Data: --config.data.labeled names your folder; .val, .test and .classes may be given.
  config.data = dict(
    name='folder', test_fraction=0.25, drop_instances=dict(fraction=0.0, seed=0, min_pixels=16)
  )
  config.batch = dict(labeled=8)
  config.crop_size = (128, 128)

  # Views: crops in which enough is drawn. Later rounds add a view of their own.
  prominence = (0.02, 0.01)  # fraction of a crop that must be marked, by round
  config.views = dict(labeled=rounds.labeled_view(prominence[0]))

  # Methods: the moving average of the student predicts.
  config.methods = dict(supervised=dict(weight=1.0, dice=1.0, shown=('labeled',)))
  config.teacher = 'ema'
  config.ema_decay = 0.99

  # Network and optimizer.
  config.model = dict(name='prominence_unet', widths=(32, 64, 128), stem=16, dropout=0.1)
  config.optimizer.lr = 3e-3
  config.optimizer.clip = 1.0
  config.schedule.update(name='cosine', warmup=20)

  # Stages: two networks learn from the masks as they are and label crops of the same images
  # together; two new ones learn from both. What was drawn stays.
  config.stages = (
    *rounds.first(members=2),
    *rounds.later(
      'real', members=2, prominence=prominence, pairs=400, buffer=200, renew=0.02, inertia=0.99
    ),
  )
  return settings.complete(config)
