"""Do masks that are missing come back? Ensembles, self-training, generated images (Hann).

Folder em_vnc in --config.data.root: sections of a nerve cord. 40 % of the mitochondria are taken
out of the masks to learn from, and kept aside to be counted. Later rounds learn also from crops
that the round before labelled, 'made' ones included. An hour on two cores; `:full` needs a GPU.
Run:  python main.py --config=configs/gan_self_training_em.py[:full] --config.data.root=FOLDER
      python -m ssl_jax.table runs/gan_self_training_em
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import _rounds

SIZES = {
  'small': dict(
    **dict(size=128, steps=200, widths=(16, 32, 64), stem=8, members=2, pairs=160, buffer=96),
    **dict(painter=(64, 48, 32, 16), judge=(8, 16, 32, 64), judges=2, reals=8, play=2000),
  ),
  'full': dict(
    **dict(size=256, steps=20_000, widths=(64, 128, 256), stem=32, members=5, pairs=4000),
    **dict(painter=(512, 256, 128, 64, 32), judge=(32, 64, 128, 256), judges=5, reals=16),
    **dict(play=50_000, buffer=1000),
  ),
}


def get_config(which='small'):
  """A page of one size: round 0, a generator, two rounds without and with it, and the tables."""
  config, of = ConfigDict(), SIZES[which]
  config.update(seed=0, replicas=3, together=placeholder(bool), shuffle_unlabeled=True)
  config.update(steps=of['steps'], snapshots=1, select='last', tensorboard=False)
  config.update(eval_every=of['steps'], checkpoint_every=100, log_every=20, precision='float32')
  config.data = dict(name='em_vnc', root=placeholder(str), target='mitochondrion', val=1, test=4)
  config.data.update(scale=0.25, missing=dict(share=0.4, seed=0, least=16))
  config.update(batch=dict(labeled=8), views=dict(labeled=_rounds.CROP), size=of['size'])
  config.update(normalize='data', teacher='average', average=0.97)
  config.methods = dict(supervised=dict(weight=1.0, dice=1.0, shown=('labeled',)))
  config.model = dict(name='prominence_unet', widths=of['widths'], stem=of['stem'], dropout=0.1)
  config.optimizer = dict(name='adam', lr=3e-3, momentum=0.9, weight_decay=1e-4, clip=1.0)
  config.schedule = dict(name='cosine', warmup=20)
  config.gan = dict(generator=of['painter'], discriminator=of['judge'], discriminators=of['judges'])
  config.gan.update(latent=64, loss='non-saturating-gp', penalty=10.0, r1_weight=0.0)
  config.gan.update(clip=0.01, critics=1, generator_rate=0.2)
  knobs = {name: of[name] for name in ('members', 'pairs', 'buffer')}
  knobs |= dict(prominence=(0.03, 0.02, 0.01), renew=0.02, union=True, inertia=0.99)
  stages = [*_rounds.first(**knobs), *_rounds.generator(of['play'], of['reals'], of['size'])]
  stages += [*_rounds.later('real', **knobs), *_rounds.later('made', **knobs)]
  config.update(stages=tuple(stages), table=_rounds.cells(len(knobs['prominence'])))
  return config.lock()
