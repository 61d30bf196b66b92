"""What the pages of marked cells share: patches of 41 pixels, HydraMix-Net and its control."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

TURNED = dict(rotate=180.0, flip=0.5)  # and moved by up to data.jitter pixels
MU = 0.7  # ours, as are delta and rho: the paper says above one half, and which is the larger
# Ours too: the reverse part is up to 9.2 (minus the log of clip), and at 1 it drowns the labels.
HYDRAMIX = dict(temperature=0.5, alpha=0.75, mu=MU, weight=1.0, unlabeled=0.05, ramp=0)
HYDRAMIX |= dict(symmetric=True, delta=(1.0, 0.1), rho=(0.1, 1.0), clip=1e-4)
CONTROL = dict(  # the same network on the same labels alone
  methods=dict(supervised=dict(weight=MU), centroids=dict(weight=1 - MU)),
  views=dict(labeled=dict(of='labeled', **TURNED)),
  batch=dict(labeled=32),
)


def page():
  """A page without data and stages."""
  config = ConfigDict()
  config.update(seed=0, replicas=3, together=placeholder(bool), shuffle_unlabeled=True)
  config.update(steps=10_000, snapshots=1, select='last')
  config.update(eval_every=1000, checkpoint_every=500, log_every=20, tensorboard=False)
  config.update(batch=dict(labeled=32, unlabeled=32), size=41, normalize='data')
  unlabeled = dict(of='unlabeled')
  config.views = dict(labeled=dict(of='labeled', **TURNED), plain=unlabeled)
  config.views.update(weak=unlabeled | TURNED, weak2=unlabeled | TURNED)
  config.methods = dict(hydramix=HYDRAMIX)
  config.update(teacher='student', average=0.0, precision='float32')
  config.model = dict(name='hydra', depth=28, width=2, classify=(128, 64, 32), locate=(128, 32))
  config.optimizer = dict(name='adam', lr=1e-3, momentum=0.9, weight_decay=1e-4, clip=0.0)
  config.schedule = dict(name='cosine', warmup=0, end=0.01)
  return config
