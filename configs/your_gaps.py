"""Your own images with gaps in their masks: cells that nobody drew. Do they come back?

Data: a folder with images/ and masks/ (class ids, or 0 and 255) in which many things are drawn and
some are not. Two networks learn from them, label crops of the same images together, and two new
ones learn from both; what was drawn stays. --config.data.missing.share=0.3 takes more away to see
how much of it is found again. A quarter of the images is kept for the test (data.test=DIR: others,
whose masks should have no gaps, or a network that fills them is scored as wrong).
Run:  python main.py --config=configs/your_gaps.py --config.data.labeled=DIR
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import _rounds


def get_config():
  """A page, round 0 and as many later rounds as `prominence` has more numbers."""
  config = ConfigDict()
  config.update(seed=0, replicas=3, together=placeholder(bool), shuffle_unlabeled=True)
  config.update(steps=1000, snapshots=1, select='last', tensorboard=False, precision='float32')
  config.update(eval_every=500, checkpoint_every=100, log_every=10, normalize='data')
  config.data = dict(name='folder', labeled=placeholder(str), val=placeholder(str), scale=1.0)
  config.data.update(test=placeholder(str), classes=placeholder(int), holdout=0.25, seed=0)
  config.data.update(missing=dict(share=0.0, seed=0, least=16))
  config.update(batch=dict(labeled=8), views=dict(labeled=_rounds.CROP), size=128)
  config.methods = dict(supervised=dict(weight=1.0, dice=1.0, shown=('labeled',)))
  config.update(teacher='average', average=0.99)
  config.model = dict(name='prominence_unet', widths=(32, 64, 128), stem=16, dropout=0.1)
  config.optimizer = dict(name='adam', lr=3e-3, momentum=0.9, weight_decay=1e-4, clip=1.0)
  config.schedule = dict(name='cosine', warmup=20)
  knobs = dict(members=2, prominence=(0.02, 0.01), union=True, inertia=0.99)
  knobs |= dict(pairs=400, buffer=200, renew=0.02)
  config.stages = (*_rounds.first(**knobs), *_rounds.later('real', **knobs))
  return config.lock()
