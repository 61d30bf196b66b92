"""What would a good engineer change in the paper's FixMatch? Its knobs one by one, then together.

Zheng 1 at 15 labels, the network of wbc_study.py. 'fixmatch' is the paper's: unlabeled images in
the order of their list, padding counted as pixels. Half an hour on two cores.
Run:  python main.py --config=configs/fixmatch_knobs.py; python -m ssl_jax.table runs/fixmatch_knobs
"""

from configs import fixmatch_zheng1
from configs._wbc_small import AVERAGE, CUTMIX, FREE, small_network

WEAK = fixmatch_zheng1.fixmatch_lisc.WEAK


def get_config():
  """The page of Zheng 1 with a small network and one stage for each knob."""
  config = fixmatch_zheng1.get_config().unlock()
  small_network(config)
  config.update(size=96, steps=300, eval_every=300, shuffle_unlabeled=False)
  config.data.labeled, config.batch = 15, dict(labeled=4, unlabeled=4)
  config.methods.supervised.update(dice=0.0)
  config.methods.fixmatch.update(all_pixels=True, ramp=0)
  paint = {knob: v for knob, v in config.views.strong.to_dict().items() if knob != 'of'}

  def views(weak, **strong):
    unlabeled = dict(weak=dict(of='unlabeled', **weak), strong=dict(of='weak', **strong))
    return dict(views=dict(labeled=dict(of='labeled', **weak), **unlabeled))

  one = {
    'shuffled': {'shuffle_unlabeled': True},
    'valid-pixels': {'methods.fixmatch.all_pixels': False},
    'cutmix': views(WEAK, **paint, cutmix=CUTMIX),
    'no-colours': views(WEAK, cutout=paint['cutout']),
    'average': AVERAGE,
    'ramp': {'methods.fixmatch.ramp': 150},
    'dice': {'methods.supervised.dice': 1.0},
    'rotations': views(FREE, **paint),
  }
  every = {field: value for knob in one.values() for field, value in knob.items()}
  every |= views(FREE, cutmix=CUTMIX)
  dice = dict(methods=dict(supervised=dict(dice=1.0)))
  knobs = {'control': dict(methods=dict(supervised=dict())), 'fixmatch': {}, **one, 'all': every}
  knobs['all-control'] = AVERAGE | views(FREE) | dice
  pairs = [(name, 'fixmatch', 'to the paper') for name in (*one, 'all')]
  pairs += [('fixmatch', 'control', 'to a control'), ('all', 'all-control', 'to a control')]
  config.table = tuple(
    dict(table='Zheng 1, 15 labels', row=name, column=column, stage=name, control=control)
    for name, control, column in pairs
  )
  config.stages = tuple(dict(name=name, **knob) for name, knob in knobs.items())
  return config.lock()
