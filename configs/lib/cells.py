"""What the pages of marked cells share: HydraMix-Net on patches of 41 pixels.

Bashir et al. 2020, "HydraMix-Net: A Deep Multi-task Semi-supervised Learning Approach for Cell
Detection and Classification".
"""

from ssl_jax import settings

FREE = dict(rotate=180.0, flip=0.5)  # cells have no upright position


def page():
  """A page without data and stages."""
  config = settings.defaults()

  # Views: two weak ones of an unlabeled patch, whose predictions are averaged into its class; its
  # centroid is predicted from the plain one.
  config.batch = dict(labeled=32, unlabeled=32)
  config.crop_size = (41, 41)
  config.views = dict(
    labeled=dict(source='labeled', **FREE),
    plain=dict(source='unlabeled'),
    weak=dict(source='unlabeled', **FREE),
    weak2=dict(source='unlabeled', **FREE),
  )

  # Methods. These numbers are ours: of mu the paper says only that it is above one half, and of
  # delta and rho which is the larger. Temperature and alpha are MixMatch's, and the clips are those
  # of the symmetric cross-entropy's authors. lambda_u is ours too: the paper's equation 5 adds the
  # unlabeled losses with the weight 1, but reverse cross-entropy is up to 9.2 (minus the log of
  # target_clip), and so drowns the labels.
  config.methods = dict(
    hydramix=dict(
      temperature=0.5,
      alpha=0.75,
      mu=0.7,
      weight=1.0,
      lambda_u=0.05,
      ramp_up_steps=0,
      symmetric=True,
      delta=(1.0, 0.1),
      rho=(0.1, 1.0),
      prediction_clip=1e-7,
      target_clip=1e-4,
    )
  )

  # Network and optimizer. The paper says no more than "WideResNet", so it is the published one, of
  # Zagoruyko & Komodakis; variant='mixmatch' is that of MixMatch's code, with as many parameters.
  config.model = dict(name='hydra', depth=28, width=2, classify=(128, 64, 32), locate=(128, 32))
  config.schedule.update(name='cosine', end=0.01)
  config.steps = 10_000
  config.eval_every = 1000
  config.checkpoint_every = 500
  config.log_every = 20
  return config
