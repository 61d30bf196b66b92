"""Eight labeled volumes and 82 without: pseudo-labels, mean teacher, and what labels alone give.

Data: images/ and masks/ of the Medical Segmentation Decathlon's Task04 (hippocampus, T1 MRI). A
small U-Net from random weights; all but `teacher` have had equal updates when they are scored. An
hour on two cores.
Run:  python main.py --config=configs/hippocampus.py --config.data.labeled=FOLDER
      python -m ssl_jax.table runs/hippocampus
"""

from ml_collections.config_dict import placeholder

from configs import _volumes

CLASSES = ('background', 'anterior', 'posterior')
WEAK = dict(_volumes.TURN, rotate=15.0, scale=(0.85, 1.2))
FIRST, AFTER = 800, 400  # steps of the teacher, and of what is tuned
CONTROLS = dict(supervised='supervised', **{'mean-teacher': 'supervised'}, teacher='control')
CONTROLS |= dict(control='control', tuned1='control', tuned2='control')  # network -> its control
FIGURES = {'DSC %': 'dsc', 'NSD % within 1 mm': 'nsd'}


def get_config():
  """A page, the stages of mean teacher and of two rounds, and the cells of a table."""
  config = _volumes.page()
  config.data = dict(name='nifti', labeled=placeholder(str), labels=8, classes=CLASSES)
  config.data.update(holdout=0.25, seed=0, clip=True, cache=placeholder(str))
  config.update(steps=FIRST + AFTER, eval_every=FIRST + AFTER, checkpoint_every=100, log_every=20)
  config.update(batch=dict(labeled=2), size=(32, 48, 32), teacher='average', average=0.99)
  config.model = dict(name='nnunet', widths=(8, 16, 32, 64), residual=True, dropout=0.0)
  config.optimizer.update(lr=3e-3, clip=1.0)
  labeled = dict(of='labeled', **WEAK, **_volumes.PAINT)
  config.views = dict(labeled=labeled)
  weak, strong = dict(of='unlabeled', **WEAK), dict(of='weak', **_volumes.PAINT)
  methods = dict(supervised=_volumes.SUPERVISED, mean_teacher=dict(weight=10.0, ramp=FIRST))
  mean = dict(batch=dict(labeled=2, unlabeled=2), methods=methods)
  mean |= dict(views=dict(labeled=labeled, weak=weak, strong=strong))
  stages = [dict(name='supervised'), dict(name='mean-teacher', **mean)]
  stages.append(dict(name='teacher', steps=FIRST, eval_every=FIRST))
  knobs = dict(batch=dict(labeled=1, pseudo=1), least=200, agreement=0.9)
  stages += _volumes.rounds(2, 'teacher', AFTER, 1.5e-3, **knobs)
  stages += _volumes.organs(CONTROLS, tolerance=1.0)
  cells = []
  for row, control in CONTROLS.items():
    if row not in (control, 'teacher'):
      stages.append(dict(name=f'{row}-verdict', run='compare', of=row, against=control))
    where = dict(row=row, stage=f'{row}-organs', control=f'{control}-organs')
    cells += [dict(table='Hippocampus', column=c, figure=f, **where) for c, f in FIGURES.items()]
  config.update(stages=tuple(stages), table=tuple(cells))
  return config.lock()
