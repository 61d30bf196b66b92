"""What the microscopy pages share: data sets, published figures, and two networks."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

SETS = {  # as fields of config.data that a stage replaces
  'bbbc039': {'name': 'bbbc039', 'set': None},
  'u373': {'name': 'ctc', 'set': 'ctc_phc_u373'},
  'gfp': {'name': 'ctc', 'set': 'ctc_fluo_gfp'},
}
TABLE_S1 = {  # at 10, 25, 50 % of the labels: P1, P2, P3, P4
  'u373': (
    (94.10, 93.80, 88.41, 92.52),
    (92.95, 94.16, 93.03, 86.35),
    (93.58, 91.92, 94.36, 94.18),
  ),
  'gfp': ((87.77, 87.88, 87.27, 83.64), (91.89, 85.25, 93.08, 84.82), (92.81, 88.44, 91.50, 90.83)),
  'bbbc039': ((92.73, 92.73, 95.16, 93.5), (94.27, 90.43, 93.4, 93.4), (93.77, 89.3, 93.43, 81.14)),
}
MINMAX = (0, 100)  # percentiles of raw values that become 0 and 1


def page():
  """A page without methods, views, model and stages."""
  config = ConfigDict()
  config.update(seed=0, replicas=3, together=placeholder(bool), shuffle_unlabeled=True)
  config.update(snapshots=1, select='last', tensorboard=False, precision='float32')
  config.data = dict(root=placeholder(str), labeled=0.1, val=0.0, seed=0, percentiles=MINMAX)
  config.data.update(SETS['bbbc039'])
  return config


def data_of(which):
  """The fields of a stage that put another data set into the page."""
  return {f'data.{knob}': value for knob, value in SETS[which].items()}


def small_network(config):
  """Puts a U-Net of 1.0 million parameters, and what trains it in few steps, into a page."""
  config.model = dict(name='unet', widths=(8, 16, 32, 64, 256), norm='group', dropout=0.0)
  config.optimizer = dict(name='adam', lr=0.01, momentum=0.9, weight_decay=1e-4, clip=1.0)
  config.schedule = dict(name='cosine', warmup=40)
  return config


def published_network(config, **optimizer):
  """Puts the first published U-Net (31 million parameters) into a page."""
  config.model = dict(name='unet', widths=(64, 128, 256, 512, 1024), norm='none', dropout=0.0)
  config.optimizer = dict(momentum=0.9, weight_decay=0.0, clip=0.0) | optimizer
  return config
