"""Which method for nuclei and cells at 10 % of the labels? All of them, on BBBC039 and PhC-U373.

Folders bbbc039 and ctc_phc_u373 in --config.data.root. A small U-Net from random weights, equal
updates, the moving average teaches and predicts, knobs not tuned. Ninety minutes on two cores.
Run:  python main.py --config=configs/methods_microscopy.py --config.data.root=FOLDER
      python -m ssl_jax.table runs/methods_microscopy
"""

from configs._microscopy import data_of, page, small_network

WEAK = dict(scale=(0.8, 1.25), rotate=180.0, flip=0.5)
SECOND = dict(of='unlabeled', **WEAK)
PAINT = dict(jitter=dict(p=0.8, brightness=0.5, contrast=0.5), blur=dict(p=0.5, sigma=(0.1, 2.0)))
PAINTED = dict(of='weak', **PAINT)
STRONG = dict(**PAINTED, cutmix=dict(p=0.5, area=(0.1, 0.4)))
TURNED = dict(of='weak', rotate=180.0, randaugment=dict(n=2, p=0.5, magnitude=(1, 9)))
RAMP = 150
METHODS = {  # name -> methods beside supervised, views beside labeled and weak
  'uda-kl': (dict(uda=dict(divergence='kl', ramp=RAMP)), dict(strong=TURNED)),
  'uda-iid': (dict(uda=dict(divergence='iid', weight=0.1, ramp=RAMP)), dict(strong=TURNED)),
  'fixmatch': (dict(fixmatch=dict(ramp=RAMP)), dict(strong=STRONG)),
  'mean-teacher': (dict(mean_teacher=dict(weight=10.0, ramp=RAMP)), dict(strong=PAINTED)),
  'mixmatch': (dict(mixmatch=dict(unlabeled=10.0, ramp=RAMP)), dict(weak2=SECOND)),
  'mixmatch-dice': (dict(mixmatch=dict(unlabeled=10.0, ramp=RAMP, dice=1.0)), dict(weak2=SECOND)),
  'unimatch': (dict(unimatch=dict(ramp=RAMP)), dict(strong=STRONG, strong2=STRONG)),
  'pseudo-label': (dict(pseudo_label=dict(ramp=RAMP)), {}),
  'entropy': (dict(entropy=dict(ramp=RAMP)), {}),
}


def get_config():
  """A page, a stage for each method and set, and the cells of a table."""
  config = small_network(page())
  config.data.percentiles = (0.1, 99.9)
  config.update(steps=400, eval_every=400, checkpoint_every=100, log_every=20, normalize='data')
  config.update(batch=dict(labeled=4, unlabeled=4), size=128, teacher='average', average=0.97)
  supervised, stages, cells = dict(supervised=dict(weight=1.0, dice=1.0)), [], []
  labeled = dict(of='labeled', **WEAK)
  config.update(methods=supervised, views=dict(labeled=labeled))
  for of in ('bbbc039', 'u373'):
    stages.append(dict(name=f'{of}-supervised', batch=dict(labeled=4), **data_of(of)))
    for name, (learnt, more) in METHODS.items():
      learnt = learnt if 'mixmatch' in learnt else supervised | learnt  # it learns labels by itself
      views = dict(labeled=labeled, weak=SECOND, **more)
      stages.append(dict(name=f'{of}-{name}', methods=learnt, views=views, **data_of(of)))
    for row in ('supervised', *METHODS):
      cell = dict(row=row, column=of, stage=f'{of}-{row}', control=f'{of}-supervised')
      cells.append(dict(table='10 % of the labels', only=f'{of}-*', **cell))
  config.update(stages=tuple(stages), table=tuple(cells))
  return config.lock()
