"""Are objects that are missing in the masks found? Ensembles, self-training, generated images.

Hann 2021, "Self-Training and Generative Data Augmentation". 40 % of the mitochondria are taken out
of the training masks and kept aside to be counted. Later rounds learn also from crops that the
round before labeled: of training images ('real'), or of generated images as well ('made').
Data: the folder em_vnc in --config.data.root: sections of a nerve cord.
Run:  python main.py --config=configs/gan_self_training_em.py --config.data.root=FOLDER
      python -m ssl_jax.table runs/gan_self_training_em
      --config=configs/gan_self_training_em.py:full has the paper's size of crops, for a GPU.
Time: an hour on two cores.
Score: later rounds found more of the missing mitochondria, Dice did not rise, and generated images
made it worse; not run since the interval covers labels too.
"""

from configs.lib import rounds
from ssl_jax import settings

SIZES = {
  # For two cores.
  'small': dict(
    crop_size=(128, 128),
    steps=200,
    widths=(16, 32, 64),
    stem=8,
    members=2,
    pairs=160,
    buffer=96,
    generator=(64, 48, 32, 16),
    discriminator=(8, 16, 32, 64),
    discriminators=2,
    gan_batch=8,
    gan_steps=2000,
  ),
  # For a GPU. The size of the crops is the paper's; it gives none of the other numbers.
  'full': dict(
    crop_size=(256, 256),
    steps=20_000,
    widths=(64, 128, 256),
    stem=32,
    members=5,
    pairs=4000,
    buffer=1000,
    generator=(512, 256, 128, 64, 32),
    discriminator=(32, 64, 128, 256),
    discriminators=5,
    gan_batch=16,
    gan_steps=50_000,
  ),
}


def get_config(size='small'):
  """The page of one size: round 0, a GAN, two rounds without and with generated images."""
  sizes = SIZES[size]
  config = settings.defaults()

  # As the paper: an image without mitochondria in which none are found scores 100.
  config.count_absent = True

  # Data: --config.data.root names the folder; the images are made four times smaller.
  config.data = dict(
    name='em_vnc',
    target='mitochondrion',
    val=1,
    test=4,
    scale=0.25,
    # Instances are taken out whole, and kept aside to be counted in the score.
    drop_instances=dict(fraction=0.4, seed=0, min_pixels=16),
  )
  config.batch = dict(labeled=8)
  config.crop_size = sizes['crop_size']

  # Views: crops in which enough is drawn. Later rounds add views of their own.
  prominence = (0.03, 0.02, 0.01)  # fraction of a crop that must be marked, by round
  config.views = dict(labeled=rounds.labeled_view(prominence[0]))

  # Methods: the moving average of the student predicts; the paper has none.
  config.methods = dict(supervised=dict(weight=1.0, dice=1.0, shown=('labeled',)))
  config.teacher = 'ema'
  config.ema_decay = 0.97

  # Networks and optimizer.
  config.model = dict(
    name='prominence_unet', widths=sizes['widths'], stem=sizes['stem'], dropout=0.1
  )
  config.gan = dict(
    generator=sizes['generator'],
    generator_lr_multiplier=0.2,
    discriminator=sizes['discriminator'],
    discriminators=sizes['discriminators'],
    latent=64,
    loss='non-saturating-gp',
    penalty=10.0,
  )
  config.optimizer.lr = 3e-3
  config.optimizer.clip = 1.0
  config.schedule.update(name='cosine', warmup=20)
  config.steps = sizes['steps']
  # At the end only: the last checkpoint is used.
  config.eval_every = sizes['steps']
  config.log_every = 20

  # Stages and tables.
  # The same for rounds without and with generated images, so that these are all that differs.
  later = dict(
    members=sizes['members'],
    prominence=prominence,
    pairs=sizes['pairs'],
    buffer=sizes['buffer'],
    renew=0.02,
    inertia=0.99,
  )
  config.stages = (
    *rounds.first(sizes['members']),
    *rounds.generator(sizes['gan_steps'], sizes['gan_batch'], sizes['crop_size']),
    *rounds.later('real', **later),
    *rounds.later('made', **later),
  )
  config.table = rounds.cells(len(prominence))
  return settings.complete(config)
